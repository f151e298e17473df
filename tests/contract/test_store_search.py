"""Search: what is found, in which order, and that hostile input and other processes do no harm."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.resource import Declared
from store import migrate
from store.contract import Store
from store.search_text import Question, fold, place_word, question_of, snippet
from store.session import Statement
from tests.fakes.stores import ALICE, Harness, SettableClock

HOSTILE = ['"', "a OR", "NEAR(", "title_words : x", "a* ^b", "' :*", "%", "\\", "kind:", "a' | b", "x\0y"]


def declare(store: Store, name: str, *, kind: str = "Mission", namespace: str = "default", **spec: object) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(Declared(kind, namespace, name, {"title": name, **spec}))
        tx.event("Created", made, reason="Declared", message=f"{name} was declared")


def indexed(store: Store) -> None:
    while store.index_search(3):
        pass


def names(store: Store, text: str, **options: int) -> list[str]:
    return [hit.name for hit in store.search(question_of(text), **options) if not hit.seq]


def test_titles_come_before_texts_and_the_newest_first(store: Store, clock: SettableClock) -> None:
    declare(store, "a", description="about the invoice")
    declare(store, "b", title="Pay the Invoice")
    declare(store, "c", description="INVOICES and an invoice")
    declare(store, "d", description="nothing")
    assert store.search(question_of("invoice")) == []
    indexed(store)
    assert names(store, "invoice") == ["b", "c", "a"]
    assert names(store, "invoice pay") == ["b"]
    assert names(store, "invoi") == ["b", "c", "a"]
    assert names(store, "invoi ") == []
    assert names(store, "invoice", limit=1) == ["b"]
    assert [h.seq for h in store.search(question_of("declared kind:event"))] == [4, 3, 2, 1]
    assert store.index_search(100) == 0


def test_what_changes_is_found_as_it_is_now_and_what_is_gone_no_more(store: Store) -> None:
    declare(store, "a", description="old words")
    declare(store, "b", description="old words")
    indexed(store)
    with store.transaction(ALICE) as tx:
        one, two = tx.objects("Mission")
        tx.put_status(one, {"state": "Blocked"})
        tx.remove(two)
    indexed(store)
    assert names(store, "old") == ["a"]
    assert [h.state for h in store.search(question_of("old kind:mission"))] == ["Blocked"]
    assert names(store, "old state:blocked") == ["a"]
    with store.transaction(ALICE) as tx:
        one = tx.objects("Mission")[0]
        tx.put_spec(one, Declared("Mission", "default", "renamed", {"title": "new words"}))
    indexed(store)
    assert names(store, "old kind:mission") == []
    assert names(store, "new") == ["renamed"]


def test_operators_narrow_and_a_namespace_that_is_not_allowed_shows_nothing(store: Store) -> None:
    declare(store, "a", agentRef={"name": "links"})
    declare(store, "b", namespace="acme")
    declare(store, "c", kind="Goal")
    indexed(store)
    assert names(store, "kind:mission") == ["b", "a"]
    assert names(store, "kind:mi kind:goals ns:default") == ["c", "a"]
    assert names(store, "agent:LINKS") == ["a"]
    assert names(store, "ns:acme") == ["b"]
    assert store.search(Question(("b",), namespaces=frozenset())) == []


def test_secrets_of_a_spec_cannot_be_searched_for(store: Store) -> None:
    declare(store, "a", env=[{"name": "X", "value": "hunter2"}], apiKey="hunter2", password="hunter2")
    indexed(store)
    assert names(store, "hunter2") == []


def test_accents_and_case_do_not_matter(store: Store) -> None:
    declare(store, "a", description="Größe der CAFÉS, naïve\u0000 \ud800 日本語")
    indexed(store)
    for text in ("grosse", "cafes", "CAFÉ", "naive", "日本語"):
        assert names(store, text) == ["a"], text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(max_size=60)
    | st.sampled_from(['"', "a OR", "NEAR(", "title_words : x", "a* ^b", "' :*", "%", "\\", "kind:"])
)
def test_no_question_is_an_error(store: Store, text: str) -> None:
    found = store.search(question_of(text))
    assert found == []
    cut = snippet(text, question_of(text))
    assert all(0 <= a < b <= len(cut.text) for a, b in cut.ranges)


def test_an_index_that_a_backup_set_back_is_made_anew(store: Store) -> None:
    declare(store, "a", description="first")
    indexed(store)
    with store.transaction(ALICE) as tx:
        tx.remove(tx.objects("Mission")[0])
        tx.prune_tombstones(tx.latest_version())
    declare(store, "b", description="second")
    with store.transaction(ALICE) as tx:
        tx.prune_tombstones(tx.latest_version())
    indexed(store)
    assert names(store, "first") == []
    assert names(store, "second") == ["b"]


@pytest.mark.parametrize(("text", "piece"), [("Pay the invoice now", "invoice"), ("x " * 300 + "Invoice!", "Invoice")])
def test_a_snippet_says_where_the_words_stand(text: str, piece: str) -> None:
    cut = snippet(text, question_of("invoice"))
    assert [cut.text[a:b] for a, b in cut.ranges] == [piece]


def test_folding_keeps_letters_and_digits() -> None:
    assert fold("Éa1") == "ea1"


def test_an_index_of_before_is_made_anew(store: Store) -> None:
    declare(store, "a", description="old words")
    indexed(store)
    with store._backend.writing() as session:  # type: ignore[attr-defined]
        session.run(Statement(sa.text("UPDATE search_docs SET digest = '0'")))
    assert store.index_search(100) > 0
    assert names(store, "old") == ["a"]
    assert store.index_search(100) == 0


OLD_ROW = sa.text(
    "INSERT INTO search_docs (id, ref, kind, namespace, name, uid, state, agent, at, digest, title_words, words)"
    " VALUES (:id, :uid, 'Mission', 'default', :name, :uid, '', '', 0, 'n', :title, :words)"
)


def test_what_the_version_before_had_indexed_is_found_and_forgotten_after_the_migration(harness: Harness) -> None:
    first = harness.open()
    for name in ("ztzta", "b"):
        declare(first, name, description="the invoice")
    with first.snapshot() as snapshot:
        uids = {each.name: each.uid for each in snapshot.objects("Mission")}
    first.close()
    migrate.downgrade(harness.url, "0005", now=harness.clock)
    mark = place_word("default")
    with migrate._opened(harness.url) as backend:
        engine = backend.sqlalchemy_engine()
        with engine.begin() as connection:
            connection.execute(OLD_ROW, [
                {"id": number, "uid": uids[name], "name": name, "title": f"zt{name} {mark}",
                 "words": f"{name} invoice the {mark}"}
                for number, name in enumerate(uids, start=1)
            ])  # fmt: skip
        engine.dispose()
    migrate.upgrade(harness.url, now=harness.clock)
    store = harness.open()
    newest_first = list(reversed(uids))
    assert names(store, "invoice ") == names(store, "invoice ns:default") == newest_first
    assert names(store, "invoice ztzta ") == ["ztzta"]
    assert names(store, "ztztzta ") == []
    indexed(store)
    assert sorted(names(store, "invoice kind:mission")) == ["b", "ztzta"]
    with store.transaction(ALICE) as tx:
        tx.remove(tx.objects("Mission")[0])
    indexed(store)
    assert len(names(store, "invoice kind:mission")) == 1


def test_titles_and_texts_of_a_common_word_are_told_apart_in_one_namespace_of_many(store: Store) -> None:
    declare(store, "first-invoice")
    for number in range(25):
        declare(store, f"m-{number:02}", description="an invoice of a page")
        declare(store, f"n-{number:02}", namespace="acme", description="an invoice of a page")
    declare(store, "z", title="a page")
    indexed(store)
    ours = [f"m-{number:02}" for number in range(24, -1, -1)]
    for question in ("invoice ns:default kind:mission ", "invoic ns:default kind:mission"):
        assert names(store, question, limit=3) == ["first-invoice", "m-24", "m-23"]
        assert names(store, question, limit=100) == ["first-invoice", *ours]
    assert names(store, "invoice page ns:default kind:mission", limit=2) == ["m-24", "m-23"]
    assert names(store, "page ns:default ns:acme kind:mission", limit=3) == ["z", "n-24", "m-24"]
    declare(store, "late-invoice")
    indexed(store)
    assert names(store, "invoice ns:default kind:mission ", limit=1) == ["late-invoice"]
    assert names(store, "invoice ns:default kind:mission ", limit=3) == ["late-invoice", "first-invoice", "m-24"]


def test_an_old_title_comes_before_texts_that_are_neither_among_the_newest_nor_few(store: Store) -> None:
    declare(store, "first-invoice")
    for number in range(3):
        declare(store, f"m-{number}", description="an invoice")
    for number in range(12):
        declare(store, f"n-{number:02}")
    indexed(store)
    for question in ("invoice ns:default ", "invoic ns:default"):
        assert names(store, f"kind:mission {question}", limit=2) == ["first-invoice", "m-2"]
