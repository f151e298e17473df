"""The shapes that facts are handed to templates in: tables, groups of facts, texts, and the panel that tells how to
act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from api.dashboard.links import Out
from api.dashboard.marks import Mark


@dataclass(frozen=True, slots=True)
class Bar:
    """A share, drawn. ``share`` is 0..1 and may be beyond; ``warn`` where it wants attention."""

    share: float
    label: str
    warn: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. Of ``mark``, ``text`` and ``at`` those that are there are shown, in this order. ``note`` is a second,
    quieter line. ``spark`` is one figure for each of the last 24 hours; a ``command`` stands alone, to be copied.
    ``ranges`` of ``text`` are what was searched for."""

    text: str = ""
    href: str = ""
    mark: Mark | None = None
    at: datetime | None = None
    mono: bool = False
    note: str = ""
    bar: Bar | None = None
    spark: tuple[float, ...] = ()
    command: str = ""
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A heading. ``wide`` columns are left out on narrow screens; ``number`` ones stand to the right."""

    name: str
    number: bool = False
    wide: bool = False
    main: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """``id`` is stable between two looks, so that the page knows what changed."""

    id: str
    cells: tuple[Cell, ...]
    attention: bool = False


@dataclass(frozen=True, slots=True)
class Empty:
    """Says what would stand here, and one thing to do."""

    text: str
    command: str = ""
    href: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a list. ``more`` leads to the next page of it."""

    id: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    empty: Empty
    title: str = ""
    more: str = ""
    more_text: str = "Next page"
    note: str = ""
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what stands behind it."""

    name: str
    value: Cell
    out: Out | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A text of several lines, shown as it is. ``hidden`` characters are not shown. ``numbered`` lines have numbers,
    ``anchored`` ones addresses too, ``#L1``. ``file`` is where more of it can be loaded down."""

    id: str
    title: str
    body: str
    hidden: int = 0
    open: bool = True
    numbered: bool = False
    anchored: bool = False
    note: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a person can do: a command to copy, a link, or words. Exactly one of the three."""

    command: str = ""
    out: Out | None = None
    note: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Acts:
    """A group of the Act panel; ``folded`` until somebody opens it."""

    title: str
    acts: tuple[Act, ...]
    folded: bool = False


def acts(title: str, *found: Act, folded: bool = False) -> list[Acts]:
    """The group, without what could not be built; nothing when nothing is left."""
    kept = tuple(a for a in found if a.command or a.out is not None or a.note)
    return [Acts(title, kept, folded)] if kept else []


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing made on the server, with the same as a table for who cannot see it. ``svg`` is safe HTML."""

    id: str
    title: str
    svg: str
    twin: Table
    note: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an object does not move: since when, until when, and what a person can do."""

    mark: Mark
    what: str
    since: datetime | None = None
    until: datetime | None = None
    hint: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """An object told in full. ``main`` and ``side`` are sections from top to bottom."""

    title: str
    crumbs: tuple[tuple[str, str], ...]
    facts: tuple[Fact, ...]
    marks: tuple[Mark, ...] = ()
    waits: tuple[Wait, ...] = ()
    main: tuple[Table | Text | Chart, ...] = ()
    side: tuple[Table | Text | Chart, ...] = ()
    acts: tuple[Acts, ...] = ()
    lead: str = ""
    uid: str = ""
    json: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter of a list: a form field with its values."""

    name: str
    label: str
    value: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Tab:
    """One of several views of a page."""

    text: str
    href: str
    current: bool
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of tables, charts and texts. ``files`` hold the same, to be kept."""

    title: str
    parts: tuple[Table | Text | Chart, ...]
    lead: str = ""
    choices: tuple[Choice, ...] = ()
    tabs: tuple[Tab, ...] = ()
    acts: tuple[Acts, ...] = ()
    tiles: tuple[Tile, ...] = field(default=())
    files: tuple[Tab, ...] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure. With ``attention`` it stands out."""

    name: str
    value: str
    href: str
    mark: Mark
    attention: bool = False
    bar: Bar | None = None
    note: str = ""


def cells(*found: Cell) -> tuple[Cell, ...]:
    """The cells of a row."""
    return tuple(found)


def columns(*names: str) -> tuple[Column, ...]:
    """Headings from short texts: ``Cost#`` is a number, ``Team~`` is left out on narrow screens, ``Title*`` takes the
    room that is left."""
    return tuple(Column(n.rstrip("#~*"), number="#" in n, wide="~" in n, main="*" in n) for n in names)


Part = Table | Text | Chart
Parts = Sequence[Part]
