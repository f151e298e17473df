"""Jobs that are heard of and not only looked at: what a watch makes due, how its silence is noticed, and a log that is
followed while its pod runs."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controllers.dispatch.jobs.access import Access
from controllers.dispatch.jobs.cluster import Answer, Said, StreamRefused, Told
from controllers.effects.job_logs import JobLogs, Voice
from controllers.effects.job_watch import IDLE_S, PROBE_S, REFUSED_S, JobWatch
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.lifecycle import Lifecycle
from controllers.web.client import StreamBroken
from schemas.resource import SYSTEM
from schemas.run import ENDED
from store.contract import EffectState
from tests.fakes.clock import VirtualClock
from tests.fakes.job_world import JobWorld, executor
from tests.fakes.world import agent, mission

HERE = Access("https://cluster.example", None, str)
BREAK = b""


@dataclass
class FakeStreams:
    """See ``Streams``. ``logs`` are the answers to requests for a log; one that ends with BREAK breaks off."""

    version: int = 10
    items: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    deaf: bool = False
    refuses: bool = False
    lists: int = 0
    open: set[str] = field(default_factory=set)
    logs: deque[tuple[bytes, ...]] = field(default_factory=deque)
    asked: int = 0
    _lines: dict[str, asyncio.Queue[Told]] = field(default_factory=dict)
    _said: list[tuple[str, int, Told]] = field(default_factory=list)

    def say(self, kind: str, type_: str, **found: Any) -> None:
        """Something happens; watches hear it unless they are deaf."""
        self.version += 1
        found["metadata"] = {**found.get("metadata", {}), "resourceVersion": str(self.version)}
        self._said.append((kind, self.version, (type_, found)))
        if not self.deaf and kind in self._lines:
            self._lines[kind].put_nowait((type_, found))

    async def listed(self, kind: str, selector: str) -> Answer:
        """See ``Streams.listed``."""
        self.lists += 1
        if self.refuses:
            return Answer(Said.REFUSED, "the API server answers 403")
        document = {"items": self.items.get(kind, []), "metadata": {"resourceVersion": str(self.version)}}
        return Answer(Said.DONE, document=document)

    async def told(self, kind: str, selector: str, since: str, *, seconds: int = 300) -> AsyncGenerator[Told]:
        """See ``Streams.told``."""
        if seconds == 1:
            for other, version, told in self._said:
                if other == kind and version > int(since):
                    yield told
            return
        self._lines[kind] = asyncio.Queue()
        self.open.add(kind)
        try:
            while True:
                told = await self._lines[kind].get()
                if told[0] == BROKEN:
                    raise StreamBroken("the answer broke off")
                yield told
        finally:
            self.open.discard(kind)

    async def spoken(self, pod: str, container: str, *, limit: int) -> AsyncGenerator[bytes]:
        """See ``Streams.spoken``."""
        self.asked += 1
        if not self.logs:
            raise StreamRefused("the API server answers 404")
        for chunk in self.logs.popleft():
            if chunk == BREAK:
                raise StreamBroken("the answer broke off")
            yield chunk


BROKEN = "Broken"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JobWorld]:
    made = JobWorld(tmp_path)
    made.commit({"e.yaml": executor("pollInterval: 1h"), "a.yaml": agent(), "m.yaml": mission("index")})
    made.sync()
    try:
        yield made
    finally:
        made.close()


class Listening:
    """A watch in virtual time over a world with one open run. The look at it is put off by an hour each time."""

    def __init__(self, world: JobWorld) -> None:
        self.world = world
        self.streams = FakeStreams()
        self.clock = VirtualClock()
        self.uid = world.get("Run", "index-1").uid
        self.watch = JobWatch(
            world.store, reach=lambda access, namespace: self.streams, blocking=InlineBlocking(), clock=self.clock,
            random=Random(1),
        )  # fmt: skip
        self.life = Lifecycle()
        self.task = asyncio.create_task(self.watch.run(self.life))

    @property
    def is_due(self) -> bool:
        """Whether the run is to be looked at now."""
        with self.world.store.snapshot() as snapshot:
            effect = snapshot.effect(f"watch-job/{self.uid}")
        assert effect is not None
        return effect.state is EffectState.PENDING and effect.due_at <= self.world.clock()

    def look(self) -> None:
        """Somebody looks at it, and will again in an hour."""
        with self.world.store.transaction(SYSTEM) as tx:
            (claimed,) = tx.claim_effects("t", types=["WatchJob"], limit=1, lease_s=60)
            tx.fail_effect(claimed, "", retry_at=tx.now + timedelta(hours=1))
        self.watch.attend(HERE, "agents")

    def job(self, **found: Any) -> dict[str, Any]:
        return {"metadata": {"uid": "j", "labels": {"remit.dev/run": self.uid}}, **found}

    async def end(self) -> None:
        self.life.stopping.set()
        await self.clock.settle()
        await self.task
        assert not self.streams.open


@pytest.mark.asyncio
async def test_what_happens_to_a_job_makes_the_look_at_its_run_due_and_what_means_nothing_does_not(
    world: JobWorld,
) -> None:
    here = Listening(world)
    await here.clock.settle()
    assert here.is_due, "nobody heard what happened before this life"
    here.look()
    await here.clock.settle()
    assert here.streams.open == {"Job", "Pod"}
    assert here.watch.hears(HERE, "agents")
    assert not here.is_due
    pod = here.job(status={"phase": "Pending"})
    for type_, found in [
        ("ADDED", pod),
        ("MODIFIED", here.job(status={"phase": "Running"})),
        ("DELETED", pod),
    ]:
        here.streams.say("Pod", type_, **found)
        await here.clock.settle()
        assert here.is_due, type_
        here.look()
    here.streams.say("Job", "ADDED", **here.job(status={"active": 1}))
    await here.clock.settle()
    here.look()
    here.streams.say("Job", "MODIFIED", **here.job(status={"active": 1, "ready": 1}))
    here.streams.say("Job", "BOOKMARK")
    await here.clock.settle()
    assert not here.is_due
    await here.end()


@pytest.mark.asyncio
async def test_a_look_that_is_under_way_is_asked_for_once_more(world: JobWorld) -> None:
    here = Listening(world)
    await here.clock.settle()
    here.look()
    await here.clock.settle()
    here.streams.say("Job", "ADDED", **here.job())
    await here.clock.settle()
    with world.store.transaction(SYSTEM) as tx:
        (claimed,) = tx.claim_effects("t", types=["WatchJob"], limit=1, lease_s=60)
    here.streams.say("Job", "MODIFIED", **here.job(status={"conditions": [{"type": "Complete", "status": "True"}]}))
    await here.clock.advance(1)
    with world.store.transaction(SYSTEM) as tx:
        tx.fail_effect(claimed, "it runs", retry_at=tx.now + timedelta(hours=1))
    await here.clock.advance(1)
    assert here.is_due
    await here.end()


@pytest.mark.asyncio
async def test_a_watch_that_says_nothing_or_breaks_is_opened_anew_and_what_it_did_not_tell_is_found(
    world: JobWorld,
) -> None:
    here = Listening(world)
    await here.clock.settle()
    here.look()
    await here.clock.settle()
    lists = here.streams.lists
    here.streams.deaf = True
    here.streams.say("Job", "ADDED", **here.job())
    here.streams.items["Job"] = [here.job()]
    await here.clock.advance(1)
    assert not here.is_due
    await here.clock.advance(PROBE_S + 10)
    assert here.is_due
    assert here.streams.lists == lists + 1
    here.look()
    here.streams.deaf = False
    here.streams.items["Job"] = []
    here.streams.say("Job", BROKEN)
    await here.clock.advance(10)
    assert here.is_due, "it went while nobody listened"
    here.look()
    here.streams.say("Job", "ERROR", code=410)
    await here.clock.advance(10)
    assert here.streams.lists == lists + 3
    assert here.watch.hears(HERE, "agents")
    await here.end()


@pytest.mark.asyncio
async def test_where_a_watch_is_forbidden_or_nobody_looks_any_more_nothing_is_heard(world: JobWorld) -> None:
    here = Listening(world)
    here.streams.refuses = True
    here.watch.attend(HERE, "agents")
    await here.clock.settle()
    assert not here.watch.hears(HERE, "agents")
    here.streams.refuses = False
    here.watch.attend(HERE, "agents")
    await here.clock.advance(REFUSED_S + 1)
    assert here.watch.hears(HERE, "agents")
    await here.clock.advance(2 * IDLE_S)
    assert not here.watch.hears(HERE, "agents")
    assert not here.streams.open
    await here.end()


class Following:
    """A log that is followed in virtual time, for the one run of a world."""

    def __init__(self, world: JobWorld, most: int = 1000) -> None:
        self.clock, self.streams = VirtualClock(), FakeStreams()
        self.uid = world.get("Run", "index-1").uid
        self.path = world.folder / "state" / "runs" / self.uid / "stdout.log"
        self.logs = JobLogs(
            world.store, known=lambda namespace: ("correct-horse-battery",), runs=world.folder / "state" / "runs",
            blocking=InlineBlocking(), clock=self.clock, random=Random(1), most=1,
        )  # fmt: skip
        self.most = most

    async def hears(self, *logs: tuple[bytes, ...], pod: str = "index-1-0", seconds: float = 120) -> bytes:
        """What is kept once these requests were answered."""
        self.streams.logs.extend(logs)
        self.logs.follow(self.uid, Voice(self.streams, pod, "agent", self.most))
        await self.clock.advance(seconds)
        return self.path.read_bytes()


@pytest.mark.asyncio
async def test_a_log_that_breaks_off_goes_on_without_a_line_twice(world: JobWorld) -> None:
    here = Following(world)
    assert await here.hears((b"one\ntw", BREAK), (b"one\n", b"two\nthree\n", BREAK), (b"one\ntwo\n", BREAK)) == (
        b"one\ntwo\nthree\n"
    )
    again = Following(world)  # the next life knows the file only
    assert await again.hears((b"one\ntwo\nthr", b"ee\nfour\nfi")) == b"one\ntwo\nthree\nfour\n"
    assert await again.hears((b"begun anew\n",), pod="index-1-1") == b"begun anew\n"
    await again.logs.close()


@pytest.mark.asyncio
async def test_what_is_followed_has_no_credentials_and_a_bound(world: JobWorld) -> None:
    here = Following(world, most=60)
    kept = await here.hears((b"the word is correct-ho", b"rse-battery\ntoken: ghp_", b"a" * 36 + b"\nmore\n" * 9))
    assert b"horse" not in kept
    assert b"ghp_" not in kept
    assert kept.startswith(b"the word is [redacted]\n")
    asked = here.streams.asked
    await here.hears((b"not asked for\n",))
    assert here.streams.asked == asked, "there is room for no more"
    await here.logs.stop(here.uid)


@pytest.mark.asyncio
async def test_a_log_is_followed_no_longer_when_its_run_is_over(world: JobWorld) -> None:
    here = Following(world)
    await here.hears((b"one\n", BREAK))
    world.cluster.ends(1)
    await asyncio.to_thread(world.advance, 3700)
    assert world.get("Run", "index-1").state in {state.value for state in ENDED}
    await here.hears((b"one\ntwo\n",), pod="other")
    assert here.streams.asked <= 3
    assert not here.clock.pending


def test_an_access_tells_one_cluster_from_another() -> None:
    """It is what a watch goes by."""
    tls = ssl.create_default_context()
    assert Access("https://a", tls, str) == Access("https://a", tls, str) != Access("https://b", tls, str)
    assert len({Access("https://a", tls, str), Access("https://a", tls, str)}) == 1
