"""Agents that share a Provider: its slots, its pauses, and what missions that wait for one say."""

from __future__ import annotations

from decimal import Decimal

import pytest

from controllers.reconcilers import spawning
from controllers.runs import reports
from controllers.runs.once import Once
from controllers.runs.verdict import Share
from schemas.event import EventType
from schemas.mission import MissionState, Spend
from schemas.protocol import ProviderErrorMessage, SpawnMessage, SubAgentBudget
from schemas.run import RunReason, RunState
from store.contract import Transaction
from tests.fakes.world import ALICE, World, agent, executor, mission

SQLITE = pytest.mark.parametrize("backend", ["sqlite"])
MODEL = "{providerRef: {name: lab}, primary: some-model}"
UNNAMED = "{primary: some-model}"


def provider(name: str = "lab", **spec: object) -> str:
    lines = "".join(f"  {key}: {value}\n" for key, value in spec.items()) or "  description: a lab\n"
    return f"apiVersion: remit.dev/v1alpha1\nkind: Provider\nmetadata: {{name: {name}}}\nspec:\n{lines}"


def fleet(world: World, agents: int = 6, *more: str, model: str = MODEL, **spec: object) -> None:
    """So many agents that use a model, each with one mission."""
    docs = [executor(), *more]
    docs += [agent(f"a{n}", model=model, **spec) for n in range(agents)]
    docs += [mission(f"m{n}", agent=f"a{n}", retry="{maxAttempts: 1}") for n in range(agents)]
    world.commit({"fleet.yaml": "---\n".join(docs)})
    world.sync()


def running(world: World) -> list[str]:
    with world.store.snapshot() as snapshot:
        return [run.name for run in snapshot.objects("Run", states=("Pending", "Running"))]


def waits(world: World, name: str) -> list[tuple[str, str]]:
    return [(b.type, b.ref) for b in world.status(name).blocked_on]


_keys = iter(range(10**6))


def refuse(world: World, run: str, status: int = 429, after: int | None = None, *, last: bool = False) -> None:
    """The agent of a run says that its provider refused, as its last word or while it goes on."""
    said = ProviderErrorMessage(status=status, retry_after_seconds=after, message="slow down")
    uid, once = world.get("Run", run).uid, Once.of(f"k{next(_keys)}", b"x", b"")

    def report(tx: Transaction) -> None:
        if last:
            reports.fail(tx, uid, "Overloaded", "it said no", retryable=False, refused=said, once=once)
        else:
            reports.use(tx, uid, Share("", Spend(source="Reported")), refused=said, once=once)

    with world.store.transaction(ALICE) as tx:
        report(tx)
    world.settle()


def test_no_more_runs_than_slots_and_each_that_ends_lets_the_next_one_in(world: World) -> None:
    fleet(world, 6, provider(maxConcurrency=2))
    assert len(running(world)) == 2
    status = world.get("Provider", "lab").status
    assert (status["inUse"], status["waiting"]) == (2, 4)
    assert world.reason("Provider", "lab", "Ready") == "True/Reconciled"
    for _ in range(6):
        open_now = running(world)
        assert len(open_now) <= 2
        world.finish(open_now[0])
    assert len(set(world.started)) == 6
    assert all(world.state(f"m{n}") is MissionState.DONE for n in range(6))
    assert world.get("Provider", "lab").status.get("inUse", 0) == 0


@SQLITE
def test_a_provider_that_nobody_declared_has_three_slots(world: World) -> None:
    fleet(world, 5)
    assert len(running(world)) == 3


@SQLITE
def test_models_without_a_provider_share_the_one_called_default(world: World) -> None:
    fleet(world, 5, model=UNNAMED)
    assert len(running(world)) == 3
    world.commit({"p.yaml": provider("default", maxConcurrency=4)})
    world.sync()
    assert len(running(world)) == 4


@SQLITE
def test_agents_without_a_model_need_no_slot(world: World) -> None:
    docs = [executor(), *(agent(f"a{n}") for n in range(5)), *(mission(f"m{n}", agent=f"a{n}") for n in range(5))]
    world.commit({"fleet.yaml": "---\n".join(docs)})
    world.sync()
    assert len(running(world)) == 5


@SQLITE
def test_a_mission_that_waits_for_a_slot_says_so(world: World) -> None:
    fleet(world, 2, provider(maxConcurrency=1))
    (name,) = {"m0", "m1"} - {run.partition("-")[0] for run in running(world)}
    assert waits(world, name) == [("Provider", "Provider/default/lab"), ("Capacity", f"Agent/default/a{name[1:]}")]
    assert "all 1 slots of provider/lab are taken" in world.status(name).blocked_on[0].hint


