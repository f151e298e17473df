"""Which columns of tables are shown, and how close their rows stand: both are in the address, so a link keeps them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from api.dashboard import links
from api.dashboard.facts.shapes import Column, Tab
from api.dashboard.facts.view import View

_MOST = 20
_SLUG = re.compile(r"[^a-z0-9]+")


def slug(name: str) -> str:
    """A heading as it stands in an address."""
    return _SLUG.sub("-", name.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Columns:
    """``hidden`` are headings by their slug; ``cozy`` rows have more room. Without a path nothing can be chosen."""

    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    cozy: bool = False
    namespace: str = ""
    """What the page is narrowed to."""

    @classmethod
    def of(cls, view: View) -> Columns:
        """As the address has it."""
        hidden = frozenset(filter(None, map(slug, view.query.get("hide", "").split(",")[:_MOST])))
        return cls(view.path, dict(view.query), hidden, view.query.get("density") == "cozy", view.namespace or "")

    def shows(self, column: Column) -> bool:
        """Whether a column is there. The one that says what a row is about always is."""
        return column.main or slug(column.name) not in self.hidden

    def choices(self, columns: Sequence[Column]) -> list[Tab]:
        """A link for each column that can go: it takes it away, or brings it back."""
        found = []
        for column in columns:
            name = slug(column.name)
            if column.main or not name:
                continue
            there = name not in self.hidden
            rest = sorted(self.hidden ^ {name})
            found.append(Tab(column.name, self._with("hide", ",".join(rest)), there))
        return found

    @property
    def other_density(self) -> Tab:
        """The link that gives rows more room, or takes it."""
        return Tab(
            "Close rows" if self.cozy else "More room", self._with("density", "" if self.cozy else "cozy"), False
        )

    def _with(self, name: str, value: str) -> str:
        return links.query(self.path, {**{k: v for k, v in self.query.items() if k != name}, name: value})
