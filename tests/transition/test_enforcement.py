"""How tightly an agent is held, as its runs go by: from the gate over the end of a run to the agent's status."""

from __future__ import annotations

from typing import cast

import pytest

from cli.description import describe_object
from controllers.effects.runs import RunContext, order_of
from controllers.runs import reports
from controllers.runs.once import Once
from controllers.runs.run_record import agent_actor
from controllers.runs.tokens import RunTokens
from decisions import enforcement
from schemas.agent import AgentStatus
from schemas.passage import CallChannel, Passage
from schemas.protocol import ToolResultMessage
from tests.fakes.gates import Desk
from tests.fakes.world import EXECUTOR, World, agent, mission

HOOK = Passage(channel=CallChannel.HOOK, placed=True)
DAY = 24 * 3600


@pytest.fixture
def desk(world: World) -> Desk:
    """A specialist who works on mission/a in run a-1."""
    world.commit(
        {
            "executor.yaml": EXECUTOR,
            "agent.yaml": agent(autonomyLevel="Specialist", tools="[{name: '*'}]"),
            "a.yaml": mission("a"),
        }
    )
    world.sync()
    return Desk(world)


def held(world: World) -> AgentStatus:
    return AgentStatus.model_validate(world.get("Agent", "worker").status)


def another(world: World, name: str) -> str:
    world.commit({f"{name}.yaml": mission(name)})
    world.sync()
    return f"{name}-1"


def told(world: World, run: str, key: str) -> None:
    """A result of a call that nobody asked about."""
    resource = world.get("Run", run)
    with world.store.transaction(agent_actor(resource)) as tx:
        message = ToolResultMessage(tool="shell_exec", ok=True, call_key=key)
        reports.tool_result(tx, resource.uid, message, once=Once.of(key))
    world.settle()


def test_an_agent_begins_observed_and_is_gated_by_a_placed_hook(world: World, desk: Desk) -> None:
    assert (held(world).enforcement, held(world).enforcement_message) == ("Observed", "no run has used a tool yet")
    call = desk.ask("a-1", "read_file", {"path": "x"}, passage=HOOK)
    assert (desk.call(call).spec["channel"], desk.call(call).spec["placed"]) == ("hook", True)
    desk.report("a-1", call)
    world.finish("a-1")
    assert held(world).enforcement == "Gated"
    assert [e.run for e in held(world).evidence] == ["a-1"]
    event = world.events("EnforcementChanged")[-1]
    assert (event.reason, event.data["was"]) == ("Gated", "Observed")
    with world.store.snapshot() as snapshot:
        text = describe_object(snapshot, world.get("Agent", "worker"), world.now)
    assert "Gated: the last run that used tools asked through hook, put there by the engine" in text
    assert "hook (placed)" in text


def test_a_call_that_went_around_shows_until_enough_runs_have_followed(
    world: World, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforcement, "KEPT", 2)  # ten, in truth
    desk.report("a-1", desk.ask("a-1", "read_file", {"path": "x"}, passage=HOOK))
    told(world, "a-1", "unknown")
    world.finish("a-1")
    assert held(world).enforcement == "Advised"
    assert "run a-1 reported 1 calls that it had not put before the gate" in held(world).enforcement_message
    for number in range(2):
        assert held(world).enforcement == "Advised"
        run = another(world, f"m{number}")
        desk.report(run, desk.ask(run, "read_file", {"path": "x"}, passage=HOOK))
        world.finish(run)
    assert held(world).enforcement == "Gated"


def test_a_client_is_advice_and_evidence_fades_with_time(world: World, desk: Desk) -> None:
    desk.report("a-1", desk.ask("a-1", "read_file", {"path": "x"}))
    world.finish("a-1")
    assert held(world).enforcement == "Advised"
    world.advance(31 * DAY)
    assert held(world).enforcement == "Observed"


def test_another_executor_begins_anew(world: World, desk: Desk) -> None:
    desk.report("a-1", desk.ask("a-1", "read_file", {"path": "x"}, passage=HOOK))
    world.finish("a-1")
    assert held(world).enforcement == "Gated"
    world.commit({"executor.yaml": EXECUTOR + "  timeout: 5m\n"})
    world.sync()
    assert held(world).enforcement == "Observed"


def test_a_run_that_used_no_tool_shows_nothing(world: World, desk: Desk) -> None:
    world.finish("a-1")
    assert (held(world).enforcement, held(world).evidence) == ("Observed", ())


def test_what_a_call_reserved_is_settled_by_a_result_that_names_its_key(world: World, desk: Desk) -> None:
    call = desk.ask("a-1", "read_file", {"path": "x"}, key="toolu_1", usd="0.50", passage=HOOK)
    told(world, "a-1", "toolu_1")
    assert (desk.status(call).state, str(desk.status(call).spend.usd)) == ("Succeeded", "0.5")
    with world.store.snapshot() as snapshot:
        run = world.get("Run", "a-1")
        assert snapshot.balance(f"run/{run.uid}/calls").reserved.usd_micros == 0
        assert snapshot.balance(f"run/{run.uid}/inside").reserved.usd_micros == 0


class _Keys:
    def mint(self, run_uid: str, kind: str = "run") -> str:
        return f"{kind} {run_uid}"


def test_a_hook_gets_a_token_of_its_own_where_the_executor_declares_one(world: World, desk: Desk) -> None:
    context = RunContext(cast(RunTokens, _Keys()), lambda: "http://127.0.0.1:1", world.repo.path)
    with world.store.snapshot() as snapshot:
        run = world.get("Run", "a-1")
        assert order_of(snapshot, run, context).hook_token == ""
    world.finish("a-1")
    hooked = EXECUTOR.replace('[sh, -c, "true"]', "[claude, -p, x]").replace("outputFormat: Text", "hook: Claude")
    world.commit({"executor.yaml": hooked})
    run_name = another(world, "b")
    with world.store.snapshot() as snapshot:
        run = world.get("Run", run_name)
        order = order_of(snapshot, run, context)
    assert (order.token, order.hook_token) == (f"run {run.uid}", f"hook {run.uid}")
