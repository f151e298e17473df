"""What runs cost: priced, recorded, added up, and never different from the ledger."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controllers.runs import reports
from controllers.runs.costs import gather
from controllers.runs.once import Once
from controllers.runs.verdict import Share
from decisions.costs import By, Figures, add_up
from schemas.mission import Spend
from schemas.resource import SYSTEM
from schemas.run import RunState
from store.contract import EntryKind
from tests.fakes.world import World, agent, executor, mission

MODEL = "{providerRef: {name: lab}, primary: some-model}"


def provider(*prices: str, name: str = "lab") -> str:
    """A Provider with prices, each as YAML flow text."""
    listed = "".join(f"\n    - {p}" for p in prices)
    return f"apiVersion: remit.dev/v1alpha1\nkind: Provider\nmetadata: {{name: {name}}}\nspec:\n  prices:{listed}\n"


PLAIN = "{model: some-model, inputPerMillion: 2, outputPerMillion: 10}"


def fleet(world: World, count: int = 1, *prices: str, model: str = MODEL, **spec: object) -> None:
    """An agent with a model, a provider with those prices, and so many missions."""
    text = "---\n".join([executor(), agent(model=model, maxConcurrentMissions=20), provider(*(prices or (PLAIN,)))])
    world.commit({"fleet.yaml": text, **{f"m{n}.yaml": mission(f"m{n}", **spec) for n in range(count)}})
    world.sync()


def use(world: World, run: str, key: str, model: str = "some-model", **figures: Any) -> None:
    """The agent reports."""
    cache = {name: figures.pop(name, 0) for name in ("cache_read", "cache_write")}
    spend = Spend(**{"source": "Reported", **figures})
    with world.store.transaction(SYSTEM) as tx:
        reports.use(tx, world.get("Run", run).uid, Share(model, spend, **cache), once=Once(key, key))
    world.settle()


def records(world: World) -> list[dict[str, Any]]:
    return [r.spec for r in world.everything() if r.kind == "UsageRecord"]


def settled(world: World) -> int:
    """What the ledger says that runs cost."""
    with world.store.snapshot() as snapshot:
        entries = snapshot.ledger(limit=100_000)
    return sum(e.amounts.usd_micros for e in entries if e.kind is EntryKind.SETTLE and any(
        account.startswith("tenant/") for account in e.accounts))  # fmt: skip


def total(world: World, by: By = By.AGENT) -> Figures:
    with world.store.snapshot() as snapshot:
        return add_up(gather(snapshot, namespace=None), by).total


def test_tokens_without_money_are_priced_and_the_record_says_at_which_price(world: World) -> None:
    fleet(world)
    use(world, "m0-1", "a", input_tokens=10_000, output_tokens=1_000)
    status = world.get("Run", "m0-1").status
    assert (status["spend"]["usd"], status["spend"]["source"]) == ("0.03", "Priced")
    world.finish("m0-1")
    [record] = records(world)
    assert (record["source"], record["usd"], record["model"]) == ("Priced", "0.03", "some-model")
    assert record["price"] == "default/lab@1 some-model"
    assert record["providerRef"] == {"name": "lab"}
    assert settled(world) == 30_000


def test_a_changed_price_counts_for_what_is_used_from_then_on(world: World) -> None:
    fleet(world, 2)
    use(world, "m0-1", "a", input_tokens=10_000)
    world.finish("m0-1")
    use(world, "m1-1", "a", input_tokens=10_000)
    dearer = PLAIN.replace("inputPerMillion: 2", "inputPerMillion: 4")
    world.commit(
        {"fleet.yaml": "---\n".join([executor(), agent(model=MODEL, maxConcurrentMissions=20), provider(dearer)])}
    )
    world.sync()
    before = [(r["usd"], r["price"]) for r in records(world)]
    use(world, "m1-1", "b", input_tokens=10_000)
    world.finish("m1-1")
    assert before == [("0.02", "default/lab@1 some-model")]
    assert sorted((r["usd"], r["price"]) for r in records(world)) == [
        ("0.02", "default/lab@1 some-model"),
        ("0.02", "default/lab@1 some-model"),
        ("0.04", "default/lab@2 some-model"),
    ]


def test_a_price_takes_effect_on_its_day(world: World) -> None:
    soon = world.now + timedelta(minutes=30)
    later = PLAIN.replace("inputPerMillion: 2", f"inputPerMillion: 4, effectiveFrom: '{soon.isoformat()}'")
    fleet(world, 1, PLAIN, later)
    use(world, "m0-1", "a", input_tokens=10_000)
    world.clock.tick(1800)
    use(world, "m0-1", "b", input_tokens=10_000)
    assert world.get("Run", "m0-1").status["spend"]["usd"] == "0.06"


def test_a_model_without_a_price_counts_as_the_worst_case_and_says_so(world: World) -> None:
    fleet(world)
    use(world, "m0-1", "a", input_tokens=10_000)
    use(world, "m0-1", "b", model="unheard-of", input_tokens=5, output_tokens=7)
    world.finish("m0-1")
    [event] = [e for e in world.events("UsageRecorded") if e.reason == "Unpriced"]
    assert "unheard-of, for which no Provider has a price" in event.message
    ended = world.events("RunFinished")[0]
    assert (ended.data["settledUsdMicros"], ended.data["usageReason"]) == (250_000, "Unpriced")
    assert [(r["source"], r.get("usd"), r["unpriced"]) for r in records(world)] == [
        ("Priced", "0.02", False),
        ("Unknown", None, True),
        ("Unknown", "0.23", False),
    ]
    assert (total(world).settled, total(world).unknown) == (20_000, 230_000)


def test_a_model_that_nobody_named_is_priced_as_the_dearest_the_agent_may_use(world: World) -> None:
    dear = "{model: dear, inputPerMillion: 8, outputPerMillion: 8}"
    fleet(world, 1, PLAIN, dear, model="{providerRef: {name: lab}, primary: some-model, fallback: [dear]}")
    use(world, "m0-1", "a", model="", input_tokens=10_000)
    spend = world.get("Run", "m0-1").status["spend"]
    assert (spend["usd"], spend["source"]) == ("0.08", "Estimated")


def test_an_agent_without_a_provider_is_priced_by_any_of_its_namespace(world: World) -> None:
    fleet(world, model="{primary: some-model}")
    use(world, "m0-1", "a", input_tokens=10_000, cache_read=4_000)
    assert world.get("Run", "m0-1").status["spend"]["usd"] == "0.02"


def test_a_run_that_is_priced_beyond_its_reservation_is_stopped(world: World) -> None:
    fleet(world)
    use(world, "m0-1", "a", input_tokens=126_000)
    assert world.canceled == ["m0-1"]


def test_work_of_several_models_is_recorded_by_model(world: World) -> None:
    fleet(world, 1, PLAIN, "{model: other*, inputPerMillion: 1, outputPerMillion: 1}")
    use(world, "m0-1", "a", input_tokens=10_000)
    use(world, "m0-1", "b", model="other-1", input_tokens=10_000)
    use(world, "m0-1", "c", usd=Decimal("0.005"))
    world.finish("m0-1")
    found = sorted((r["model"], r["source"], r["usd"]) for r in records(world))
    assert found == [
        ("other-1", "Priced", "0.01"),
        ("some-model", "Priced", "0.02"),
        ("some-model", "Reported", "0.005"),
    ]
    with world.store.snapshot() as snapshot:
        rows = add_up(gather(snapshot, namespace="default"), By.MODEL).rows
    assert [(name, f.settled) for name, f in rows] == [("other-1", 10_000), ("some-model", 25_000)]


def test_a_run_that_never_started_cost_nothing(world: World) -> None:
    from schemas.run import RunReason

    fleet(world)
    world.finish("m0-1", state=RunState.CANCELED, reason=RunReason.CANCELED)
    assert sum(Decimal(r["usd"]) for r in records(world)) * 10**6 == settled(world)


reported = st.one_of(
    st.none(),
    st.builds(dict, usd=st.decimals(0, 1, places=6), source=st.sampled_from(["Reported", "Estimated", "Unknown"])),
    st.builds(
        dict,
        input_tokens=st.integers(0, 10**12),
        output_tokens=st.integers(0, 10**12),
        model=st.sampled_from(["some-model", "unheard-of", "", "=cmd()"]),
        source=st.sampled_from(["Reported", "Unknown"]),
    ),
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.lists(reported, max_size=3), min_size=1, max_size=4), st.integers(0, 2))
def test_whatever_is_reported_the_records_come_to_what_the_ledger_holds(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[dict[str, Any] | None]], left_open: int
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    try:
        fleet(world, len(runs))
        for number, parts in enumerate(runs):
            name = f"m{number}-1"
            if name not in world.started:
                continue
            for place, part in enumerate(parts):
                if part is not None and world.get("Run", name).state == "Running":
                    use(world, name, f"k{place}", **dict(part))
            if number >= left_open:
                world.finish(name)
            for by in By:
                found = total(world, by)
                with world.store.snapshot() as snapshot:
                    held = sum(e.amounts.usd_micros for e in snapshot.open_reservations())
                assert (found.settled + found.unknown, found.reserved) == (settled(world), held)
                assert all(value >= 0 for value in asdict(found).values())
        world.check()
    finally:
        world.close()