@SQLITE
def test_more_slots_start_more_at_once_and_fewer_stop_nothing(world: World) -> None:
    fleet(world, 6, provider(maxConcurrency=1))
    assert len(running(world)) == 1
    world.commit({"fleet.yaml": (world.repo.path / "fleet.yaml").read_text().replace("ncy: 1", "ncy: 4")})
    world.sync()
    assert len(running(world)) == 4
    world.commit({"fleet.yaml": (world.repo.path / "fleet.yaml").read_text().replace("ncy: 4", "ncy: 2")})
    world.sync()
    assert len(running(world)) == 4
    for run in running(world)[:3]:
        world.finish(run)
    assert len(running(world)) == 2


@SQLITE
def test_a_suspended_provider_starts_nothing_and_says_how_to_go_on(world: World) -> None:
    fleet(world, 2, provider(suspend="true"))
    assert running(world) == []
    assert world.reason("Provider", "lab", "Ready") == "False/Suspended"
    assert "set it to false" in world.status("m0").blocked_on[0].hint
    world.commit(
        {"fleet.yaml": (world.repo.path / "fleet.yaml").read_text().replace("suspend: true", "suspend: false")}
    )
    world.sync()
    assert len(running(world)) == 2


def test_a_provider_that_refuses_is_left_alone_by_everybody_until_it_said(world: World) -> None:
    fleet(world, 4, provider(maxConcurrency=2))
    first, second = running(world)
    refuse(world, first, 429, 90)
    status = world.get("Provider", "lab").status
    assert world.reason("Provider", "lab", "Ready") == "False/BackingOff"
    assert status["lastError"] == "429 slow down"
    until = status["backoffUntil"]
    world.finish(first)
    world.finish(second)
    assert running(world) == []
    rest = [f"m{n}" for n in range(4) if world.state(f"m{n}") is MissionState.ASSIGNED]
    assert len(rest) == 2
    for name in rest:
        blocked = world.get("Mission", name).status["blockedOn"][0]
        assert (blocked["type"], blocked["ref"], blocked["until"]) == ("Provider", "Provider/default/lab", until)
    world.advance(89)
    assert running(world) == []
    world.advance(2)
    assert len(running(world)) == 2
    assert world.reason("Provider", "lab", "Ready") == "True/Reconciled"
    assert "backoffUntil" not in world.get("Provider", "lab").status
    assert [e.data["run"] for e in world.events(EventType.PROVIDER_PAUSED)] == [first]


@SQLITE
def test_an_attempt_that_ended_because_the_provider_refused_costs_none(world: World) -> None:
    fleet(world, 1, provider(backoff="{initial: 1m, max: 1m, jitter: 0}"))
    refuse(world, "m0-1", 503, last=True)
    world.finish("m0-1", state=RunState.FAILED)
    status = world.status("m0")
    assert (status.state, status.attempts, status.overloads) == (MissionState.IN_PROGRESS, 0, 1)
    assert world.get("Run", "m0-1").status["reason"] == "ProviderOverloaded"
    assert running(world) == []
    world.advance(62)
    assert running(world) == ["m0-2"]
    world.finish("m0-2")
    assert (world.state("m0"), world.status("m0").overloads) == (MissionState.DONE, 0)


@SQLITE
def test_a_program_whose_output_says_that_it_was_refused_pauses_the_others(world: World) -> None:
    fleet(world, 2, provider(maxConcurrency=1))
    (first,) = running(world)
    world.finish(first, state=RunState.FAILED, reason=RunReason.PROVIDER_OVERLOADED, message="API answered 529")
    assert running(world) == []
    assert world.get("Provider", "lab").status["lastError"] == "API answered 529"
    world.advance(10)
    assert len(running(world)) == 1


@SQLITE
def test_a_provider_that_refuses_for_ever_ends_in_the_dead_letter_and_retry_begins_anew(world: World) -> None:
    fleet(world, 1, provider())
    for number in range(1, 12):
        assert running(world) == [f"m0-{number}"], world.status("m0").blocked_on
        free = Spend(usd=Decimal(0), source="Reported")
        overloaded = RunReason.PROVIDER_OVERLOADED
        world.finish(f"m0-{number}", state=RunState.FAILED, reason=overloaded, message="429", spend=free)
        world.advance(700)
    status = world.status("m0")
    assert (status.state, status.failure and status.failure.reason) == (MissionState.FAILED, "ProviderOverloaded")
    assert status.attempts == 1


