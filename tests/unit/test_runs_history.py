"""Whatever is reported, repeated, canceled and ended in whatever order: the record stays consistent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controllers.runs import records, reports
from controllers.runs.once import Once
from controllers.runs.records import Ending
from schemas.conditions import find
from schemas.errors import Conflict, Refused
from schemas.mission import Artifact, Spend
from schemas.protocol import ToolResultMessage
from schemas.resource import Resource
from schemas.run import ENDED, RunReason, RunState, RunStatus
from store.contract import Amounts, EntryKind, Transaction
from tests.fakes.runs import RESERVED, RunBench

Step = tuple[str, int]
VERBS = ["progress", "usage", "tool", "artifact", "complete", "fail", "heartbeat", "cancel", "start", "tick", "end"]
ENDINGS = [
    Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0),
    Ending(RunState.FAILED, RunReason.NON_ZERO_EXIT, "exit code 1", exit_code=1),
    Ending(RunState.CANCELED, RunReason.CANCELED),
    Ending(RunState.LOST, RunReason.WORKER_LOST),
    Ending(RunState.FAILED, RunReason.PROGRAM_NOT_FOUND, "no such program"),
]


def carry_out(bench: RunBench, tx: Transaction, run: Resource, verb: str, number: int) -> None:
    once = Once.of(f"{verb}-{number}", str(number).encode())
    acts: dict[str, Callable[[], object]] = {
        "progress": lambda: reports.progress(tx, run.uid, f"step {number}", percent=number, once=once),
        "usage": lambda: reports.usage(
            tx, run.uid, Spend(usd=Decimal(number), input_tokens=number, source="Reported"), once=once
        ),
        "tool": lambda: reports.tool_result(tx, run.uid, ToolResultMessage(tool="grep", ok=True), once=once),
        "artifact": lambda: reports.add_artifact(
            tx, run.uid, Artifact(name=f"a{number % 2}", digest=f"sha256:{number}"), once=once
        ),
        "complete": lambda: reports.complete(tx, run.uid, Artifact(name="d", digest="sha256:d"), "ok", once=once),
        "fail": lambda: reports.fail(tx, run.uid, "No", "", retryable=bool(number % 2), once=once),
        "heartbeat": lambda: reports.heartbeat(tx, run.uid),
        "cancel": lambda: records.request_cancel(tx, tx.get_by_uid(run.uid) or run, "Canceled"),
        "start": lambda: records.mark_started(tx, run.uid),
        "tick": lambda: bench.clock.tick(number),
        "end": lambda: records.finish(tx, run.uid, ENDINGS[number % len(ENDINGS)]),
    }
    acts[verb]()


@given(st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 4)), max_size=25))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_history_leaves_a_consistent_record(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = RunBench(Path(folder))
        try:
            follow(bench, steps)
        finally:
            bench.close()


def follow(bench: RunBench, steps: list[Step]) -> None:
    run = bench.order()
    used: dict[int, int] = {}
    ended: Resource | None = None
    for verb, number in steps:
        try:
            with bench.tx() as tx:
                carry_out(bench, tx, run, verb, number)
        except (Refused, Conflict):
            pass
        else:
            if verb == "usage":
                used[number] = number
        now = bench.run(run.uid)
        if ended is not None:
            assert now == ended, "a terminal run never changes"
        elif now.state in ENDED:
            ended = now
    check(bench, run, sum(used.values()))


def check(bench: RunBench, run: Resource, used: int) -> None:
    status = bench.status(run.uid)
    assert bench.run(run.uid).status == RunStatus.model_validate(status.to_wire()).to_wire()
    assert status.spend.input_tokens == used
    types = [e.type for e in bench.events(run.uid)]
    assert types.count("RunStarted") == (status.started_at is not None)
    assert types.count("RunFinished") == (status.state in ENDED)
    assert types.count("ArtifactAdded") == len(status.artifacts)
    names = [a.name for a in status.artifacts]
    assert len(names) == len(set(names))
    with bench.store.snapshot() as snapshot:
        entries = snapshot.ledger(account=f"run/{run.uid}")
        assert len(snapshot.effects()) == (status.cancel_requested_at is not None)
    balance = bench.balance(run.uid)
    if status.state not in ENDED:
        assert [e.kind for e in entries] == [EntryKind.RESERVE]
        assert balance.reserved == RESERVED
        return
    assert len(entries) == 2
    assert balance.reserved == Amounts()
    assert balance.spent.tokens >= used
    succeeded = find(status.conditions, "Succeeded")
    assert succeeded is not None
    assert succeeded.reason == status.reason
    assert (succeeded.status == "True") == (status.state is RunState.SUCCEEDED)
    if status.state is RunState.SUCCEEDED:
        assert status.report is not None
        assert status.deliverable is not None
