"""Events: numbered without gaps, chained by hash, found by subject, type, place and time."""

from __future__ import annotations

import hashlib

import pytest

from schemas.base import Key
from schemas.resource import SYSTEM, Actor, ActorKind, canonical_json
from store.contract import GENESIS, ChainReport, Event, Store
from tests.fakes.stores import ALICE, KEY, START, SettableClock, abandoned, mission

GONE = Key("Source", "", "specs")


def contract_hash(event: Event) -> str:
    """The formula of the contract, written down a second time."""
    fields = {
        "seq": event.seq,
        "at": round((event.at.timestamp()) * 1_000_000),
        "type": event.type,
        "subject": event.subject._asdict(),
        "subject_uid": event.subject_uid,
        "actor": {
            "kind": event.actor.kind.value,
            "subject": event.actor.subject,
            "transport": event.actor.transport,
        },
        "reason": event.reason,
        "message": event.message,
        "data": event.data,
    }
    return hashlib.sha256((event.prev_hash + canonical_json(fields)).encode()).hexdigest()


def test_an_event_is_read_back_whole(store: Store, clock: SettableClock) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
        assert tx.event("Created", made, reason="Declared", message="first", data={"b": 1, "a": [None]}) == 1
    clock.tick(1.5)
    with store.transaction(SYSTEM) as tx:
        bob = Actor(ActorKind.AGENT, "agent:default/bob", "Token")
        assert tx.event("SyncFailed", GONE, reason="PathGone", message='"quoted" \\ \u2028 ünï', actor=bob) == 2
    with store.snapshot() as snapshot:
        first, second = snapshot.events()
    assert (first.seq, first.at, first.type, first.subject, first.subject_uid) == (1, START, "Created", KEY, made.uid)
    assert (first.actor, first.reason, first.message, first.data) == (
        ALICE,
        "Declared",
        "first",
        {"b": 1, "a": [None]},
    )
    assert first.prev_hash == GENESIS
    assert (second.subject, second.subject_uid, second.actor, second.data) == (GONE, "", bob, {})
    assert second.at == clock.moment
    assert second.prev_hash == first.hash


def test_one_event_about_each_of_many_is_what_as_many_events_are(store: Store) -> None:
    said = [{"place": "a.yaml:1"}, {}, {"related": "other", "said": "half \ud800"}]
    with store.transaction(ALICE) as tx:
        made = tx.create_many([mission(name) for name in ("a", "b", "c")])
        tx.event_each("Created", zip(made, said, strict=True), reason="Declared", message="declared")
        for each, data in zip(made, said, strict=True):
            tx.event("Created", each, reason="Declared", message="declared", data=data)
        tx.event_each("Created", [], reason="Declared", message="declared")
    with store.snapshot() as snapshot:
        events = snapshot.events()
        assert len(events) == 6
        told = [(e.at, e.type, e.subject, e.subject_uid, e.actor, e.reason, e.message, e.data) for e in events]
        assert told[:3] == told[3:]
        assert [e.hash for e in events] == [contract_hash(e) for e in events]
        assert [e.seq for e in snapshot.events(subject_uid="other")] == [3, 6]
        assert events[2].data["said"] == "half \ufffd"


def test_the_hash_is_the_one_that_the_contract_gives(store: Store) -> None:
    texts = ["", "plain", '"\\/\b\f\n\r\t\x01\x7f', "ünï \u2028\u2029 \U0001f600", "nul \0 half \ud800"]
    with store.transaction(ALICE) as tx:
        for i, text in enumerate(texts):
            tx.event("Created", KEY, reason=f"R{i}", message=text, data={text or "k": [text, 1.5, -0.0, 10**30]})
    with store.snapshot() as snapshot:
        events = snapshot.events()
        assert [e.hash for e in events] == [contract_hash(e) for e in events]
        assert events[4].message == "nul \ufffd half \ufffd"
        assert snapshot.verify_events() == ChainReport(5, events[-1].hash)


