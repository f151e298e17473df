"""The end of a run: once, with its event, its condition and its reservation; and the request to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.runs import records, reports
from controllers.runs.artifacts import INLINE, LARGEST, ArtifactFiles
from controllers.runs.once import Once
from controllers.runs.records import Ending
from controllers.runs.settlement import settlement_key, used_amounts
from controllers.runs.verdict import Share
from schemas.conditions import find
from schemas.errors import Conflict, NotFound
from schemas.event import EventType
from schemas.mission import Artifact, Spend
from schemas.resource import Resource
from schemas.run import ENDED, RunReason, RunState, RunStatus
from store.contract import Amounts, EntryKind
from tests.fakes.runs import RESERVED, RunBench
from tests.fakes.stores import START

EXIT_0 = Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0)
SCHEMA = {"type": "object", "required": ["total"]}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def files(tmp_path: Path) -> ArtifactFiles:
    return ArtifactFiles(tmp_path)


def finish(bench: RunBench, run: Resource, ending: Ending) -> Resource:
    with bench.tx() as tx:
        return records.finish(tx, run.uid, ending)


def complete(bench: RunBench, run: Resource, **more: object) -> None:
    deliverable = Artifact(name="deliverable.md", size=4, digest="sha256:1", text="done")
    with bench.tx() as tx:
        reports.complete(tx, run.uid, deliverable, "checked", once=Once.of("done"), **more)  # type: ignore[arg-type]


def printed(text: str, **more: object) -> Ending:
    artifact = Artifact(name="deliverable", size=len(text), digest="", text=text)
    return replace(EXIT_0, artifacts=(artifact,), **more)  # type: ignore[arg-type]


def test_a_run_that_handed_in_succeeds_when_its_program_ends(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    bench.clock.tick(10)
    complete(bench, run, part=Share("", Spend(usd=Decimal("0.1"), input_tokens=7, source="Reported")))
    bench.clock.tick(5)
    finish(bench, run, replace(EXIT_0, log_bytes=99, log_truncated=True))
    status = bench.status(run.uid)
    assert (status.state, status.reason, status.exit_code) == (RunState.SUCCEEDED, "Completed", 0)
    assert status.ended_at == START + timedelta(seconds=15)
    assert (status.log_bytes, status.log_truncated) == (99, True)
    succeeded = find(status.conditions, "Succeeded")
    assert succeeded is not None
    assert (succeeded.status, succeeded.reason, succeeded.observed_generation) == ("True", "Completed", 1)
    last = bench.events(run.uid)[-1]
    assert (last.type, last.reason, last.data["state"]) == ("RunFinished", "Completed", "Succeeded")
    assert bench.balance(run.uid).spent == Amounts(usd_micros=100_000, tokens=7, tool_calls=0, wall_ms=15_000)
    assert bench.balance(run.uid).reserved == Amounts()


@pytest.mark.parametrize("state", sorted(ENDED))
def test_each_terminal_state_has_its_condition(bench: RunBench, state: RunState) -> None:
    run = bench.order(state=RunState.RUNNING)
    if state is RunState.SUCCEEDED:
        complete(bench, run)
    reason = RunReason.NON_ZERO_EXIT if state is RunState.FAILED else RunReason.CANCELED
    finish(bench, run, Ending(state, reason, "x"))
    status = bench.status(run.uid)
    assert status.state is state
    succeeded = find(status.conditions, "Succeeded")
    assert succeeded is not None
    expected = {RunState.SUCCEEDED: "True", RunState.UNKNOWN: "Unknown"}.get(state, "False")
    assert (succeeded.status, succeeded.reason) == (expected, status.reason)


def test_the_first_ending_counts(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    ended = finish(bench, run, Ending(RunState.LOST, RunReason.WORKER_LOST, "gone"))
    bench.clock.tick(60)
    for ending in (EXIT_0, Ending(RunState.CANCELED, RunReason.CANCELED)):
        assert finish(bench, run, ending) == ended
    assert len(bench.events(run.uid, EventType.RUN_FINISHED)) == 1
    with bench.tx() as tx:
        assert records.request_cancel(tx, ended, "late") == ended


def test_endings_that_race_leave_one(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    gate = threading.Barrier(8)

    def end(number: int) -> None:
        gate.wait()
        finish(bench, run, Ending(RunState.FAILED, RunReason.NON_ZERO_EXIT, f"{number}", exit_code=number + 1))

    threads = [threading.Thread(target=end, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.events(run.uid, EventType.RUN_FINISHED)) == 1
    with bench.store.snapshot() as snapshot:
        assert [e.kind for e in snapshot.ledger(account=f"run/{run.uid}")] == [EntryKind.RESERVE, EntryKind.SETTLE]


def test_nothing_named_settles_at_what_was_reserved(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    bench.clock.tick(2)
    finish(bench, run, Ending(RunState.FAILED, RunReason.NON_ZERO_EXIT, exit_code=1))
    assert bench.balance(run.uid).spent == replace(RESERVED, wall_ms=2000)


def test_tokens_without_a_price_settle_the_money_at_what_was_reserved() -> None:
    spend = Spend(input_tokens=5, output_tokens=6, source="Reported")
    status = RunStatus(spend=spend, usage_told=True, tool_calls=3)
    assert used_amounts(status, RESERVED) == Amounts(usd_micros=RESERVED.usd_micros, tokens=11, tool_calls=3)


def test_a_report_beyond_the_reservation_is_booked_whatever_its_source() -> None:
    status = RunStatus(spend=Spend(usd=Decimal(9), input_tokens=10**6, source="Unknown"), tool_calls=99)
    assert used_amounts(status, RESERVED) == Amounts(usd_micros=9_000_000, tokens=10**6, tool_calls=99)


@given(
    st.sampled_from(["Reported", "Priced", "Estimated", "Unknown"]),
    st.none() | st.decimals(0, 10, places=6),
    st.integers(0, 10**6),
    st.integers(0, 100),
)
@settings(max_examples=200)
def test_nothing_is_booked_below_what_was_reported(
    source: str, usd: Decimal | None, tokens: int, tool_calls: int
) -> None:
    status = RunStatus(spend=Spend(usd=usd, input_tokens=tokens, source=source), tool_calls=tool_calls)
    used = used_amounts(status, RESERVED)
    assert used.usd_micros >= (0 if usd is None else int(usd * 1_000_000))
    assert used.tokens >= tokens
    assert used.tool_calls >= tool_calls
    if source == "Unknown" or usd is None:
        assert used.usd_micros >= RESERVED.usd_micros


@pytest.mark.parametrize(
    ("started", "ending", "kind"),
    [
        (False, Ending(RunState.FAILED, RunReason.PROGRAM_NOT_FOUND, "no such program"), EntryKind.RELEASE),
        (True, Ending(RunState.FAILED, RunReason.PROGRAM_NOT_FOUND, "no such program"), EntryKind.RELEASE),
        (False, Ending(RunState.CANCELED, RunReason.CANCELED), EntryKind.RELEASE),
        (True, Ending(RunState.CANCELED, RunReason.CANCELED, ended_at=START), EntryKind.RELEASE),
        (True, Ending(RunState.CANCELED, RunReason.CANCELED), EntryKind.SETTLE),
        (True, Ending(RunState.CANCELED, RunReason.CANCELED, started_at=START, ended_at=START), EntryKind.SETTLE),
        (False, Ending(RunState.LOST, RunReason.WORKER_LOST), EntryKind.SETTLE),
        (False, Ending(RunState.UNKNOWN, RunReason.MAY_STILL_BE_RUNNING), EntryKind.SETTLE),
    ],
)
def test_only_what_never_ran_is_free(bench: RunBench, started: bool, ending: Ending, kind: EntryKind) -> None:
    run = bench.order(state=RunState.RUNNING if started else RunState.PENDING)
    finish(bench, run, ending)
    with bench.store.snapshot() as snapshot:
        entry = snapshot.ledger(account=f"run/{run.uid}")[-1]
        assert snapshot.open_reservations() == []
    assert (entry.kind, entry.key) == (kind, settlement_key(run.uid))


def test_a_start_that_failed_after_the_agent_was_heard_is_paid_for(bench: RunBench) -> None:
    run = bench.order()
    with bench.tx() as tx:
        reports.progress(tx, run.uid, "I do run", once=Once.of("k"))
    finish(bench, run, Ending(RunState.FAILED, RunReason.START_FAILED, "no answer"))
    assert bench.balance(run.uid).spent.usd_micros == RESERVED.usd_micros


def test_a_run_without_a_reservation_ends_all_the_same(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING, reserve=None)
    finish(bench, run, EXIT_0)
    assert bench.status(run.uid).reason == "NoReport"


def test_an_end_that_was_seen_first_brings_the_start_with_it(bench: RunBench) -> None:
    run = bench.order(output_format="Text")
    bench.clock.tick(10)
    times = {"started_at": START + timedelta(seconds=1), "ended_at": START + timedelta(seconds=4)}
    finish(bench, run, printed("done", **times))
    status = bench.status(run.uid)
    assert (status.started_at, status.ended_at) == (times["started_at"], times["ended_at"])
    types = [e.type for e in bench.events(run.uid)]
    assert types == [EventType.RUN_STARTED, EventType.ARTIFACT_ADDED, EventType.RUN_FINISHED]
    assert bench.balance(run.uid).spent.wall_ms == 3000


def test_a_clock_that_was_set_back_makes_no_negative_time(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    bench.clock.tick(-3600)
    finish(bench, run, Ending(RunState.FAILED, RunReason.NON_ZERO_EXIT, exit_code=1))
    assert bench.status(run.uid).ended_at == START
    assert bench.balance(run.uid).spent.wall_ms == 0


def test_printed_output_becomes_deliverable_and_self_review(bench: RunBench) -> None:
    run = bench.order(output_format="Text", state=RunState.RUNNING)
    usage = Spend(usd=Decimal("0.2"), input_tokens=3, source="Reported")
    finish(bench, run, printed("the result", usage=usage, model="m", session_id="s-1"))
    status = bench.status(run.uid)
    assert status.state is RunState.SUCCEEDED
    assert status.deliverable is not None
    assert status.deliverable.text == "the result"
    assert [(a.name, a.text) for a in status.artifacts] == [("deliverable", None)]
    assert status.report is not None
    assert status.report.self_review == "exit code 0, output read as Text"
    assert (status.session_id, status.spend) == ("s-1", usage)


def test_printed_output_does_not_replace_what_the_agent_handed_in(bench: RunBench) -> None:
    run = bench.order(output_format="Text", state=RunState.RUNNING)
    complete(bench, run)
    finish(bench, run, printed("chatter"))
    status = bench.status(run.uid)
    assert status.deliverable is not None
    assert status.deliverable.text == "done"
    assert [a.name for a in status.artifacts] == ["deliverable.md"]


def test_printed_output_takes_a_free_name(bench: RunBench) -> None:
    run = bench.order(output_format="Text", state=RunState.RUNNING)
    for name in ("deliverable", "2-deliverable"):
        with bench.tx() as tx:
            reports.add_artifact(tx, run.uid, Artifact(name=name, digest="sha256:9"), once=Once.of(name))
    finish(bench, run, printed("the result"))
    assert [a.name for a in bench.status(run.uid).artifacts] == ["deliverable", "2-deliverable", "3-deliverable"]


def test_large_printed_output_is_kept_in_a_file(bench: RunBench, files: ArtifactFiles) -> None:
    run = bench.order(output_format="Text", state=RunState.RUNNING)
    text = "x" * (INLINE + 1)
    ending = records.prepare(bench.store, files, run.uid, printed(text))
    assert records.prepare(bench.store, files, run.uid, ending) == ending
    finish(bench, run, ending)
    deliverable = bench.status(run.uid).deliverable
    assert deliverable is not None
    assert deliverable.text is None
    assert files.read(run.uid, deliverable) == text.encode()


def test_printed_output_beyond_every_limit_does_not_count(bench: RunBench, files: ArtifactFiles) -> None:
    run = bench.order(output_format="Text", state=RunState.RUNNING)
    finish(bench, run, records.prepare(bench.store, files, run.uid, printed("x" * (LARGEST + 1))))
    status = bench.status(run.uid)
    assert (status.state, status.reason, status.artifacts) == (RunState.FAILED, "OutputInvalid", ())
    assert "33,554,433 bytes" in status.message


@pytest.mark.parametrize("prepared", [True, False])
def test_printed_output_meets_the_agents_schema_or_does_not_count(
    bench: RunBench, files: ArtifactFiles, prepared: bool
) -> None:
    for text, state in (('{"total": 3}', RunState.SUCCEEDED), ('{"sum": 3}', RunState.FAILED)):
        run = bench.order(output_format="Text", state=RunState.RUNNING, output_schema=SCHEMA)
        ending = printed(text)
        finish(bench, run, records.prepare(bench.store, files, run.uid, ending) if prepared else ending)
        status = bench.status(run.uid)
        assert status.state is state
        assert [a.name for a in status.artifacts] == ["deliverable"]
        if state is RunState.FAILED:
            assert status.reason == "OutputInvalid"
            assert "'total' is a required property" in status.message
            assert status.deliverable is None


def test_a_reported_deliverable_that_does_not_fit_ends_as_invalid_output(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING, output_schema=SCHEMA)
    complete(bench, run, problem="the deliverable does not meet the agent's outputSchema: it is not JSON")
    finish(bench, run, EXIT_0)
    status = bench.status(run.uid)
    assert (status.state, status.reason, status.retryable) == (RunState.FAILED, "OutputInvalid", True)
    assert status.message.endswith("it is not JSON")


def test_a_run_whose_executor_is_gone_ends_all_the_same(bench: RunBench) -> None:
    run = bench.order(output_format="Text", state=RunState.RUNNING)
    with bench.tx() as tx:
        executor = tx.get(run.key._replace(kind="Executor", name=run.spec["executorRef"]["name"]))
        assert executor is not None
        tx.remove(executor)
    finish(bench, run, printed("x"))
    assert bench.status(run.uid).reason == "NoReport"


def test_a_request_to_stop_is_recorded_once_and_enqueued_once(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    for seconds, reason in ((1, "Canceled"), (2, "Stopped")):
        bench.clock.tick(seconds)
        with bench.tx() as tx:
            current = tx.get_by_uid(run.uid)
            assert current is not None
            records.request_cancel(tx, current, reason)
    status = bench.status(run.uid)
    assert (status.cancel_requested_at, status.cancel_reason) == (START + timedelta(seconds=1), "Canceled")
    with bench.store.snapshot() as snapshot:
        (effect,) = snapshot.effects()
    assert (effect.type, effect.key, effect.subject) == ("CancelRun", f"cancel/{run.uid}", run.key)
    assert effect.payload == {"runUid": run.uid, "reason": "Canceled"}


def test_a_request_to_stop_what_has_moved_is_a_conflict(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    with bench.tx() as tx:
        reports.progress(tx, run.uid, "moved", once=Once.of("k"))
    with pytest.raises(Conflict), bench.tx() as tx:
        records.request_cancel(tx, run, "Canceled")
    assert bench.status(run.uid).cancel_requested_at is None


def test_ending_no_run_says_so(bench: RunBench, files: ArtifactFiles) -> None:
    nobody = "019a0000-0000-7000-8000-00000000ffff"
    with pytest.raises(NotFound), bench.tx() as tx:
        records.finish(tx, nobody, EXIT_0)
    with pytest.raises(NotFound):
        records.prepare(bench.store, files, nobody, printed("x"))


def test_a_transaction_that_fails_later_leaves_no_end(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)

    def crash() -> None:
        with bench.tx() as tx:
            records.finish(tx, run.uid, EXIT_0)
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        crash()
    assert bench.run(run.uid) == run
    assert bench.events(run.uid) == []
    assert bench.balance(run.uid).reserved == RESERVED
