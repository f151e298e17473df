"""Specs and statuses that were read as their models before: a JSON value of the store never changes in place, so that
the same value is the same model."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from schemas.base import Model

M = TypeVar("M", bound=Model)

_MOST = 4_000
_known: dict[tuple[type[Model], int], tuple[dict[str, Any], Model]] = {}


def parsed(model: type[M], wire: dict[str, Any]) -> M:
    """``model.model_validate(wire)``, remembered for as long as ``wire`` may be asked about again. Only for values
    that nobody changes (``Resource.spec``, ``Resource.status``). Raises ValidationError. Safe between threads."""
    key = (model, id(wire))
    found = _known.get(key)
    # The value is kept beside its model, so that its id is nobody else's while it stands here.
    if found is not None and found[0] is wire:
        return cast(M, found[1])
    made = model.model_validate(wire)
    if len(_known) >= _MOST:
        _known.clear()
    _known[key] = (wire, made)
    return made