def test_numbers_have_no_gaps_also_after_a_rollback(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.event("Created", KEY, reason="R", message="1")
    with abandoned(store) as tx:
        assert tx.event("Created", KEY, reason="R", message="lost") == 2
    with store.transaction(ALICE) as tx:
        assert tx.event("Created", KEY, reason="R", message="2") == 2
        assert [e.message for e in tx.events()] == ["1", "2"]
        assert tx.event("Created", KEY, reason="R", message="3") == 3
        assert tx.verify_events().count == 3
    with store.snapshot() as snapshot:
        assert [e.message for e in snapshot.events()] == ["1", "2", "3"]
        assert snapshot.verify_events().broken_seq == 0


def test_an_empty_log_verifies(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.verify_events() == ChainReport(0, GENESIS)


def test_a_long_log_verifies_in_batches_and_reports_progress(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        for i in range(20_500):
            tx.event("Updated", KEY, reason="R", message=str(i))
    heard: list[int] = []
    with store.snapshot() as snapshot:
        report = snapshot.verify_events(progress=heard.append)
        assert (report.count, report.broken_seq) == (20_500, 0)
        assert report.head == snapshot.events(newest_first=True, limit=1)[0].hash
    assert heard == [10_000, 20_000]


@pytest.fixture
def log(store: Store, clock: SettableClock) -> list[Event]:
    """Forty events about four objects in two namespaces, a second apart."""
    with store.transaction(ALICE) as tx:
        made = [tx.create(mission(f"m{i}", namespace=["alpha", "beta"][i % 2])) for i in range(4)]
    for i in range(40):
        clock.tick()
        with store.transaction(ALICE) as tx:
            subject = made[i % 4]
            tx.event(
                ["Created", "Updated", "Deleted"][i % 3],
                subject if i % 5 else subject.key,
                reason="R",
                message=str(i),
                data={"related": [made[0].uid, "other"]} if i % 7 == 0 else {"related": "single"} if i == 1 else None,
            )
    with store.snapshot() as snapshot:
        return snapshot.events()


def test_the_log_is_read_in_both_directions_between_bounds(store: Store, log: list[Event]) -> None:
    with store.snapshot() as snapshot:
        assert [e.seq for e in log] == list(range(1, 41))
        assert snapshot.events(after=10, before=15) == log[10:14]
        assert snapshot.events(after=10, before=15, newest_first=True) == log[10:14][::-1]
        assert snapshot.events(limit=3) == log[:3]
        assert snapshot.events(limit=3, newest_first=True) == log[:-4:-1]
        assert snapshot.events(after=40) == []
        assert snapshot.events(limit=0) == []


def test_the_log_is_filtered_by_type_namespace_and_time(store: Store, log: list[Event]) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.events(types=["Deleted"]) == [e for e in log if e.type == "Deleted"]
        assert snapshot.events(types=["Deleted", "Created"], namespace="beta") == [
            e for e in log if e.type != "Updated" and e.subject.namespace == "beta"
        ]
        assert snapshot.events(types=[]) == []
        assert snapshot.events(since=log[20].at) == log[20:]
        assert (
            snapshot.events(since=log[20].at, types=["Created"], after=25, limit=2)
            == [e for e in log[25:] if e.type == "Created"][:2]
        )


def test_the_log_is_filtered_by_subject(store: Store, log: list[Event]) -> None:
    with store.snapshot() as snapshot:
        key = log[2].subject
        assert snapshot.events(subject=key) == [e for e in log if e.subject == key]
        assert snapshot.events(subject=Key("Agent", key.namespace, key.name)) == []


def test_a_uid_is_found_as_subject_and_as_related(store: Store, log: list[Event]) -> None:
    uid = next(e.subject_uid for e in log if e.subject.name == "m0" and e.subject_uid)
    expected = [e for e in log if e.subject_uid == uid or uid in e.data.get("related", ())]
    assert any(e.subject_uid != uid for e in expected)
    with store.snapshot() as snapshot:
        assert snapshot.events(subject_uid=uid) == expected
        assert snapshot.events(subject_uid=uid, newest_first=True, limit=4) == expected[:-5:-1]
        assert snapshot.events(subject_uid="other", types=["Created"]) == [
            e for e in log if "other" in e.data.get("related", ()) and e.type == "Created"
        ]
        assert snapshot.events(subject_uid="single") == [log[1]]
        assert snapshot.events(subject_uid="nobody") == []


@pytest.mark.parametrize("related", [5, None, {"a": "b"}, [1, None, ["x"]]])
def test_an_odd_related_field_relates_to_nothing(store: Store, related: object) -> None:
    with store.transaction(ALICE) as tx:
        tx.event("Created", KEY, reason="R", message="m", data={"related": related})
    with store.snapshot() as snapshot:
        assert snapshot.events()[0].data == {"related": related}
        assert snapshot.events(subject_uid="x") == []
