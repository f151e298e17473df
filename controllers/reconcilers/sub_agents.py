"""Sub-agents: each ends with its parent's run, its time or its work; then what it did not use goes back, and it is put
away. The wait is a timer in the store, so that a restart loses none."""

from __future__ import annotations

from controllers.effects.runs import end_run
from controllers.reconcilers import spawning
from controllers.runs import records
from controllers.runs.verdict import COMPLETE
from controllers.runtime.result import DONE, RequeueAfter, RequeueAt, Result
from decisions import spawning as decisions
from decisions.policy.facts import tool_patterns
from schemas.agent import AgentSpec, AgentStatus, AutonomyLevel, Spawned, ToolGrant
from schemas.base import Key
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES
from schemas.resource import Declared, Resource
from schemas.run import ENDED, RunReason, RunState, RunStatus
from store.contract import EntryKind, LedgerEntry, Transaction

PARENT = spawning.PARENT
KIND = "SubAgent"
"""Key kind that watches over a sub-agent: SubAgent/<namespace>/<agent>."""
_TIMER = "end"


def key_of(agent: Key) -> Key:
    """The queue key that watches over the sub-agent ``agent``."""
    return Key(KIND, agent.namespace, agent.name)


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a sub-agent."""
    agent = tx.get(Key("Agent", key.namespace, key.name))
    status = AgentStatus.model_validate(agent.status) if agent is not None else None
    if agent is None or status is None or status.spawned is None:
        tx.clear_timer(key, _TIMER)
        return DONE
    agent = _narrow(tx, agent, status.spawned)
    spawned = status.spawned
    task = tx.get_by_uid(spawned.mission_uid)
    why = decisions.why_end(_life(tx, spawned), tx.now)
    if task is not None and why and task.state not in TERMINAL_STATES and task.spec.get("desiredState") != "Canceled":
        # Before its run ends: a mission that is still to be completed would get another one.
        agent = spawning.put_spawned(tx, agent, status, spawned.model_copy(update={"ending": why}))
        task = tx.put_spec(task, spawning.canceled(task), manager=task.manager)
        text = f"its sub-agent ends: {why}"
        tx.event(EventType.UPDATED, task, reason=why, message=text, data={"related": [agent.uid]})
    if spawned.hosted and task is not None and _end_hosted(tx, task, why):
        return RequeueAfter(0.0)  # the end of its run changed its mission and agent: look at them anew
    if spawning.is_over(task) and not tx.objects(
        "Agent", labels={spawning.PARENT_MISSION: spawned.mission_uid}, limit=1
    ):
        _put_away(tx, agent, spawned, task, why)
        tx.clear_timer(key, _TIMER)
        return DONE
    if why:
        tx.clear_timer(key, _TIMER)
        return DONE  # the end of its mission wakes this key
    tx.set_timer(key, _TIMER, spawned.expires_at)
    return RequeueAt(spawned.expires_at)


def _narrow(tx: Transaction, agent: Resource, spawned: Spawned) -> Resource:
    """What its parent has no more, it has no more either: level, tools, and whatever Policies say by labels."""
    parent = tx.get(spawned.lineage[-1].agent.key("Agent", agent.namespace)) if spawned.lineage else None
    if parent is None:
        return agent
    spec, above = AgentSpec.model_validate(agent.spec), AgentSpec.model_validate(parent.spec)
    facts = decisions.Parent(
        above.autonomy_level, tool_patterns(above.tools), above.sub_agents, spawned.depth - 1, None
    )
    level, tools = decisions.narrowed(spec.autonomy_level, tool_patterns(spec.tools), facts)
    mine = {name: agent.labels[name] for name in spawning.LABELS if name in agent.labels}
    allowed = spec.sub_agents.allowed and level is not AutonomyLevel.INTERN
    changed = spec.model_copy(
        update={
            "autonomy_level": level,
            "tools": tuple(ToolGrant(name=tool) for tool in tools),
            "sub_agents": spec.sub_agents.model_copy(update={"allowed": allowed}),
        }
    )
    declared = Declared(*agent.key, changed.to_wire(), {**parent.labels, **mine}, agent.annotations)
    saved = tx.put_spec(agent, declared, manager=agent.manager)
    if saved.resource_version != agent.resource_version:
        text = "its parent changed: it follows"
        tx.event(EventType.UPDATED, saved, reason="ParentChanged", message=text, data={"related": [parent.uid]})
    return saved


def _life(tx: Transaction, spawned: Spawned) -> decisions.Life:
    run = tx.get_by_uid(spawned.run_uid)
    parent = tx.get_by_uid(str(run.owner_uid)) if run is not None else None
    return decisions.Life(
        expires_at=spawned.expires_at,
        asked=spawned.ending,
        parent_run_open=run is not None and run.state not in ENDED and not run.status.get("cancelRequestedAt"),
        parent_mission_open=parent is not None and parent.deletion_at is None,
    )


def _end_hosted(tx: Transaction, task: Resource, why: str) -> bool:
    """End the run that the parent's program does, once it said its last word or has to end: nobody else would. Whether
    it ended."""
    name = task.status.get("currentRun")
    run = tx.get(Key("Run", task.namespace, str(name))) if name else None
    if run is None or run.state in ENDED:
        return False
    status = RunStatus.model_validate(run.status)
    if status.report is not None:
        good = status.report.outcome == COMPLETE
        ending = records.Ending(
            state=RunState.SUCCEEDED if good else RunState.FAILED,
            reason=RunReason.COMPLETED if good else RunReason.REPORTED_FAILURE,
            exit_code=0 if good else None,
            started_at=status.started_at,
            ended_at=tx.now,
        )
    elif why == "Expired":
        ending = records.Ending(
            state=RunState.TIMED_OUT, reason=RunReason.DEADLINE_EXCEEDED, message="its time is over", ended_at=tx.now
        )
    elif why or status.cancel_requested_at is not None:
        message = why or status.cancel_reason
        ending = records.Ending(
            state=RunState.CANCELED, reason=RunReason.CANCELED, message=message, ended_at=tx.now,
            started_at=status.started_at,
        )  # fmt: skip
    else:
        return False
    end_run(tx, run.uid, ending)
    return True


def _put_away(tx: Transaction, agent: Resource, spawned: Spawned, task: Resource | None, why: str) -> None:
    """Give back what was not used, and remove the Agent; its mission stays for a day."""
    _settle(tx, spawned)
    state = task.state if task is not None else "gone"
    tx.event(
        EventType.SUB_AGENT_ENDED,
        agent,
        reason=why or "Finished",
        message=f"{spawned.name}: its mission is {state}",
        data={"related": [spawned.run_uid, spawned.mission_uid], "mission": spawned.mission.name},
    )
    tx.clear_timer(agent.key, "wake")
    tx.remove(agent)


def _settle(tx: Transaction, spawned: Spawned) -> None:
    wanted = spawning.carve_key(spawned.mission_uid)
    reserved = next((entry for entry in tx.open_reservations() if entry.key == wanted), None)
    if reserved is None:
        return
    used = tx.balance(f"mission/{spawned.mission_uid}/total").spent
    tx.post(
        LedgerEntry(
            key=f"settle/{wanted}",
            kind=EntryKind.SETTLE,
            accounts=reserved.accounts,
            amounts=used,
            at=tx.now,
            reservation=reserved.key,
            note={"subAgent": spawned.name},
        )
    )
