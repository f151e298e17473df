"""Change hints from the real file system, for directories and for refs of a local repository."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.runtime.clock import SystemClock
from controllers.sources import ref_notice, watch
from controllers.sources.git_status import StatusBranch
from tests.fakes.repos import Repo

LONG_S = 60.0


class Hints:
    """Counts hints and lets a test wait for one more."""

    def __init__(self) -> None:
        self.count = 0
        self._came = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._came.set()

    async def after(self, change: Callable[[], object], within_s: float = 60.0) -> None:
        """Make a change and wait for a hint that comes after it."""
        self._came.clear()
        change()
        await asyncio.wait_for(self._came.wait(), within_s)

    async def none_after(self, change: Callable[[int], object]) -> None:
        """A change causes no hint. One of an earlier change may come late: then it is tried again, a few times."""
        for number in range(5):
            before = await self.settled()
            change(number)
            if await self.settled() == before:
                return
        pytest.fail("what is no news was hinted at, over and over")

    async def settled(self) -> int:
        """The count once nothing came for a while."""
        while True:
            before = self.count
            try:
                self._came.clear()
                await asyncio.wait_for(self._came.wait(), 0.3)
            except TimeoutError:
                if self.count == before:
                    return before


@asynccontextmanager
async def watching(places: watch.Places, poll_s: float = 60.0) -> AsyncIterator[Hints]:
    hints, stop = Hints(), asyncio.Event()
    task = asyncio.create_task(watch.watch(places, hints, clock=SystemClock(), stop=stop, poll_s=poll_s))
    try:
        yield hints
    finally:
        stop.set()
        await asyncio.wait_for(task, LONG_S)


async def warm(hints: Hints, places: watch.Places) -> None:
    """Wait until the watchers are up: the second hint of a start says so."""
    expected = 1 + 1 + (1 if places.flat else 0)
    while hints.count < expected:
        await hints.after(lambda: None)
    await hints.settled()


@pytest.mark.asyncio
async def test_changes_of_a_directory_are_hinted_at_and_hidden_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / ".remit").mkdir()
    places = watch.directory_places(tmp_path)
    async with watching(places) as hints:
        await warm(hints, places)
        await hints.after(lambda: (tmp_path / "a.yaml").write_text("1"))
        await hints.settled()
        await hints.after(lambda: (tmp_path / "a.yaml").write_text("2"))
        await hints.settled()
        await hints.after(lambda: (tmp_path / "deep/er").mkdir(parents=True))
        await hints.settled()
        await hints.after(lambda: (tmp_path / "deep/er/b.yaml").write_text("1"))
        await hints.settled()
        await hints.after(lambda: (tmp_path / "a.yaml").unlink())
        await hints.settled()
        await hints.after(lambda: os.symlink("deep", tmp_path / "..data"))

        def hidden(number: int) -> None:
            (tmp_path / ".remit/state.db").write_text(f"{number}")
            (tmp_path / ".hidden.swp").write_text(f"{number}")

        await hints.none_after(hidden)


@pytest.mark.asyncio
async def test_a_commit_is_hinted_at_however_it_moves_the_ref(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    places = watch.repository_places(repo.path)
    async with watching(places) as hints:
        await warm(hints, places)
        for change in (
            lambda: repo.commit({"a.yaml": "2"}),
            lambda: repo.git("pack-refs", "--all"),
            lambda: repo.commit({"a.yaml": "3"}),
            lambda: repo.git("branch", "deep/er/side"),
            lambda: repo.git("symbolic-ref", "HEAD", "refs/heads/deep/er/side"),
            lambda: repo.git("update-ref", "-d", "refs/heads/main"),
        ):
            await hints.after(change)
            await hints.settled()

        def no_commit(number: int) -> None:
            repo.git("hash-object", "-w", "--stdin", stdin=b"an object alone is no change %d" % number)
            (repo.path / "a.yaml").write_text(f"an edit of the work tree is none either {number}")

        await hints.none_after(no_commit)


@pytest.mark.asyncio
async def test_a_linked_work_tree_watches_the_refs_that_all_share(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    places = watch.repository_places(tmp_path / "linked")
    async with watching(places) as hints:
        await warm(hints, places)
        await hints.after(lambda: repo.commit({"a.yaml": "2"}))
        await hints.settled()
        await hints.after(lambda: repo.git("-C", str(tmp_path / "linked"), "checkout", "-q", "--detach"))


@pytest.mark.asyncio
async def test_a_folder_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    places = watch.directory_places(folder)
    async with watching(places, poll_s=0.05) as hints:
        await warm(hints, places)
        folder.rename(tmp_path / "old")
        folder.mkdir()
        await hints.settled()
        # The watcher looks at its folder every other second.
        for number in range(200):
            try:
                await hints.after(lambda number=number: (folder / "a.yaml").write_text(f"{number}"), within_s=0.5)
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("the new folder is not watched")


@pytest.mark.asyncio
async def test_what_cannot_be_watched_is_polled_until_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "not-yet"
    places = watch.directory_places(folder)
    async with watching(places, poll_s=0.05) as hints:
        for _ in range(5):
            await hints.after(lambda: None)
        folder.mkdir()
        await warm(hints, places)
        await hints.after(lambda: (folder / "a.yaml").write_text("1"))
    assert [record.message.split(":")[0] for record in caplog.records].count(
        f"cannot watch {folder}, polling it instead"
    ) == 1


@pytest.mark.asyncio
async def test_stopping_is_prompt(tmp_path: Path) -> None:
    stop = asyncio.Event()
    places = watch.directory_places(tmp_path)
    task = asyncio.create_task(watch.watch(places, lambda: None, clock=SystemClock(), stop=stop))
    await asyncio.wait({task}, timeout=0.3)
    assert not task.done()
    stop.set()
    await asyncio.wait_for(task, LONG_S)


@pytest.mark.asyncio
async def test_the_branch_that_the_engine_writes_itself_is_no_news(tmp_path: Path) -> None:
    """Conformance scenario 26: writing status triggers no look at the source."""
    repo = Repo(tmp_path / "repo")
    repo.commit({"a": "1"})
    branch = StatusBranch(repo.path, "remit/status", marker=b"# Status\n")
    branch.read()
    branch.commit({"a.yaml": b"0"}, "Status", datetime(2026, 11, 21, tzinfo=UTC))
    places = watch.repository_places(repo.path, without="remit/status")
    async with watching(places) as hints:
        await warm(hints, places)

        def status(number: int) -> None:
            for n in range(1, 4):
                branch.commit({"a.yaml": b"%d %d" % (number, n)}, "Status", datetime(2026, 11, 21, tzinfo=UTC))

        await hints.none_after(status)
        await hints.after(lambda: repo.commit({"a": "2"}))
    branch.close()


@pytest.mark.asyncio
async def test_the_ref_that_is_followed_is_noticed_at_once_and_others_by_and_by(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    heads = repo.git_dir / "refs/heads"
    notices = Hints()
    with ref_notice.noticing([heads / "main", tmp_path / "nowhere/x"], notices) as works:
        assert works
        for how in ("update-ref", "pack-refs", "update-ref"):
            if how == "pack-refs":
                repo.git(how, "--all")
            else:
                await notices.after(lambda: repo.commit({"a.yaml": f"{notices.count}"}, checkout=False))
        before = await notices.settled()
        repo.commit({"a.yaml": "9"}, branch="other", checkout=False)
        assert await notices.settled() == before
    places = watch.repository_places(repo.path, ref="main")
    assert places.first[0] == heads / "main"
    async with watching(places) as hints:
        await warm(hints, places)
        await hints.after(lambda: repo.commit({"a.yaml": "2"}, checkout=False))
        await hints.settled()
        await hints.after(lambda: repo.commit({"a.yaml": "3"}, branch="third", checkout=False))


@pytest.mark.asyncio
async def test_a_folder_that_is_not_there_is_not_noticed(tmp_path: Path) -> None:
    with ref_notice.noticing([tmp_path / "nowhere/x"], lambda: None) as works:
        assert not works
