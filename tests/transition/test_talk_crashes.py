"""Sessions over a store that fails at every commit: nothing is lost and nothing happens twice, in any of a hundred
sessions, and none of them touches another."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from controllers.reconcilers.sessions import Sessions
from controllers.runs import chat, inbox, messages, sessions, threads
from controllers.runs.once import Once
from decisions import conversation as deciding
from schemas.base import Key
from schemas.errors import RemitError
from schemas.policy import DEFAULT_AUTONOMY
from schemas.resource import SYSTEM, Resource
from schemas.run import RunState
from schemas.session import SessionStatus
from store.contract import Store, Transaction
from tests.fakes.faulty_store import Crash, Fault, FaultyStore
from tests.fakes.runs import RunBench
from tests.fakes.stores import BACKENDS
from tests.fakes.world import ALICE

FAULTS = (
    (Fault.CRASH_BEFORE, 0), (Fault.CRASH_AFTER, 0), (Fault.UNSAID, 0),
    (Fault.CRASH_MIDWAY, 6), (Fault.CRASH_MIDWAY, 14), (Fault.LOST, 20),
)  # fmt: skip
_TIMES = frozenset({"lastMessageAt", "lastHumanMessageAt", "cooldownUntil", "followUps", "loop", "lastTransitionTime"})


@pytest.fixture
def bench(tmp_path: Path, backend: str) -> Iterator[RunBench]:
    (tmp_path / "unused").mkdir()
    made = RunBench(tmp_path / "unused")
    made.close()
    harness = BACKENDS[backend](tmp_path)
    made.clock, made.store = harness.clock, harness.open()
    yield made
    harness.close()


@dataclass
class Seat:
    """An agent on a mission of its own, and the person that talks to it."""

    bench: RunBench
    run: Resource

    @property
    def session(self) -> Resource:
        with self.bench.store.snapshot() as snapshot:
            found = sessions.find(snapshot, self.run)
        assert found is not None
        return found

    def says(self, store: Store, text: str) -> None:
        with store.transaction(SYSTEM) as tx:
            messages.agent_says(tx, self.run.uid, text, (), "", once=Once.of(text, b""))

    def answers(self, store: Store, text: str) -> None:
        with store.transaction(SYSTEM) as tx:
            latest = str(sessions.of_run(tx, self.run).status["lastHumanMessage"])
            messages.agent_says(tx, self.run.uid, text, (), latest, once=Once.of(text, b""))

    def follows_up(self, store: Store, text: str, *, say: bool = False) -> None:
        with store.transaction(SYSTEM) as tx:
            after = timedelta(seconds=10)
            messages.asks_follow_up(tx, self.run.uid, after, text, say=say, once=Once.of(text, b""))

    def hears(self, store: Store, text: str) -> None:
        with store.transaction(ALICE) as tx:
            mission = tx.get_by_uid(self.run.owner_uid)
            assert mission is not None
            chat.say(tx, mission, ALICE, text, key=text)

    def sees(self, store: Store) -> None:
        with store.transaction(SYSTEM) as tx:
            messages.seen(tx, self.run, frozenset(), upto=10_000)

    def is_due(self, store: Store) -> None:
        with store.transaction(SYSTEM) as tx:
            Sessions()(tx, sessions.key_of(self.run))

    def assign(self) -> None:
        """As the dispatcher does, so that a person's word finds the agent."""
        with self.bench.tx() as tx:
            mission = tx.get_by_uid(self.run.owner_uid)
            assert mission is not None
            ref = {"name": self.run.spec["agentRef"]["name"]}
            tx.put_status(mission, {**mission.status, "state": "InProgress", "agent": ref, "currentRun": self.run.name})

    def story(self) -> dict[str, Any]:
        """All that can be seen of it, without names and moments."""
        with self.bench.store.snapshot() as snapshot:
            session = self.session
            mission = snapshot.get_by_uid(self.run.owner_uid)
            assert mission is not None
            found = snapshot.objects("Message", owner_uid=mission.uid)
            thread = threads.find(snapshot, mission)
            log = snapshot.events(subject_uid=session.uid)
            notices = inbox.notices(snapshot, self.run, self.bench.clock())
            timers = [t for t in snapshot.timers() if t.key == session.key]
        names = {m.name: m.spec["text"] for m in found}
        shown = {k: v for k, v in session.status.items() if k not in _TIMES and k != "lastHumanMessage"}
        return {
            "status": {k: [names[n] for n in v] if k in ("queue", "inbound") else v for k, v in shown.items()
                       if k != "conditions"},
            "messages": sorted(
                (m.spec["text"].replace(mission.name, "it"), m.state, m.spec["sequence"], m.status["number"],
                 m.spec["autonomous"])
                for m in found
            ),
            "log": [(e.type, e.reason, e.data["sequence"]) for e in log if "sequence" in e.data],
            "thread": thread.status["messages"] if thread is not None else 0,
            "notices": [n.text for n in notices],
            "timers": len(timers),
        }  # fmt: skip


