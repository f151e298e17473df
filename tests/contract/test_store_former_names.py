"""What the log has about a uid is found whatever its object was called, also once it is gone, and also after a change
from tables that had an index for it."""

from __future__ import annotations

from schemas.base import Key
from schemas.resource import Resource
from store import migrate
from store.contract import Store, Transaction
from tests.fakes.stores import ALICE, Harness, mission


def say(tx: Transaction, about: Resource, message: str) -> Resource:
    tx.event("Said", about, reason="Test", message=message)
    return about


def lives(store: Store) -> tuple[str, str, str]:
    """One object is called a, b, a and c, and removed; another one is called a after it; of a third nothing is said."""
    with store.transaction(ALICE) as tx:
        first = say(tx, tx.create(mission("a")), "born")
        first = say(tx, tx.put_spec(first, mission("b")), "renamed")
        first = say(tx, tx.put_spec(first, mission("a")), "renamed back")
    with store.transaction(ALICE) as tx:
        first = say(tx, tx.put_spec(first, mission("c")), "renamed again")
        second = say(tx, tx.create(mission("a")), "heir")
        tx.remove(first)
        say(tx, first, "gone")
        quiet = tx.create(mission("quiet"))
    return first.uid, second.uid, quiet.uid


def told(store: Store, *uids: str) -> list[list[str]]:
    with store.snapshot() as snapshot:
        assert snapshot.verify_events().problem == ""
        return [[event.message for event in snapshot.events(subject_uid=uid)] for uid in uids]


HISTORY = [["born", "renamed", "renamed back", "renamed again", "gone"], ["heir"], []]


def test_events_about_a_uid_are_found_under_every_name_that_it_had(store: Store) -> None:
    uids = lives(store)
    assert told(store, *uids, "nobody") == [*HISTORY, []]
    with store.snapshot() as snapshot:
        assert [e.message for e in snapshot.events(subject=Key("Mission", "default", "a"))] == [
            "born", "renamed back", "heir",
        ]  # fmt: skip
        assert [e.message for e in snapshot.events(subject_uid=uids[0], limit=1, newest_first=True)] == ["gone"]


def test_a_store_of_the_version_before_finds_them_too(harness: Harness) -> None:
    store = harness.open()
    uids = lives(store)
    store.close()
    for revision in ("0005", "head"):
        move = migrate.downgrade if revision == "0005" else migrate.upgrade
        move(harness.url, revision, now=harness.clock)
    assert told(harness.open(), *uids) == HISTORY
