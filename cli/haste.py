"""What makes a short command start and end fast: no garbage collection while it loads, nothing of the standard library
loaded that its libraries name and it never uses, and no last search for garbage before the process ends."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

BRIEF = frozenset({"validate", "explain", "schema", "--help", "-h", "--version"})
"""First words of commands that start no thread and end soon, whatever they are given."""

LASTING = frozenset({"run"})
"""First words of commands that load much and then last: they call ``settled`` when they have loaded it."""

_UNUSED = ("secrets", "subprocess", "platform", "importlib.metadata")


def begin(words: Sequence[str]) -> None:
    """To be called before anything else is imported; ``words`` are the arguments of the command."""
    # Searching every installed package for plugins of pydantic takes longer than most verbs, and Remit uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    first = words[0] if words else "--help"
    if first in BRIEF or first in LASTING:
        gc.disable()
    if first in BRIEF:
        for name in _UNUSED:
            if name not in sys.modules:
                sys.modules[name] = Later(name)


def settled() -> None:
    """To be called by a command that lasts: from here on garbage is collected, and what was loaded is not looked
    through each time."""
    gc.freeze()
    gc.enable()


def end() -> None:
    """To be called when only the end of the process is left: what it held is not looked through once more."""
    gc.freeze()


class Later(ModuleType):
    """Stands for a module until something in it is asked for, and goes on to pass it on. Not for threads."""

    def __getattr__(self, name: str) -> Any:
        """As the module has it."""
        if name == "__path__":  # asked for by every `from module import`; nobody imports what is below these modules
            raise AttributeError(name)
        if name == "entry_points":  # pydantic imports it by name, and does not call it
            return self._entry_points
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)

    def _entry_points(self, **params: Any) -> Any:
        return self._real().entry_points(**params)
