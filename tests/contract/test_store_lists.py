"""Lists: filters combine, order is by identity, pages continue where the last one ended."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from schemas.base import Key
from schemas.resource import Resource
from store.contract import Snapshot, Store
from tests.fakes.stores import ALICE, mission

LABELS = [{}, {"team": "docs"}, {"team": "docs", "tier": "1"}, {"team": "Docs"}, {"a_b": "x"}, {"a-b": "x"}]
STATES = ["", "Inbox", "Done", "Blocked"]


@pytest.fixture
def crowd(store: Store) -> list[Resource]:
    """120 objects of two kinds, created in no order, with every mix of namespace, state, labels, owner and unit."""
    numbers = list(range(120))
    random.Random(7).shuffle(numbers)
    with store.transaction(ALICE) as tx:
        for i in numbers:
            state = STATES[i % 4]
            tx.create(
                mission(
                    f"m{i:03d}",
                    kind="Agent" if i % 10 == 0 else "Mission",
                    namespace=["alpha", "beta", ""][i % 3],
                    labels=LABELS[i % 6],
                ),
                status={"state": state} if state else {},
                owner_uid=f"owner{i % 2}",
                unit=["", "u1", "u2"][i // 3 % 3],
            )
        made = tx.objects("Mission") + tx.objects("Agent")
    return sorted(made, key=lambda r: (r.kind, r.namespace, r.name))


def names(found: list[Resource]) -> list[str]:
    return [f"{r.namespace}/{r.name}" for r in found]


def test_a_kind_is_listed_by_namespace_and_name(store: Store, crowd: list[Resource]) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.objects("Mission") == [r for r in crowd if r.kind == "Mission"]
        assert snapshot.objects("Agent") == [r for r in crowd if r.kind == "Agent"]
        assert snapshot.objects("Nothing") == []


@pytest.mark.parametrize("namespace", [None, "alpha", "", "gamma"])
@pytest.mark.parametrize("labels", [None, {}, {"team": "docs"}, {"team": "docs", "tier": "1"}, {"a_b": "x"}])
@pytest.mark.parametrize("states", [None, [], ["Done"], ["Inbox", ""]])
@pytest.mark.parametrize("owner", [None, "owner1"])
def test_filters_combine(
    store: Store,
    crowd: list[Resource],
    namespace: str | None,
    labels: dict[str, str] | None,
    states: list[str] | None,
    owner: str | None,
) -> None:
    def wanted(r: Resource) -> bool:
        return (
            r.kind == "Mission"
            and (namespace is None or r.namespace == namespace)
            and all(r.labels.get(k) == v for k, v in (labels or {}).items())
            and (states is None or r.state in states)
            and (owner is None or r.owner_uid == owner)
        )

    expected = [r for r in crowd if wanted(r)]
    with store.snapshot() as snapshot:
        filters = {"namespace": namespace, "states": states, "owner_uid": owner}
        assert snapshot.objects("Mission", labels=labels, **filters) == expected
        for unit in ("", "u1"):
            in_unit = [r for r in expected if r.unit == unit]
            assert snapshot.objects("Mission", labels=labels, unit=unit, **filters) == in_unit
        if not labels:
            assert snapshot.count("Mission", **filters) == len(expected)


@pytest.mark.parametrize("labels", [None, {"team": "docs"}])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pages_put_together_are_the_whole_list(
    store: Store, crowd: list[Resource], labels: dict[str, str] | None, size: int
) -> None:
    def pages(snapshot: Snapshot) -> list[Resource]:
        found: list[Resource] = []
        while page := snapshot.objects(
            "Mission", labels=labels, limit=size, after=(found[-1].namespace, found[-1].name) if found else None
        ):
            assert len(page) <= size
            found += page
        return found

    with store.snapshot() as snapshot:
        assert names(pages(snapshot)) == names(snapshot.objects("Mission", labels=labels))


@pytest.mark.parametrize("labels", [None, {"team": "docs"}])
def test_a_limit_of_nothing_gives_nothing(store: Store, crowd: list[Resource], labels: dict[str, str] | None) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.objects("Mission", labels=labels, limit=0) == []


def test_a_page_goes_on_behind_an_object_that_is_gone(store: Store, crowd: list[Resource]) -> None:
    with store.snapshot() as snapshot:
        whole = snapshot.objects("Mission")
    with store.transaction(ALICE) as tx:
        tx.remove(whole[9])
    with store.snapshot() as snapshot:
        assert snapshot.objects("Mission", after=(whole[9].namespace, whole[9].name)) == whole[10:]


@pytest.mark.parametrize("hostile", ['"', "%", "_", "\\", "/", "'; DROP TABLE objects; --", "x" * 5_000, "ü", "\ud800"])
def test_a_label_selector_is_taken_literally(store: Store, crowd: list[Resource], hostile: str) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission("odd", labels={"k": hostile}))
        tx.create(mission("even", labels={"k": f"{hostile}x"}))
    with store.snapshot() as snapshot:
        assert snapshot.objects("Mission", labels={"team": hostile}) == []
        assert snapshot.objects("Mission", labels={hostile: "docs"}) == []
        if hostile != "\ud800":
            assert snapshot.objects("Mission", labels={"k": hostile}) == [made]


def test_many_labels_must_all_match(store: Store) -> None:
    many = {f"k{i}": str(i) for i in range(20)}
    with store.transaction(ALICE) as tx:
        made = tx.create(mission("all", labels=many))
        tx.create(mission("but-one", labels={**many, "k19": "other"}))
        assert tx.objects("Mission", labels=many) == [made]


def test_the_inventory_of_a_unit_holds_every_kind(store: Store, crowd: list[Resource]) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.list_unit("u1") == [r for r in crowd if r.unit == "u1"]
        assert {r.kind for r in snapshot.list_unit("u1")} == {"Agent", "Mission"}
        assert snapshot.list_unit("nowhere") == []
        assert snapshot.unit_keys("u1") == [r.key for r in crowd if r.unit == "u1"]
        assert snapshot.unit_keys("nowhere") == []


def test_whose_objects_are_is_told_of_those_that_are_there(store: Store, crowd: list[Resource]) -> None:
    with store.snapshot() as snapshot:
        asked = [*(r.key for r in crowd), Key("Mission", "default", "nobody")]
        assert snapshot.units_of(asked) == {r.key: r.unit for r in crowd}
        assert snapshot.units_of([]) == {}


def test_names_sort_by_code_point_whatever_the_database_thinks_of_language(store: Store) -> None:
    odd = ["b", "B", "a-b", "a.b", "ab", "a0", "ä", "Z"]
    with store.transaction(ALICE) as tx:
        tx.create_many([mission(name) for name in odd])
        assert [r.name for r in tx.objects("Mission")] == sorted(odd)
        assert [r.name for r in tx.objects("Mission", after=("default", "a."))] == [n for n in sorted(odd) if n > "a."]


def test_a_list_inside_a_transaction_shows_its_own_writes(store: Store, crowd: list[Resource]) -> None:
    with store.transaction(ALICE) as tx:
        before = tx.count("Agent")
        tx.remove(crowd[0])
        made = tx.create(mission("zzz", kind="Agent", namespace="zzz"), unit="u1")
        assert tx.count("Agent") == before
        assert tx.objects("Agent")[-1] == made
        assert crowd[0] not in tx.objects("Agent")
        assert made in tx.list_unit("u1")
        assert tx.get_many([made.key, crowd[0].key]) == {Key("Agent", "zzz", "zzz"): made}


def test_what_is_written_is_what_is_listed(store: Store, crowd: list[Resource]) -> None:
    places, states, limits = (None, "alpha", "beta", ""), (None, "Done"), (None, 0, 7)
    with store.snapshot() as snapshot:
        for place, state, limit in itertools.product(places, states, limits):
            for after in (None, ("alpha", "m050"), ("zeta", "")):
                wanted = None if state is None else [state]
                objects = snapshot.objects("Mission", namespace=place, states=wanted, limit=limit, after=after)
                found = snapshot.written("Mission", namespace=place, state=state, limit=limit, after=after)
                assert [(w.uid, w.resource_version) for w in found] == [(o.uid, o.resource_version) for o in objects]
                assert [json.loads(w.spec) for w in found] == [o.spec for o in objects]
