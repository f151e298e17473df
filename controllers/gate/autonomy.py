"""What the limits of autonomy say of a call that leave is asked for."""

from __future__ import annotations

from controllers.runs import loop_facts, sessions
from decisions import call_limits, loops
from decisions.call_limits import Excess
from decisions.policy.facts import Barrier, Call
from schemas.loop import LoopFinding, LoopSignal
from schemas.policy import Verdict
from schemas.resource import Resource, digest
from schemas.tool_call import ToolCallState
from store.contract import Transaction

_SOURCE = "autonomy limit (built-in)"


def limit(
    tx: Transaction, run: Resource, call: Call, limits: call_limits.CallLimits = call_limits.DEFAULT
) -> Barrier | None:
    """None when nothing stands in its way; else Deny. The call is counted. Asking again about one that waits for a
    person is never too often. Writes the session of the run, and nothing of the run itself."""
    mission = tx.get_by_uid(str(run.spec["missionUid"]))
    if mission is None:
        return None
    finding = (mission.status.get("loop") or {}).get("finding")
    if finding is not None:
        return Barrier(
            Verdict.DENY,
            f"{mission.key.short} goes around in circles ({finding['signal']}) and is being stopped",
            "loop detection",
            remedy=f"a person looks at it: remit describe {mission.key.short}",
        )
    args_digest = digest(call.args)
    session = sessions.of_run(tx, run)
    signature = digest([call.tool, args_digest])[7:19]
    before = sessions.asked(session, mission)
    counted = call_limits.count(before, run.name, signature, loops.minute_of(tx.now), limits)
    if counted.excess is not None and _waits(tx, run, call.tool, args_digest):
        return None
    session = sessions.keep_asked(tx, session, mission, counted.asked)
    if counted.insisting:
        insisting = LoopFinding(
            signal=LoopSignal.SAME_CALL,
            what=f"{call.tool[:100]} with arguments {args_digest[7:19]} is asked for again and again",
            count=counted.same,
            limit=limits.insisting,
            found_at=tx.now,
            source=loops.BUILT_IN,
        )
        loop_facts.note(tx, mission, insisting, run=run.name, session=session.name)
    return _barrier(counted, limits)


def _waits(tx: Transaction, run: Resource, tool: str, args_digest: str) -> bool:
    """Whether the same call waits for a person already."""
    waiting = tx.objects("ToolCall", owner_uid=run.uid, states=(ToolCallState.ASKING.value,))
    return any(c.spec.get("tool") == tool and c.spec.get("argsDigest") == args_digest for c in waiting)


def _barrier(counted: call_limits.Count, limits: call_limits.CallLimits) -> Barrier | None:
    if counted.excess is None:
        return None
    if counted.excess is Excess.RATE:
        text = f"{counted.asked.in_minute} calls in a minute; at most {limits.per_minute}"
        remedy = "wait until the next minute"
    elif counted.excess is Excess.SAME_CALL:
        text = f"the same call, number {counted.same} in {limits.same_minutes} minutes; at most {limits.same_calls}"
        remedy = "do something else, or give up with fail"
    else:
        text = f"{counted.asked.calls} calls in one run; at most {limits.per_run}"
        remedy = "complete the run; another one follows where the work goes on"
    return Barrier(Verdict.DENY, text, _SOURCE, remedy=remedy)