SCRIPT: tuple[Callable[[Seat, Store], None], ...] = (
    lambda seat, store: seat.says(store, "one"),
    lambda seat, store: seat.says(store, "two"),
    lambda seat, store: seat.follows_up(store, "tell me"),
    lambda seat, store: seat.is_due(store),
    lambda seat, store: seat.follows_up(store, "say it", say=True),
    lambda seat, store: seat.hears(store, "hello"),
    lambda seat, store: seat.answers(store, "yes"),
    lambda seat, store: seat.follows_up(store, "later"),
    lambda seat, store: seat.is_due(store),
    lambda seat, store: seat.sees(store),
    lambda seat, store: seat.hears(store, "/status"),
)
TICKS = {2: 20, 7: 12}
"""Seconds that pass after a step."""


def test_a_crash_at_any_commit_of_a_session_loses_nothing_and_doubles_nothing(bench: RunBench) -> None:
    variants = [(None, Fault.NONE, 0), *((n, fault, at) for n in range(len(SCRIPT)) for fault, at in FAULTS)]
    seats = [Seat(bench, bench.order(state=RunState.RUNNING, reserve=None)) for _ in variants]
    for seat in seats:
        seat.assign()
    hits = 0
    for number, step in enumerate(SCRIPT):
        for seat, (where, fault, at) in zip(seats, variants, strict=True):
            if where == number:
                faulty = FaultyStore(bench.store, lambda _, fault=fault, at=at: (fault, at))  # type: ignore[misc]
                try:
                    step(seat, cast(Store, faulty))
                except (Crash, RemitError):
                    hits += 1
            step(seat, bench.store)  # whoever got no answer asks again
        bench.clock.tick(TICKS.get(number, 0))
    expected = seats[0].story()
    assert expected["log"]
    for seat, variant in zip(seats, variants, strict=True):
        assert seat.story() == expected, variant
    assert hits > len(SCRIPT) * 5


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_hundred_sessions_at_once_are_each_what_their_own_events_make_of_them(bench: RunBench) -> None:
    chance = random.Random(7)
    seats = [Seat(bench, bench.order(state=RunState.RUNNING, reserve=None)) for _ in range(100)]
    told: dict[str, list[str]] = {}
    for seat in seats:
        seat.assign()
    for number in range(700):
        seat = chance.choice(seats)
        mark = f"{number} of {seat.run.name}"
        told.setdefault(seat.run.uid, []).append(mark)
        act = chance.randrange(6)
        if act < 2:
            seat.says(bench.store, mark)
        elif act == 2:
            seat.hears(bench.store, mark)
        elif act == 3 and len(_follow_ups(seat)) < deciding.MOST_FOLLOW_UPS:
            seat.follows_up(bench.store, mark, say=bool(number % 2))
        elif act == 4:
            bench.clock.tick(chance.randrange(1, 8))
        _let_due_happen(bench)
    for seat in seats:
        if seat.run.uid not in told:
            continue
        with bench.store.snapshot() as snapshot:
            found = snapshot.objects("Message", owner_uid=seat.run.owner_uid)
            session = sessions.find(snapshot, seat.run)
            notices = inbox.notices(snapshot, seat.run, bench.clock())
        assert {m.spec["text"] for m in found} <= set(told[seat.run.uid])
        assert {n.text for n in notices} <= set(told[seat.run.uid])
        if session is None:
            continue
        assert all(m.spec["sessionRef"]["name"] == session.name for m in found)
        status = SessionStatus.model_validate(session.status)
        assert status.consecutive + len(status.queue) <= DEFAULT_AUTONOMY.max_consecutive
        outbound = [m for m in found if m.spec["direction"] == "Outbound" and m.state == "Delivered"]
        times = sorted(m.status["sentAt"] for m in outbound if m.spec["autonomous"])
        assert len(times) == len(set(times))  # never two at once: there are 15 s between them


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_hundred_follow_ups_are_told_when_they_are_due_but_where_a_person_spoke_and_there_at_once(
    bench: RunBench,
) -> None:
    seats = [Seat(bench, bench.order(state=RunState.RUNNING, reserve=None)) for _ in range(100)]
    for seat in seats:
        seat.assign()
        seat.follows_up(bench.store, seat.run.name)
    for seat in seats[::4]:
        seat.hears(bench.store, "leave it")
        assert _follow_ups(seat) == (), "gone in the transaction that brought the message"
    with bench.store.snapshot() as snapshot:
        due = [t.due_at for t in snapshot.timers() if t.key.kind == "Session"]
    assert due == [bench.clock() + timedelta(seconds=10)] * 75
    bench.clock.tick(9.999)
    _let_due_happen(bench)
    assert all(_follow_ups(seat) for number, seat in enumerate(seats) if number % 4)
    bench.clock.tick(0.001)
    _let_due_happen(bench)
    for number, seat in enumerate(seats):
        with bench.store.snapshot() as snapshot:
            told = [n.text for n in inbox.notices(snapshot, seat.run, bench.clock())]
        assert told == ([seat.run.name] if number % 4 else ["leave it"])


def _follow_ups(seat: Seat) -> tuple[object, ...]:
    with seat.bench.store.snapshot() as snapshot:
        found = sessions.find(snapshot, seat.run)
    return SessionStatus.model_validate(found.status).follow_ups if found is not None else ()


def _let_due_happen(bench: RunBench) -> None:
    """As the engine's timers do."""
    with bench.store.snapshot() as snapshot:
        due: list[Key] = [t.key for t in snapshot.timers(due_before=bench.clock()) if t.key.kind == "Session"]
    for key in due:
        with bench.store.transaction(SYSTEM) as tx:
            Sessions()(cast(Transaction, tx), key)
