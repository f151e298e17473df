"""Status in git: what the branch holds, when it moves, and that nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from controllers.sources.git_status import MARKER
from schemas.base import Key
from schemas.mission import MissionState
from schemas.resource import SYSTEM, Declared
from schemas.source import SourceSpec
from tests.fakes.repos import Repo
from tests.fakes.status import Desk, work_tree_state
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.asyncio

FLEET = {"fleet.yaml": "---\n".join([executor(), agent(), mission("audit")])}


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    made = Desk(world)
    yield made
    made.close()


async def begin(desk: Desk) -> None:
    desk.world.commit(FLEET)
    desk.world.sync()
    await desk.rest()


async def test_each_declared_object_has_a_file_that_says_how_it_stands(desk: Desk) -> None:
    await begin(desk)
    assert sorted(desk.files()) == [
        "default/agent/worker.yaml",
        "default/executor/local.yaml",
        "default/mission/audit.yaml",
        "default/source/default.yaml",
    ]
    shown = yaml.safe_load(desk.files()["default/mission/audit.yaml"])
    assert shown["metadata"]["name"] == "audit"
    assert shown["status"]["state"] == desk.world.state("audit") == MissionState.IN_PROGRESS
    assert desk.world.reason("Source", "default", "StatusWritten") == "True/StatusWritten"


async def test_the_branch_is_an_orphan_with_a_page_that_explains_it(desk: Desk) -> None:
    await begin(desk)
    first = desk.git("rev-list", "--max-parents=0", desk.tip).split()
    assert len(first) == 1
    assert not set(first) & set(desk.git("rev-list", "main").split())
    assert "Nothing reads this branch" in desk.git("show", f"{desk.tip}:{MARKER}")


async def test_nothing_is_committed_when_nothing_changed(desk: Desk) -> None:
    """Conformance scenario 26."""
    await begin(desk)
    tip = desk.tip
    desk.world.sync()
    desk.world.clock.tick(3600)
    assert await desk.rest(60) == 0
    desk.world.restart()
    desk.restart()
    assert await desk.rest(30) == 0
    assert desk.tip == tip


async def test_a_commit_says_what_changed(desk: Desk) -> None:
    await begin(desk)
    desk.world.finish("audit-1")
    assert await desk.rest() == 1
    subject, _, body = desk.git("log", "-1", "--format=%B", desk.tip).partition("\n")
    assert subject.startswith("Status: ")
    assert "~ default/mission/audit Done" in body
    changed = desk.git("diff", "--name-only", f"{desk.tip}^", desk.tip).split()
    assert "default/executor/local.yaml" not in changed
    assert "default/mission/audit.yaml" in changed


async def test_an_object_that_is_gone_has_no_file(desk: Desk) -> None:
    await begin(desk)
    desk.world.finish("audit-1")
    desk.world.commit({"fleet.yaml": "---\n".join([executor(), agent()])})
    desk.world.sync()
    await desk.rest()
    assert desk.world.find("Mission", "audit") is None
    assert "default/mission/audit.yaml" not in desk.files()


async def test_a_renamed_object_keeps_one_file(desk: Desk) -> None:
    await begin(desk)
    desk.world.finish("audit-1")
    renamed = mission("check", annotations="remit.dev/renamed-from: audit")
    desk.world.commit({"fleet.yaml": "---\n".join([executor(), agent(), renamed])})
    desk.world.sync()
    await desk.rest()
    names = [name for name in desk.files() if "/mission/" in name]
    assert names == ["default/mission/check.yaml"]


async def test_the_source_is_not_looked_at_because_status_was_written(desk: Desk) -> None:
    """Conformance scenario 26: the revision, the poll and the plan know nothing of the branch."""
    await begin(desk)
    before = desk.world.source
    version = desk.world.store.cursor()
    desk.world.finish("audit-1", settle=False)
    desk.world.settle()
    passes: list[Key] = []
    original = desk.world.sync_now.__call__
    desk.world.sync_now = lambda key: (passes.append(key), original(key))[1]  # type: ignore[assignment]
    assert await desk.rest() == 1
    assert passes == []
    assert desk.world.source == before
    assert desk.world.store.cursor() > version


async def test_the_work_tree_and_the_index_are_not_touched(desk: Desk) -> None:
    desk.world.commit(FLEET)
    desk.world.repo.write("notes.txt", "not committed")
    desk.world.repo.write("fleet.yaml", desk.world.repo.path.joinpath("fleet.yaml").read_text() + "# edited\n")
    desk.world.repo.git("add", "notes.txt")
    before = work_tree_state(desk.world.repo.path)
    desk.world.sync()
    await desk.rest()
    desk.world.finish("audit-1")
    await desk.rest()
    assert desk.log()
    assert work_tree_state(desk.world.repo.path) == before
    assert desk.git("symbolic-ref", "HEAD").strip() == "refs/heads/main"


async def test_a_thousand_changes_at_a_time_end_in_few_commits(desk: Desk) -> None:
    names = [f"m{n:03}" for n in range(125)]
    files = {f"{name}.yaml": mission(name, agent=None) for name in names}
    desk.world.commit({**FLEET, **files})
    desk.world.sync()
    await desk.rest()

    def change(number: int) -> None:
        with desk.world.store.transaction(SYSTEM) as tx:
            current = tx.get(Key("Mission", "default", names[number % len(names)]))
            assert current is not None
            tx.put_status(current, {**current.status, "attempts": int(current.status.get("attempts", 0)) + 1})

    before = desk.writer.commits
    with ThreadPoolExecutor(8) as threads:
        changes = [threads.submit(change, number) for number in range(1_000)]
        while not all(done.done() for done in changes):
            desk.writer.pass_once()
    for done in changes:
        done.result()
    await desk.rest()
    assert 1 <= desk.writer.commits - before <= 2
    for name in names:
        shown = yaml.safe_load(desk.files()[f"default/mission/{name}.yaml"]) if name in ("m000", "m124") else None
        assert shown is None or shown["status"]["attempts"] == desk.world.get("Mission", name).status["attempts"]


async def test_changes_without_pause_are_written_at_the_latest_after_the_longest_wait(desk: Desk) -> None:
    await begin(desk)
    before = desk.writer.commits
    for n in range(30):
        with desk.world.store.transaction(SYSTEM) as tx:
            current = tx.get(Key("Mission", "default", "audit"))
            assert current is not None
            tx.put_status(current, {**current.status, "workPlan": f"plan {n}"})
        desk.writer.pass_once()
        desk.world.clock.tick(1.0)
    assert 2 <= desk.writer.commits - before <= 4


async def test_a_deleted_branch_comes_back(desk: Desk) -> None:
    await begin(desk)
    files = desk.files()
    desk.git("update-ref", "-d", "refs/heads/remit/status")
    desk.world.finish("audit-1")
    await desk.rest()
    assert desk.files().keys() == files.keys()
    assert "state: Done" in desk.files()["default/mission/audit.yaml"]


async def test_a_deleted_branch_comes_back_also_when_nothing_changes(desk: Desk) -> None:
    await begin(desk)
    files = desk.files()
    desk.git("update-ref", "-d", "refs/heads/remit/status")
    desk.world.clock.tick(700)
    await desk.rest()
    assert desk.files() == files


async def test_what_somebody_else_pushed_is_written_over_by_a_commit_on_top(desk: Desk) -> None:
    await begin(desk)
    files = desk.files()
    foreign = desk.world.repo.commit({"evil.txt": "x", "default/mission/audit.yaml": "y"}, branch="remit/status")
    desk.world.finish("audit-1")
    await desk.rest()
    assert desk.files().keys() == files.keys()
    assert foreign in desk.git("rev-list", desk.tip).split()


async def test_an_unrelated_history_on_the_branch_is_kept_below(desk: Desk) -> None:
    await begin(desk)
    files = desk.files()
    other = desk.world.repo.commit({"a": "b"}, branch="remit/status", orphan=True, checkout=False)
    desk.world.clock.tick(700)
    await desk.rest()
    assert desk.files() == files
    assert desk.git("rev-parse", f"{desk.tip}^").strip() == other


async def test_a_branch_of_another_name_is_taken_only_if_it_was_made_here(world: World) -> None:
    world.repo.commit({"mine": "precious"}, branch="release", orphan=True, checkout=False)
    before = world.repo.git("rev-parse", "release")
    _writeback(world, branch="release")
    desk = Desk(world, branch="release")
    world.commit(FLEET)
    world.sync()
    await desk.rest()
    assert world.repo.git("rev-parse", "release") == before
    assert world.reason("Source", "default", "StatusWritten") == "False/BranchTaken"
    world.repo.git("branch", "-D", "release")
    await desk.rest(600)
    assert world.reason("Source", "default", "StatusWritten") == "True/StatusWritten"
    desk.restart()
    desk.world.finish("audit-1")
    assert await desk.rest() == 1
    desk.close()


async def test_a_branch_that_somebody_has_checked_out_is_left_alone(desk: Desk) -> None:
    await begin(desk)
    tip = desk.tip
    desk.git("worktree", "add", "-q", str(desk.world.folder / "other"), "remit/status")
    desk.world.finish("audit-1")
    await desk.rest()
    assert desk.tip == tip
    assert desk.world.reason("Source", "default", "StatusWritten") == "False/BranchCheckedOut"
    desk.git("worktree", "remove", "--force", str(desk.world.folder / "other"))
    await desk.rest(120)
    assert desk.tip != tip
    assert desk.world.reason("Source", "default", "StatusWritten") == "True/StatusWritten"


async def test_never_means_never(world: World) -> None:
    _writeback(world, mode="Never")
    desk = Desk(world)
    world.commit(FLEET)
    world.sync()
    assert await desk.rest() == 0
    assert desk.tip == ""
    assert world.reason("Source", "default", "StatusWritten") == ""
    desk.close()


async def test_what_looks_like_a_secret_or_was_handed_in_is_not_written(desk: Desk) -> None:
    await begin(desk)
    secret = "ghp_" + "a1B2" * 9
    desk.world.finish("audit-1", text=f"the deliverable, with {secret}")
    with desk.world.store.transaction(SYSTEM) as tx:
        current = tx.get(Key("Mission", "default", "audit"))
        assert current is not None
        tx.put_status(current, {**current.status, "selfReview": f"used https://me:{secret}@host/x\x1b[31m\u202e"})
    await desk.rest()
    everything = "".join(desk.files().values())
    assert secret not in everything
    assert "the deliverable" not in everything
    assert "\x1b" not in everything
    assert "[redacted]" in everything
    shown = yaml.safe_load(desk.files()["default/mission/audit.yaml"])
    assert shown["status"]["deliverable"]["digest"].startswith("sha256:")


async def test_another_engine_takes_up_where_the_branch_stands(desk: Desk) -> None:
    await begin(desk)
    desk.world.finish("audit-1")
    desk.restart()  # killed before it wrote
    assert await desk.rest() == 1
    assert "state: Done" in desk.files()["default/mission/audit.yaml"]


async def test_the_cost_follows_the_change_and_not_the_number_of_objects(desk: Desk) -> None:
    files = {f"{n:03}.yaml": mission(f"m{n:03}", agent=None) for n in range(300)}
    desk.world.commit({**FLEET, **files})
    desk.world.sync()
    await desk.rest()
    before = _count(desk)
    with desk.world.store.transaction(SYSTEM) as tx:
        current = tx.get(Key("Mission", "default", "m007"))
        assert current is not None
        tx.put_status(current, {**current.status, "workPlan": "another"})
    assert await desk.rest() == 1
    # One file, the folders mission and default and the root, and the commit.
    assert _count(desk) - before == 5


def _count(desk: Desk) -> int:
    lines = desk.git("count-objects", "-v").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("count:", "in-pack:")))


def _writeback(world: World, **values: object) -> None:
    world.spec = world.spec.model_validate({**world.spec.model_dump(), "status_writeback": values})
    world.restart()


async def test_each_source_shows_what_is_its_own_and_a_tenant_writes_nothing_on_this_machine(desk: Desk) -> None:
    """A source of the same name in another namespace, pointed at a repository of this machine."""
    await begin(desk)
    other = Repo(desk.world.folder / "operators")
    other.commit({"a": "b"})
    spec = SourceSpec(url=str(other.path)).to_wire()
    with desk.world.store.transaction(SYSTEM) as tx:
        tx.create(Declared("Source", "acme", "default", spec), unit="default:.", manager="git/default")
    await desk.rest()
    assert other.git("for-each-ref", "refs/heads/remit") == ""
    assert [name for name in desk.files() if name.startswith("acme/")] == []
