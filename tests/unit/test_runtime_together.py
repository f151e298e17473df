"""Writes that share transactions: who goes with whom, and who pays for whose fault."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from controllers.runtime.blocking import InlineBlocking, ThreadBlocking
from controllers.runtime.together import Together
from schemas.base import Key
from schemas.errors import Fenced, StoreUnavailable
from schemas.resource import SYSTEM, Declared
from store.contract import Transaction
from tests.fakes.stores import SqliteHarness

pytestmark = pytest.mark.asyncio


def hold(name: str) -> Callable[[Transaction], str]:
    """A write that creates one object."""

    def write(tx: Transaction) -> str:
        tx.create(Declared("Hold", "default", name, {}))
        return name

    return write


def fails(tx: Transaction) -> None:
    tx.create(Declared("Hold", "default", "of-the-one-that-fails", {}))
    raise Fenced("its claim is another's")


def names(harness: SqliteHarness) -> list[str]:
    store = harness.open()
    with store.snapshot() as snapshot:
        return [found.name for found in snapshot.objects("Hold")]


async def test_what_comes_in_while_one_commits_goes_together_into_the_next(tmp_path: Path) -> None:
    harness, blocking = SqliteHarness(tmp_path), ThreadBlocking(2)
    together = Together(harness.open(), blocking)
    entered, go_on, seen = threading.Event(), threading.Event(), set[int]()

    def first(tx: Transaction) -> None:
        entered.set()
        assert go_on.wait(30)

    def noted(name: str) -> Callable[[Transaction], None]:
        def write(tx: Transaction) -> None:
            seen.add(id(tx))
            hold(name)(tx)

        return write

    begun = asyncio.create_task(together.write(first))
    await asyncio.to_thread(entered.wait, 30)
    others = [asyncio.create_task(together.write(noted(name))) for name in ("a", "b", "c")]
    for _ in range(5):
        await asyncio.to_thread(int)
    go_on.set()
    await asyncio.gather(begun, *others)
    assert len(seen) == 1
    assert names(harness) == ["a", "b", "c"]
    blocking.close()
    harness.close()


async def test_a_write_that_fails_fails_alone(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    together = Together(harness.open(), InlineBlocking())
    found = await asyncio.gather(
        together.write(hold("a")), together.write(fails), together.write(hold("b")), return_exceptions=True
    )
    assert found[0] == "a"
    assert isinstance(found[1], Fenced)
    assert found[2] == "b"
    assert names(harness) == ["a", "b"]
    harness.close()


async def test_what_follows_is_done_in_the_same_transaction_and_its_fault_costs_no_write(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    store = harness.open()
    together, after = Together(store, InlineBlocking()), list[str]()

    def follow(tx: Transaction) -> Callable[[], object]:
        (touched,) = tx.touched()
        hold(f"after-{touched.name}")(tx)
        return lambda: after.append(touched.name)

    def defect(tx: Transaction) -> Callable[[], object]:
        hold("of-a-defect")(tx)
        raise ValueError("a defect")

    together.lead(store, follow)
    await together.write(hold("a"))
    assert after == ["a"]
    together.lead(store, defect)
    await together.write(hold("b"))
    together.lead(None)
    await together.write(hold("c"))
    assert names(harness) == ["a", "after-a", "b", "c"]
    harness.close()


async def test_a_store_that_does_not_answer_is_everybodys_fault(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    together = Together(harness.open(), InlineBlocking())

    def lost(tx: Transaction) -> None:
        raise StoreUnavailable("no room")

    found = await asyncio.gather(together.write(hold("a")), together.write(lost), return_exceptions=True)
    assert [type(outcome) for outcome in found] == [StoreUnavailable, StoreUnavailable]
    assert names(harness) == []
    assert await together.write(hold("a")) == "a"
    harness.close()


async def test_objects_that_were_changed_are_known_by_the_names_they_had(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    with harness.open().transaction(SYSTEM) as tx:
        made = tx.create(Declared("Hold", "default", "a", {}))
        tx.put_spec(made, Declared("Hold", "default", "b", {"reason": "x"}))
        assert tx.touched() == [Key("Hold", "default", "a")]
    harness.close()
