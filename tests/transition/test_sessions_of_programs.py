"""Which session of its program a run goes on with, and what the program is told."""

from __future__ import annotations

import pytest

from controllers.effects.runs import end_run, mission_document
from controllers.runs import reports
from controllers.runs.once import Once
from controllers.runs.verdict import Ending
from schemas.agent import AgentSpec
from schemas.resource import SYSTEM
from schemas.run import RunReason, RunSpec, RunState
from tests.fakes.world import ALICE, World, agent, mission

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])

EXECUTOR = """\
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec:
  type: Command
  command: {argv: [sh, -c, "true"], outputFormat: ClaudeJson, resumeArgs: [--resume, "{session}"]}
"""


def fleet(world: World, strategy: str, *missions: str, **spec: object) -> None:
    docs = [EXECUTOR, agent(session=f"{{strategy: {strategy}}}", **spec), *missions]
    world.commit({"fleet.yaml": "---\n".join(docs)})
    world.sync()


def end(world: World, run: str, session: str, *, good: bool = True) -> None:
    """The program of a run ends, and names its session."""
    state, reason = (RunState.FAILED, RunReason.NON_ZERO_EXIT)
    ending = Ending(state=state, reason=reason, exit_code=1, session_id=session, retryable=True)
    if good:
        world_run = world.get("Run", run)
        with world.store.transaction(ALICE) as tx:
            once = Once.of(f"{run}/s", b"x", b"")
            reports.progress(tx, world_run.uid, "working", session_id=session, once=once)
        world.finish(run)
        return
    with world.store.transaction(SYSTEM) as tx:
        end_run(tx, world.get("Run", run).uid, ending)
    world.settle()


def spec_of(world: World, run: str) -> RunSpec:
    return RunSpec.model_validate(world.get("Run", run).spec)


def told(world: World, run: str) -> dict[str, object]:
    """The document of a run."""
    resource = world.get("Run", run)
    spec = RunSpec.model_validate(resource.spec)
    with world.store.snapshot() as snapshot:
        found = snapshot.get_by_uid(spec.mission_uid)
        agent_spec = snapshot.spec_at(spec.agent_uid, spec.agent_generation)
        assert found is not None
        assert agent_spec is not None
        AgentSpec.model_validate(agent_spec.spec)
        return mission_document(snapshot, resource, spec, found, found.spec, agent_spec.spec)


def test_related_work_goes_on_with_the_session_and_unrelated_work_begins_a_clean_one(world: World) -> None:
    fleet(
        world,
        "Auto",
        mission("first", priority=60, projectRef="{name: docs}"),
        mission("second", priority=50, projectRef="{name: docs}"),
        mission("third", priority=40, projectRef="{name: else}"),
    )
    end(world, "first-1", "s-1")
    second = spec_of(world, "second-1")
    assert (second.session, second.session_of) == ("s-1", "first-1")
    assert told(world, "second-1")["session"] == {
        "strategy": "Auto", "id": "s-1", "of": "first-1", "why": "related work: the same project",
    }  # fmt: skip
    end(world, "second-1", "s-2")
    third = spec_of(world, "third-1")
    assert third.session is None
    assert third.session_why == "unrelated to what the agent worked on"


def test_another_attempt_goes_on_where_the_review_sent_it_back(world: World) -> None:
    fleet(world, "Auto", mission("text", review="Human", priority=90))
    end(world, "text-1", "s-1")
    world.answer("text", "ChangesRequested", "shorter")
    assert spec_of(world, "text-2").session == "s-1"


def test_a_session_with_which_a_run_failed_is_not_tried_again(world: World) -> None:
    retry = "{maxAttempts: 5, backoff: {initial: 1s, max: 1s}}"
    fleet(world, "Reuse", mission("a", priority=60), mission("b", priority=50, retry=retry))
    end(world, "a-1", "s-1")
    assert spec_of(world, "b-1").session == "s-1"
    end(world, "b-1", "s-1", good=False)
    world.advance(2)
    assert spec_of(world, "b-2").session is None


def test_new_never_goes_on_with_one(world: World) -> None:
    fleet(world, "New", mission("a", priority=60), mission("b", priority=50))
    end(world, "a-1", "s-1")
    assert spec_of(world, "b-1").session is None
    assert told(world, "b-1")["session"] == {"strategy": "New", "why": "session.strategy is New"}


def test_two_runs_at_a_time_share_no_session(world: World) -> None:
    fleet(world, "Reuse", mission("a", priority=60), maxConcurrentMissions=2)
    end(world, "a-1", "s-1")
    world.commit({"more.yaml": "---\n".join(mission(name) for name in ("b", "c"))})
    world.sync()
    assert sorted(str(spec_of(world, f"{name}-1").session) for name in ("b", "c")) == ["None", "s-1"]


def test_a_changed_prompt_begins_a_clean_one(world: World) -> None:
    fleet(world, "Reuse", mission("a", priority=60), systemPrompt="be short")
    end(world, "a-1", "s-1")
    text = (world.repo.path / "fleet.yaml").read_text().replace("be short", "be long")
    world.commit({"fleet.yaml": text, "b.yaml": mission("b")})
    world.sync()
    assert spec_of(world, "b-1").session is None


def test_a_program_that_takes_no_argument_for_it_is_told_of_none(world: World) -> None:
    docs = [EXECUTOR.replace(', resumeArgs: [--resume, "{session}"]', ""), agent(session="{strategy: Reuse}")]
    world.commit({"f.yaml": "---\n".join([*docs, mission("a", priority=60), mission("b")])})
    world.sync()
    end(world, "a-1", "s-1")
    assert spec_of(world, "b-1").session is None


def test_each_attempt_has_a_key_of_its_own_that_stays_the_same(world: World) -> None:
    fleet(world, "New", mission("a", retry="{maxAttempts: 2, backoff: {initial: 1s, max: 1s}}"))
    uid = world.get("Mission", "a").uid
    assert told(world, "a-1")["idempotencyKey"] == f"{uid}/1"
    world.restart()
    assert told(world, "a-1")["idempotencyKey"] == f"{uid}/1"
    world.finish("a-1", state=RunState.FAILED)
    world.advance(2)
    assert told(world, "a-2")["idempotencyKey"] == f"{uid}/2"