@SQLITE
def test_an_error_that_is_no_overload_pauses_nobody(world: World) -> None:
    fleet(world, 1, provider())
    refuse(world, "m0-1", 400)
    assert "backoffUntil" not in world.get("Provider", "lab").status
    assert world.get("Run", "m0-1").status["providerError"]["status"] == 400


@SQLITE
def test_a_rate_that_is_used_up_waits_for_the_next_minute(world: World) -> None:
    fleet(world, 3, provider(maxConcurrency=1, rateLimit="{tokensPerMinute: 1000}"))
    (first,) = running(world)
    used = Share("some-model", Spend(input_tokens=900, output_tokens=200, source="Reported"))
    with world.store.transaction(ALICE) as tx:
        reports.use(tx, world.get("Run", first).uid, used, once=Once.of("k", b"x", b""))
    world.finish(first)
    assert running(world) == []
    assert world.reason("Provider", "lab", "Ready") == "False/RateLimited"
    assert world.get("Provider", "lab").status["minute"]["tokens"] == 1100
    world.advance(61)
    assert len(running(world)) == 1


@SQLITE
def test_a_pause_survives_the_death_of_the_engine(world: World) -> None:
    fleet(world, 2, provider(maxConcurrency=1))
    (first,) = running(world)
    refuse(world, first, 429, 60)
    world.finish(first)
    world.restart()
    assert running(world) == []
    world.advance(61)
    assert len(running(world)) == 1


@SQLITE
def test_a_provider_in_use_waits_with_its_deletion(world: World) -> None:
    fleet(world, 1, model=UNNAMED.replace("primary", "providerRef: {name: lab}, primary"))
    world.commit({"p.yaml": provider()})
    world.sync()
    assert world.reason("Provider", "lab", "Ready") == "True/Reconciled"
    world.commit(delete=("p.yaml",))
    world.sync()
    assert world.reason("Provider", "lab", "Ready") == "True/InUse"
    text = (world.repo.path / "fleet.yaml").read_text()
    world.commit({"fleet.yaml": text.replace("providerRef: {name: lab}, ", "")})
    world.sync()
    world.finish("m0-1")
    assert world.find("Provider", "lab") is None


@SQLITE
def test_the_slots_of_a_pool_go_around_among_its_agents(world: World) -> None:
    """One agent has asked for much, long before; the other for a little, now: they take turns."""
    docs = [executor(), provider(maxConcurrency=1)]
    docs += [agent(name, model=MODEL, maxConcurrentMissions=5) for name in ("busy", "late")]
    world.commit({"f.yaml": "---\n".join(docs + [mission(f"b{n}", agent="busy") for n in range(8)])})
    world.sync()
    world.advance(3 * 3600)
    world.commit({"l.yaml": "---\n".join(mission(f"l{n}", agent="late") for n in range(3))})
    world.sync()
    for _ in range(8):
        world.finish(running(world)[0])
    names = [name[0] for name in world.started]
    assert names.count("l") == 3, names
    event = world.events(EventType.DISPATCHED)[-1]
    assert {"age", "ahead", "waiting", "slotsFree", "effectivePriority", "waited"} <= event.data.keys()


@SQLITE
def test_a_run_that_waits_for_its_sub_agent_leaves_its_slot_to_it(world: World) -> None:
    """Else as many parents as there are slots would wait for ever."""
    sub_agents = "{allowed: true, max: 3}"
    level = {"autonomyLevel": "Lead", "subAgents": sub_agents}
    fleet(world, 2, provider(maxConcurrency=1), **level)
    (parent,) = running(world)
    with world.store.transaction(ALICE) as tx:
        for name in ("one", "two"):
            wish = SpawnMessage(name=name, title="a part", budget=SubAgentBudget(usd=Decimal("0.1")))
            spawning.spawn(tx, world.get("Run", parent).uid, wish, once=Once.of(name, b"x", b""))
    world.settle()
    children = [run for run in running(world) if run != parent]
    assert len(children) == 1, "the second one waits: the slot is taken again"
    assert world.get("Provider", "lab").status["inUse"] == 1
    world.finish(children[0])
    (second,) = (run for run in running(world) if run != parent)
    assert second != children[0]
    world.finish(second)
    assert running(world) == [parent]
    world.finish(parent)
    assert len(running(world)) == 1
