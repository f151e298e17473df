"""Status in the git of somebody else: pushes, races, and a remote that is gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.fakes.repos import Repo
from tests.fakes.status import Desk
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.asyncio

FLEET = {"fleet.yaml": "---\n".join([executor(), agent(), mission("audit")])}


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    origin = Repo(world.folder / "origin.git", bare=True)
    world.commit(FLEET)
    world.repo.git("push", "-q", str(origin.path), "main")
    world.spec = world.spec.model_validate(
        {
            **world.spec.model_dump(),
            "url": f"file://{origin.path}",
            "status_writeback": {"mode": "Always"},
        }
    )
    world.restart()
    made = Desk(world, origin)
    yield made
    made.close()


def says(desk: Desk) -> str:
    return desk.world.reason("Source", "default", "StatusWritten")


async def begin(desk: Desk) -> None:
    desk.world.sync()
    await desk.rest()
    assert says(desk) == "True/StatusWritten"


async def test_status_is_pushed_to_the_remote(desk: Desk) -> None:
    await begin(desk)
    assert "default/mission/audit.yaml" in desk.files()
    desk.world.finish("audit-1")
    assert await desk.rest() == 1
    assert "state: Done" in desk.files()["default/mission/audit.yaml"]


async def test_a_remote_is_left_alone_unless_it_is_asked_for(desk: Desk) -> None:
    desk.world.spec = desk.world.spec.model_validate({**desk.world.spec.model_dump(), "status_writeback": {}})
    desk.world.restart()
    desk.world.sync()
    await desk.rest()
    assert desk.tip == ""
    assert says(desk) == "False/NotWritable"


async def test_a_push_that_lost_a_race_goes_on_top(desk: Desk) -> None:
    """Conformance scenario 26: the push race is retried."""
    await begin(desk)
    theirs = desk.repo.commit({"other.txt": "x"}, branch="remit/status")
    desk.world.finish("audit-1")
    await desk.rest(20)
    assert theirs in desk.git("rev-list", desk.tip).split()
    assert "state: Done" in desk.files()["default/mission/audit.yaml"]
    assert "other.txt" not in desk.files()
    assert says(desk) == "True/StatusWritten"


async def test_a_history_that_somebody_forced_is_written_on_top_of(desk: Desk) -> None:
    await begin(desk)
    forced = desk.repo.commit({"a": "b"}, branch="remit/status", orphan=True)
    desk.world.finish("audit-1")
    await desk.rest(20)
    assert "state: Done" in desk.files()["default/mission/audit.yaml"]
    assert forced in desk.git("rev-list", desk.tip).split()


async def test_a_remote_branch_that_was_deleted_comes_back(desk: Desk) -> None:
    await begin(desk)
    files = desk.files()
    desk.git("update-ref", "-d", "refs/heads/remit/status")
    desk.world.clock.tick(700)
    await desk.rest(20)
    assert desk.files() == files


async def test_an_engine_without_its_cache_goes_on_where_the_remote_is(desk: Desk) -> None:
    await begin(desk)
    tip = desk.tip
    desk.close()
    shutil.rmtree(desk.cache)
    desk.restart()
    await desk.rest(20)
    assert desk.tip == tip, "the same status makes no commit on another machine"
    desk.world.finish("audit-1")
    await desk.rest()
    assert desk.git("rev-parse", f"{desk.tip}^").strip() == tip


async def test_a_remote_that_is_gone_is_said_and_waited_for(desk: Desk) -> None:
    await begin(desk)
    desk.repo.path.rename(desk.repo.path.with_name("away.git"))
    desk.world.finish("audit-1")
    await desk.rest()
    assert says(desk) == "False/RepositoryUnreachable"
    desk.repo.path.with_name("away.git").rename(desk.repo.path)
    await desk.rest()
    assert says(desk) == "True/StatusWritten"
    assert "state: Done" in desk.files()["default/mission/audit.yaml"]


async def test_a_remote_that_takes_no_push_is_said(desk: Desk) -> None:
    hook = desk.repo.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    desk.world.sync()
    await desk.rest()
    assert says(desk) == "False/PushRefused"
    hook.unlink()
    await desk.rest()
    assert says(desk) == "True/StatusWritten"


async def test_the_outbox_holds_one_push_at_a_time(desk: Desk) -> None:
    await begin(desk)
    for n in range(5):
        desk.world.commit({f"m{n}.yaml": mission(f"m{n}", agent=None)})
        desk.world.repo.git("push", "-q", str(desk.repo.path), "main")
        desk.world.sync()
        for _ in range(4):
            desk.writer.pass_once()
            desk.world.clock.tick(1.0)
    with desk.world.store.snapshot() as snapshot:
        assert len(snapshot.effects(states=None, type="PushStatus")) <= 3
    await desk.rest()
    assert {f"default/mission/m{n}.yaml" for n in range(5)} <= desk.files().keys()
