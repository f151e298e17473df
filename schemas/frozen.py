"""Frozen dataclasses of which there are ten thousands.

The ``__init__`` of a frozen dataclass goes past its own ``__setattr__`` once for each field, which is three quarters of
the time that it takes to make an object of eighteen.
"""

from __future__ import annotations

import functools
from dataclasses import field, fields, make_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """Make objects of a frozen dataclass with slots in a fraction of the time. Nothing else about it changes.

    An object is filled while it belongs to a twin of its class, of the same slots, that is not frozen: nobody has
    seen it by then. The class may have no ``__post_init__``; a subclass is made as it would be without this.
    """
    twin: Any = make_dataclass(
        cls.__name__,
        [(f.name, Any, field(default=f.default, default_factory=f.default_factory)) for f in fields(cls)],  # type: ignore[arg-type]
        eq=False, repr=False, slots=True,
    )  # fmt: skip
    plain, fill, change = cls.__init__, twin.__init__, object.__setattr__

    @functools.wraps(plain)
    def init(self: Any, *values: Any, **named: Any) -> None:
        if self.__class__ is not cls:
            plain(self, *values, **named)
            return
        change(self, "__class__", twin)
        fill(self, *values, **named)
        self.__class__ = cls

    cls.__init__ = init  # type: ignore[method-assign]
    return cls
