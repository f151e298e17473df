"""Edits one field of a YAML file and leaves every other line as it is, byte for byte.

ruamel.yaml tells the extent of each node and writes the new fragment in the style of the old one; the fragment is then
spliced into the text. Writing the whole document back through ruamel.yaml would keep comments too, but rewrites
indentation, line ends and long lines of a file that belongs to somebody else. After every splice the loader reads the
file again: the result is the old values with the one change, or the edit is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controllers.sources import yaml
from controllers.sources.edit_layout import Layout, NotEditable
from controllers.sources.edit_splice import Append, Delete, Insert, Path, Replace
from controllers.sources.findings import field_path
from schemas.errors import InvalidSpec, Refused

_BOM = "\ufeff"
_MAX_STEPS = 200


def set_value(text: str, document: int, path: Path, value: Any, *, name: str = "<text>") -> str:
    """``text`` with ``value`` at ``path`` of the document with that ``index`` (see ``yaml.Document``).

    Missing mappings on the way are made; the index after a list's last item extends the list. Of a mapping or list
    that is there already only what differs is touched. Quotes, comments and line ends stay. Returns ``text`` itself
    when the value is there already. ``name`` names the file in errors. Raises InvalidSpec when ``text`` cannot be
    read, and Refused (reason EditUnsafe) when the change cannot be made without touching more: a person edits then.
    """
    return _edit(text, document, path, name, lambda old: _with(old, path, value))


def delete_value(text: str, document: int, path: Path, *, name: str = "<text>") -> str:
    """``text`` without the field or item at ``path``; ``text`` itself when there is none. A mapping or list that
    loses its last entry stays, empty. Raises as ``set_value`` does."""
    return _edit(text, document, path, name, lambda old: _without(old, path))


def _edit(text: str, document: int, path: Path, name: str, change: Callable[[Any], Any]) -> str:
    mark = _BOM if text.startswith(_BOM) else ""
    result = text.removeprefix(_BOM)
    before = _load(result, name)
    try:
        wanted = change(_document(before, document).value)
        for _ in range(_MAX_STEPS):
            current = _load(result, name)
            found = _document(current, document)
            step = _first_difference(found.value, wanted, ())
            if step is None:
                _refuse_side_effects(before, current, document)
                return mark + result
            offset = _line_offset(result, found.line)
            result = step.splice(Layout(result, offset))
        raise NotEditable("it takes too many changes")
    except (NotEditable, InvalidSpec) as error:
        reason = str(error).splitlines()[0]
        raise Refused(
            f"{name}: {field_path(path)} was not edited: {reason}. Edit the file by hand.",
            reason="EditUnsafe",
        ) from error


def _load(text: str, name: str) -> yaml.LoadResult:
    result = yaml.load(text.encode(errors="surrogatepass"), path=name)
    if result.diagnostics:
        raise InvalidSpec(result.diagnostics)
    return result


def _document(result: yaml.LoadResult, index: int) -> yaml.Document:
    found = next((document for document in result.documents if document.index == index), None)
    if found is None:
        raise NotEditable(f"there is no document {index + 1} with content")
    return found


def _refuse_side_effects(before: yaml.LoadResult, after: yaml.LoadResult, document: int) -> None:
    others = [
        {found.index: found.value for found in result.documents if found.index != document}
        for result in (before, after)
    ]
    if others[0].keys() != others[1].keys() or not all(
        _same(others[0][index], others[1][index]) for index in others[0]
    ):
        raise NotEditable("another document would change")


def _line_offset(text: str, line: int) -> int:
    offset = 0
    for _ in range(line - 1):
        offset = text.index("\n", offset) + 1
    return offset


def _with(old: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(old, dict) and isinstance(part, str):
        return {**old, part: _with(old.get(part), rest, value)}
    if isinstance(old, list) and isinstance(part, int) and 0 <= part <= len(old):
        inner = _with(old[part] if part < len(old) else None, rest, value)
        return [*old[:part], inner, *old[part + 1 :]]
    if old is None and isinstance(part, str):
        return {part: _with(None, rest, value)}
    raise NotEditable(f"{part!r} names nothing inside {type(old).__name__}")


def _without(old: Any, path: Path) -> Any:
    if not path:
        raise NotEditable("the whole document would go")
    part, rest = path[0], path[1:]
    if isinstance(old, dict) and part in old:
        kept = {key: inner for key, inner in old.items() if key != part}
        return kept if not rest else {**old, part: _without(old[part], rest)}
    if isinstance(old, list) and isinstance(part, int) and 0 <= part < len(old):
        return [*old[:part], *([_without(old[part], rest)] if rest else []), *old[part + 1 :]]
    return old


def _same(one: Any, other: Any) -> bool:
    """Equal in value and type: 1, 1.0 and true differ."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _first_difference(old: Any, new: Any, path: Path) -> Replace | Insert | Append | Delete | None:
    """The next single change that brings ``old`` nearer to ``new``; None when they are the same."""
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        return _mapping_difference(old, new, path)
    if isinstance(old, list) and isinstance(new, list) and new:
        return _list_difference(old, new, path)
    if isinstance(old, dict) and not old and isinstance(new, dict) and new:
        key, value = next(iter(new.items()))
        return Insert(path, key, value)
    return None if _same(old, new) else Replace(path, new)


def _mapping_difference(
    old: dict[str, Any], new: dict[str, Any], path: Path
) -> Replace | Insert | Append | Delete | None:
    for key, value in new.items():
        # Fields are added before others are deleted, so that a mapping does not become empty on the way.
        if key not in old:
            return Insert(path, key, value)
        step = _first_difference(old[key], value, (*path, key))
        if step is not None:
            return step
    return next((Delete((*path, key)) for key in old if key not in new), None)


def _list_difference(old: list[Any], new: list[Any], path: Path) -> Replace | Insert | Append | Delete | None:
    changed = [number for number, (one, other) in enumerate(zip(old, new, strict=False)) if not _same(one, other)]
    if len(old) == len(new):
        return _first_difference(old[changed[0]], new[changed[0]], (*path, changed[0])) if changed else None
    if len(new) > len(old):
        return Append(path, new[len(old)]) if not changed else Replace(path, new)
    gone = changed[0] if changed else len(new)
    return Delete((*path, gone)) if _same([*old[:gone], *old[gone + 1 :]], new) else Replace(path, new)
