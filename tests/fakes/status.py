"""The writer of status branches beside a `World`, driven by hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from random import Random

from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.clock import SystemClock
from controllers.sources.git_status import MARKER
from controllers.status.push import PUSH, PushEffects
from controllers.status.writer import StatusWriter
from schemas.errors import Retry
from schemas.resource import SYSTEM
from tests.fakes.repos import Repo
from tests.fakes.world import World

BRANCH = "remit/status"


class WorldClock(SystemClock):
    """The clock of a world: it stands still until the test moves it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        return self._world.clock()

    def monotonic(self) -> float:  # type: ignore[override]
        return self._world.clock().timestamp()


class Desk:
    """Writes the status of a world's source. ``repo`` is where the branch is looked at."""

    def __init__(self, world: World, repo: Repo | None = None, branch: str = BRANCH) -> None:
        self.world = world
        self.repo = repo or world.repo
        self.branch = branch
        self.restart()

    def restart(self) -> None:
        """The engine dies and comes back."""
        clock = WorldClock(self.world)
        self.cache = self.world.folder / "status"
        self.writer = StatusWriter(
            self.world.store, project=self.world.folder, cache=self.cache, clock=clock, blocking=InlineBlocking(),
            random=Random(1),
        )  # fmt: skip
        self.pushes = PushEffects(
            self.world.store, project=self.world.folder, cache=self.cache, blocking=InlineBlocking(),
            look_again=self.writer.look_again,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the repositories."""
        self.writer.close()

    async def rest(self, seconds: float = 15.0) -> int:
        """Let time pass until whatever waited is written and pushed; how many commits that took."""
        before = self.writer.commits
        for _ in range(max(1, round(seconds))):
            self.world.settle()
            self.writer.pass_once()
            await self.deliver()
            self.world.clock.tick(1.0)
        self.world.settle()
        return self.writer.commits - before

    async def deliver(self) -> list[str]:
        """Carry out the pushes that are due; what went wrong with those that were not done."""
        with self.world.store.transaction(SYSTEM) as tx:
            claimed = tx.claim_effects("desk", types=[PUSH], limit=10, lease_s=60)
        problems = []
        for effect in claimed:
            try:
                commit = await self.pushes.push(effect)
            except Retry as error:
                problems.append(str(error))
                with self.world.store.transaction(SYSTEM) as tx:
                    tx.fail_effect(effect, str(error), retry_at=tx.now)
                continue
            with self.world.store.transaction(SYSTEM) as tx:
                tx.finish_effect(effect)
                if commit is not None:
                    commit(tx)
        return problems

    # Looking.

    def git(self, *arguments: str) -> str:
        return self.repo.git(*arguments)

    @property
    def tip(self) -> str:
        """The commit of the status branch; "" while there is none."""
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{self.branch}").strip()

    def files(self, revision: str = "") -> dict[str, str]:
        """What the branch holds, by path, without the page that explains it."""
        revision = revision or self.tip
        names = self.git("ls-tree", "-r", "-z", "--name-only", revision).split("\0")
        return {n: self.git("show", f"{revision}:{n}") for n in names if n and n != MARKER}

    def log(self) -> list[str]:
        """Subjects, newest first."""
        return self.git("log", "--format=%s", self.tip).splitlines()


def work_tree_state(path: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a checkout and of its index, with when it was written."""
    found = {}
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path).parts
        if file.is_file() and (inside[0] != ".git" or inside[1:] in (("index",), ("HEAD",))):
            found["/".join(inside)] = (file.stat().st_mtime_ns, file.read_bytes())
    return found
