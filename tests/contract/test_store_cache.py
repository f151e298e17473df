"""The cache of compiled blobs: by compiler version and blob id, and of no consequence when lost."""

from __future__ import annotations

import pytest

from store.contract import Store
from tests.fakes.stores import ALICE, KEY


def test_what_was_cached_comes_back_for_the_same_compiler(store: Store) -> None:
    store.cache_blobs("v1", {"b1": b"one", "b2": b"\x00\xff", "b3": b""})
    assert dict(store.cached_blobs("v1", ["b1", "b2", "b3", "b4"])) == {"b1": b"one", "b2": b"\x00\xff", "b3": b""}
    assert list(store.cached_blobs("v1", [])) == []
    assert list(store.cached_blobs("v2", ["b1"])) == []


def test_a_blob_can_be_cached_again(store: Store) -> None:
    store.cache_blobs("v1", {"b1": b"old", "b2": b"kept"})
    store.cache_blobs("v1", {"b1": b"new"})
    assert dict(store.cached_blobs("v1", ["b1", "b2"])) == {"b1": b"new", "b2": b"kept"}


def test_another_compiler_forgets_the_forms_of_the_old_one(store: Store) -> None:
    store.cache_blobs("v1", {"b1": b"one"})
    store.cache_blobs("v2", {"b2": b"two"})
    assert list(store.cached_blobs("v1", ["b1", "b2"])) == []
    assert list(store.cached_blobs("v2", ["b1", "b2"])) == [("b2", b"two")]


def test_thousands_of_blobs_are_read_while_the_store_is_written(store: Store) -> None:
    blobs = {f"b{i:04d}": str(i).encode() for i in range(1_500)}
    store.cache_blobs("v1", blobs)
    found = {}
    for blob, compiled in store.cached_blobs("v1", iter([*blobs, "nothing"])):
        found[blob] = compiled
        if len(found) % 500 == 0:
            with store.transaction(ALICE) as tx:
                tx.set_timer(KEY, str(len(found)), tx.now)
    assert found == blobs


def test_forms_are_kept_with_the_transaction_that_brings_them(store: Store) -> None:
    store.cache_blobs("v1", {"b1": b"old"})
    with store.transaction(ALICE) as tx:
        tx.cache_blobs("v1", {"b1": b"new", "b2": b"two"})
    with pytest.raises(ZeroDivisionError), store.transaction(ALICE) as tx:  # noqa: PT012
        tx.cache_blobs("v1", {"b3": b"three"})
        raise ZeroDivisionError
    assert dict(store.cached_blobs("v1", ["b1", "b2", "b3"])) == {"b1": b"new", "b2": b"two"}
