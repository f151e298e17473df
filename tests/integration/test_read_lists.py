"""Lists that are put together from stored text say what the objects say, and nothing that is to be kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from api.read.kube import lists, written
from api.read.kube.shape import Form, Wanted, as_list
from decisions import fields
from schemas import registry
from schemas.ownership import Claim, Flip, Ownership
from schemas.resource import Declared, canonical_json
from store.contract import Store
from tests.fakes.stores import ALICE, START, SqliteHarness

MISSIONS = registry.find_name("missions").info
CLAIM = Claim(("title",), "cli/alice", "mine", START, "it is late", START)
OWNED = {
    "plain": Ownership(fields={"title": 3, "input": {"to": 4}}),
    "overridden": Ownership(fields={"title": 3}, claims=(CLAIM,), base={"title": "theirs"}),
    "fought": Ownership(fields={"title": 3}, flips=(Flip(("title",), START),), fight_since=START),
    "nobody": Ownership(),
}
SPECS: list[dict[str, Any]] = [
    {"title": "one"},
    {"title": 'ünï \u202e \ufffd "quoted" \\ and\nlines', "input": {"a": [1, 2.5, None, True]}},
    {"title": "a secret", "input": {"password": "hunter2"}},
    {"title": "a value", "input": {"text": "ghp_" + "a" * 30}},
    {"title": "an environment", "input": {"env": [{"name": "API_KEY", "value": "hunter2"}]}},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    harness = SqliteHarness(tmp_path_factory.mktemp("lists"))
    store = harness.open()
    number = 0
    with store.transaction(ALICE) as tx:
        for spec in SPECS:
            for owned in OWNED.values():
                made = tx.create(
                    Declared("Mission", ("acme", "default")[number % 2], f"m-{number:02d}", spec,
                             {"team": "docs"} if number % 3 else {}, {"note": "é"} if number % 4 else {},
                             None, owned),
                    manager="git/default" if number % 5 else "", owner_uid="o-1" if number % 7 == 0 else "",
                    finalizers=["remit.dev/drain"] if number % 2 else (),
                    status={"state": ("Done", "Inbox")[number % 2], "spend": {"inputTokens": 3}, "conditions": []},
                )  # fmt: skip
                if number % 6 == 0:
                    tx.request_deletion(made)
                number += 1
    yield store
    harness.close()


QUERIES = [
    "", "limit=3", "limit=20", "limit=500", "fieldSelector=metadata.namespace=acme", "fieldSelector=status.state=Done",
    "fieldSelector=status.state=Done,metadata.namespace=default", "fieldSelector=metadata.namespace=none&limit=2",
]  # fmt: skip


@pytest.mark.parametrize("namespace", [None, "acme"])
@pytest.mark.parametrize("asked", QUERIES)
def test_a_list_of_stored_text_is_the_list_of_the_objects(store: Store, asked: str, namespace: str | None) -> None:
    query = lists.query_of(QueryParams(asked))
    assert written.is_plain(query)
    with store.snapshot() as snapshot:
        for _ in range(10):
            text = json.loads(written.list_text(snapshot, MISSIONS, namespace, query))
            page = lists.page(snapshot, MISSIONS, namespace, query)
            meta = {"resourceVersion": str(page.version)} | ({"continue": page.more} if page.more else {})
            assert text == as_list(MISSIONS, page.items, meta, Wanted(Form.OBJECT), START)
            if not page.more:
                break
            query = lists.query_of(QueryParams(f"{asked}&continue={page.more}"))
        else:
            raise AssertionError("the pages do not end")


def test_no_secret_is_listed(store: Store) -> None:
    with store.snapshot() as snapshot:
        text = written.list_text(snapshot, MISSIONS, None, lists.query_of(QueryParams("")))
    assert b"hunter2" not in text
    assert b"ghp_" not in text
    assert b'"inputTokens":3' in text


@pytest.mark.parametrize("asked", [
    "labelSelector=team=docs", "fieldSelector=metadata.name=m-01", "fieldSelector=status.state!=Done",
    "fieldSelector=metadata.namespace=a,metadata.namespace=b", "fieldSelector=status.state=",
])  # fmt: skip
def test_what_the_store_cannot_tell_alone_is_looked_at_object_by_object(asked: str) -> None:
    assert not written.is_plain(lists.query_of(QueryParams(asked)))


words = st.sampled_from([
    "token", "Tokens", "inputTokens", "name", "value", "pass", "wd", "or", "Secret", "API", "_", "key", "sk-", "gh",
    "p_", "a" * 20, "xox", "b-", "rmt_", "ſecret", "toKen", "credentialRef", "x", "-----BEGIN RSA PRIVATE KEY-----",
    "AKIA", "A1" * 8, '"', '\\":1', ":",
])  # fmt: skip
texts = st.lists(words, max_size=4).map("".join)
values = st.recursive(
    texts | st.integers() | st.booleans(),
    lambda inner: st.dictionaries(texts, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(value=st.dictionaries(texts, values, max_size=4))
def test_where_nothing_may_hide_masking_changes_nothing(value: dict[str, Any]) -> None:
    if not fields.may_hide(canonical_json(value)):
        assert fields.masked(value) == value
