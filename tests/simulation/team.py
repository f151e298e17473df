"""A second repository that the same engine follows: its missions work with the agents of the first, and now and then it
declares what belongs to that."""

from __future__ import annotations

from random import Random

from schemas.base import Key
from tests.fakes.memory_source import MemorySource
from tests.fakes.world import mission
from tests.simulation.people import AGENTS, BROKEN

TEAM = Key("Source", "default", "team")
PROJECT = "apiVersion: remit.dev/v1alpha1\nkind: Project\nmetadata: {name: team}\nspec: {displayName: Team}\n"


class Team:
    """Draws from ``random`` what it commits next; each commit says what it was, in a few words."""

    def __init__(self, random: Random, source: MemorySource) -> None:
        self._random = random
        self._source = source
        self._numbers = 0
        self._texts: dict[str, str] = {}
        self.broken = False
        self._add()

    def commit(self, others: list[str]) -> str:
        """Change something and commit it; ``others`` are missions of the first repository."""
        dice = self._random.random()
        if dice < 0.45 or not self._texts:
            return self._add()
        if dice < 0.6:
            name = self._random.choice(sorted(self._texts))
            del self._texts[name]
            return self._commit(f"remove {name}")
        if dice < 0.65:
            self._texts = {}
            return self._commit("remove everything")
        if dice < 0.8 and others:
            name = self._random.choice(others)
            self._texts[f"taken-{name}"] = mission(name, agent=None, title="mine")
            return self._commit(f"declare {name}, which is another's")
        if dice < 0.9:
            self.broken = not self.broken
            return self._commit("broken" if self.broken else "mended")
        name = self._random.choice(sorted(self._texts))
        if not name.startswith("taken-"):
            self._numbers += 1
            self._texts[name] = mission(name, agent=None, title=f"edit {self._numbers}")
        return self._commit(f"edit {name}")

    def mend(self) -> None:
        """The last commit is good, and declares what is its own."""
        self.broken = False
        self._texts = {name: text for name, text in self._texts.items() if not name.startswith("taken-")}
        self._commit("good")

    def _add(self) -> str:
        self._numbers += 1
        name = f"t{self._numbers}"
        self._texts[name] = mission(name, agent=self._random.choice([*AGENTS, None]))
        return self._commit(f"add {name}")

    def _commit(self, what: str) -> str:
        files = {f"{name}.yaml": text for name, text in self._texts.items()}
        files["project.yaml"] = PROJECT
        if self.broken:
            files["bad.yaml"] = BROKEN
        self._source.commit(files)
        return f"the team: {what}"
