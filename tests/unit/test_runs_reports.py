"""What an agent reports: each once, cut and cleaned, with its event, and nothing after its last word."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from controllers.runs import records, reports
from controllers.runs.artifacts import MOST
from controllers.runs.once import KEPT, Once
from controllers.runs.run_record import MOST_TOKENS, MOST_USD, agent_actor
from controllers.runs.verdict import Ending, Share
from schemas.conditions import find
from schemas.errors import Conflict, NotFound, Refused
from schemas.event import EventType
from schemas.mission import Artifact, Spend
from schemas.protocol import ToolResultMessage
from schemas.resource import Resource
from schemas.run import RunReason, RunState
from tests.fakes.runs import RunBench
from tests.fakes.stores import START


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    return bench.order(state=RunState.RUNNING)


def once(key: str = "k", content: str = "") -> Once:
    return Once.of(key, content.encode())


def artifact(name: str = "a.md", content: str = "1") -> Artifact:
    return Artifact(name=name, size=1, digest=f"sha256:{content}", text=content, run="work-1-1")


def say(bench: RunBench, uid: str, text: str, key: str = "k", **more: object) -> Resource:
    with bench.tx() as tx:
        return reports.progress(tx, uid, text, once=once(key, text), **more)  # type: ignore[arg-type]


def complete(bench: RunBench, uid: str, key: str = "done", **more: object) -> Resource:
    with bench.tx() as tx:
        return reports.complete(tx, uid, artifact("deliverable.md"), "checked", once=once(key), **more)  # type: ignore[arg-type]


def test_the_first_report_starts_a_run_that_was_only_ordered(bench: RunBench) -> None:
    run = bench.order()
    bench.clock.tick(3)
    say(bench, run.uid, "here")
    status = bench.status(run.uid)
    assert (status.state, status.started_at) == (RunState.RUNNING, bench.clock())
    assert [e.type for e in bench.events(run.uid)] == [EventType.RUN_STARTED, EventType.RUN_PROGRESSED]
    succeeded = find(status.conditions, "Succeeded")
    assert succeeded is not None
    assert (succeeded.status, succeeded.reason) == ("Unknown", "Started")


def test_a_start_is_marked_once(bench: RunBench) -> None:
    run = bench.order()
    for second in (1, 2):
        bench.clock.tick(second)
        with bench.tx() as tx:
            records.mark_started(tx, run.uid)
    assert bench.status(run.uid).started_at == bench.events(run.uid)[0].at
    assert len(bench.events(run.uid)) == 1


def test_progress_is_recorded_with_its_event(bench: RunBench, run: Resource) -> None:
    say(bench, run.uid, "reading", percent=10, work_plan="1. read")
    status = bench.status(run.uid)
    assert (status.progress, status.percent, status.work_plan) == ("reading", 10, "1. read")
    (event,) = bench.events(run.uid, EventType.RUN_PROGRESSED)
    assert (event.reason, event.message, event.data["percent"]) == ("WorkPlan", "reading", 10)
    assert event.data["related"] == [run.spec["missionUid"], run.spec["agentUid"]]


def test_what_progress_leaves_out_stays(bench: RunBench, run: Resource) -> None:
    say(bench, run.uid, "a", "k1", percent=10, work_plan="plan")
    say(bench, run.uid, "b", "k2")
    status = bench.status(run.uid)
    assert (status.progress, status.percent, status.work_plan) == ("b", 10, "plan")


def test_progress_that_says_nothing_new_makes_no_event(bench: RunBench, run: Resource) -> None:
    for number in range(5):
        say(bench, run.uid, "still at it", f"k{number}", percent=10)
    assert len(bench.events(run.uid, EventType.RUN_PROGRESSED)) == 1


def test_a_repeated_request_changes_nothing(bench: RunBench, run: Resource) -> None:
    first = say(bench, run.uid, "a", percent=1)
    bench.clock.tick(100)
    assert say(bench, run.uid, "a", percent=1) == first
    assert len(bench.events(run.uid)) == 1


def test_a_key_that_is_used_for_something_else_is_refused(bench: RunBench, run: Resource) -> None:
    say(bench, run.uid, "a")
    with pytest.raises(Refused) as caught:
        say(bench, run.uid, "b")
    assert caught.value.reason == "KeyReused"
    assert bench.status(run.uid).progress == "a"


def test_only_the_latest_keys_are_kept(bench: RunBench, run: Resource) -> None:
    for number in range(KEPT + 5):
        say(bench, run.uid, f"{number}", f"k{number}")
    seen = bench.status(run.uid).seen_keys
    assert len(seen) == KEPT
    before = bench.run(run.uid)
    assert say(bench, run.uid, f"{KEPT + 4}", f"k{KEPT + 4}") == before


def test_the_parts_of_a_request_are_not_mixed_up() -> None:
    assert Once.of("k", b"ab", b"c") != Once.of("k", b"a", b"bc")


def test_hostile_text_is_cut_and_cleaned(bench: RunBench, run: Resource) -> None:
    say(bench, run.uid, "\x1b[2J\0" + "x" * 5000, work_plan="y" * 200_000)
    status = bench.status(run.uid)
    assert status.progress is not None
    assert status.work_plan is not None
    assert len(status.progress) == 2000
    assert status.progress.startswith("[2Jx")
    assert len(status.work_plan) == 100_000
    assert bench.events(run.uid)[0].message == status.progress


def test_heartbeats_are_written_every_five_seconds_at_most_and_make_no_event(bench: RunBench, run: Resource) -> None:
    versions = set()
    for _ in range(20):
        with bench.tx() as tx:
            versions.add(reports.heartbeat(tx, run.uid).resource_version)
        bench.clock.tick(1)
    assert len(versions) == 4
    assert bench.events(run.uid) == []


def test_a_heartbeat_after_the_clock_was_set_back_counts(bench: RunBench, run: Resource) -> None:
    bench.clock.tick(-3600)
    assert reports.heartbeat_is_due(bench.run(run.uid), bench.clock())
    with bench.tx() as tx:
        reports.heartbeat(tx, run.uid)
    assert bench.status(run.uid).last_heartbeat_time == bench.clock()


def test_every_report_is_a_sign_of_life(bench: RunBench, run: Resource) -> None:
    bench.clock.tick(60)
    with bench.tx() as tx:
        reports.tool_result(tx, run.uid, ToolResultMessage(tool="grep", ok=True), once=once())
    status = bench.status(run.uid)
    assert status.last_heartbeat_time == bench.clock()
    assert status.tool_calls == 1


def test_usage_adds_up_and_the_weakest_source_counts(bench: RunBench, run: Resource) -> None:
    parts = [
        Spend(usd=Decimal("0.25"), input_tokens=10, output_tokens=5, source="Reported"),
        Spend(usd=Decimal("0.5"), input_tokens=1, source="Estimated"),
    ]
    for number, part in enumerate(parts * 2):
        with bench.tx() as tx:
            reports.usage(tx, run.uid, part, model="m\n1", once=once(f"u{number % 2}"))
    assert bench.status(run.uid).spend == Spend(
        usd=Decimal("0.75"), input_tokens=11, output_tokens=5, source="Estimated"
    )
    first, second = bench.events(run.uid, EventType.USAGE_RECORDED)
    assert (first.reason, first.data["model"], first.data["usd"]) == ("Reported", "m 1", "0.25")
    assert second.message == "0.5 USD, 1 + 0 tokens (estimated)"


def test_absurd_usage_stays_within_what_the_ledger_can_add(bench: RunBench, run: Resource) -> None:
    huge = Spend(usd=10**9, input_tokens=10**12, output_tokens=10**12, source="Reported")
    for number in range(3):
        with bench.tx() as tx:
            reports.usage(tx, run.uid, huge, once=once(f"u{number}"))
    spend = bench.status(run.uid).spend
    assert (spend.usd, spend.input_tokens, spend.output_tokens) == (MOST_USD, MOST_TOKENS, MOST_TOKENS)
    with bench.tx() as tx:
        records.finish(tx, run.uid, Ending(RunState.FAILED, RunReason.NON_ZERO_EXIT, exit_code=1))
    assert bench.balance(run.uid).spent.usd_micros == 10**12


def test_usage_without_figures_says_nothing(bench: RunBench, run: Resource) -> None:
    with bench.tx() as tx:
        reports.usage(tx, run.uid, Spend(source="Reported"), once=once())
    assert bench.status(run.uid).spend == Spend()
    assert bench.events(run.uid) == []


def test_artifacts_are_listed_with_their_event(bench: RunBench, run: Resource) -> None:
    with bench.tx() as tx:
        reports.add_artifact(tx, run.uid, artifact(), once=once())
    assert bench.status(run.uid).artifacts == (artifact(),)
    (event,) = bench.events(run.uid, EventType.ARTIFACT_ADDED)
    assert event.data["name"] == "a.md"
    assert "text" not in event.data


def test_the_same_artifact_again_changes_nothing_and_another_under_its_name_is_refused(
    bench: RunBench, run: Resource
) -> None:
    for key in ("k1", "k2"):
        with bench.tx() as tx:
            reports.add_artifact(tx, run.uid, artifact(), once=once(key))
    assert len(bench.events(run.uid, EventType.ARTIFACT_ADDED)) == 1
    with pytest.raises(Conflict, match="artifact names are unique within a run"), bench.tx() as tx:
        reports.add_artifact(tx, run.uid, artifact(content="2"), once=once("k3"))
    assert bench.status(run.uid).artifacts == (artifact(),)


def test_a_run_has_at_most_a_hundred_artifacts_and_its_deliverable(bench: RunBench, run: Resource) -> None:
    with bench.tx() as tx:
        for number in range(MOST):
            reports.add_artifact(tx, run.uid, artifact(f"{number}"), once=once(f"k{number}"))
    with pytest.raises(Refused) as caught, bench.tx() as tx:
        reports.add_artifact(tx, run.uid, artifact("one-more"), once=once("more"))
    assert caught.value.reason == "TooManyArtifacts"
    complete(bench, run.uid)
    assert len(bench.status(run.uid).artifacts) == MOST + 1


def test_completion_hands_in_deliverable_review_evidence_and_usage(bench: RunBench, run: Resource) -> None:
    with bench.tx() as tx:
        reports.add_artifact(tx, run.uid, artifact("log.txt"), once=once("a"))
    complete(bench, run.uid, evidence=("log.txt",), part=Share("", Spend(usd=Decimal(1), source="Reported")))
    status = bench.status(run.uid)
    assert status.report is not None
    assert (status.report.outcome, status.report.self_review, status.report.at) == ("Complete", "checked", START)
    assert status.deliverable == artifact("deliverable.md")
    assert [(a.name, a.text) for a in status.artifacts] == [("log.txt", "1"), ("deliverable.md", None)]
    assert status.spend.usd == 1
    assert status.state is RunState.RUNNING
    last = bench.events(run.uid)[-1]
    assert (last.type, last.reason, last.data["evidence"]) == ("RunProgressed", "ReportedComplete", ["log.txt"])


def test_evidence_that_was_not_handed_in_is_refused_and_nothing_is_recorded(bench: RunBench, run: Resource) -> None:
    with pytest.raises(Refused, match=r"b\.txt, c\.txt") as caught:
        complete(bench, run.uid, evidence=("c.txt", "b.txt"))
    assert caught.value.reason == "EvidenceMissing"
    assert bench.run(run.uid) == run


def test_an_artifact_may_become_the_deliverable(bench: RunBench, run: Resource) -> None:
    with bench.tx() as tx:
        reports.add_artifact(tx, run.uid, artifact("deliverable.md"), once=once("a"))
    complete(bench, run.uid)
    status = bench.status(run.uid)
    assert status.deliverable == artifact("deliverable.md")
    assert [a.name for a in status.artifacts] == ["deliverable.md"]


def test_a_deliverable_with_the_name_of_another_artifact_is_refused(bench: RunBench, run: Resource) -> None:
    with bench.tx() as tx:
        reports.add_artifact(tx, run.uid, artifact("deliverable.md", "other"), once=once("a"))
    with pytest.raises(Conflict, match="unique"):
        complete(bench, run.uid)


def test_after_the_last_word_nothing_is_taken_but_its_repetition(bench: RunBench, run: Resource) -> None:
    done = complete(bench, run.uid)
    assert complete(bench, run.uid) == done
    for report in (
        lambda tx: reports.progress(tx, run.uid, "more", once=once("x")),
        lambda tx: reports.fail(tx, run.uid, "No", "", retryable=True, once=once("x")),
        lambda tx: reports.usage(tx, run.uid, Spend(input_tokens=1), once=once("x")),
        lambda tx: reports.tool_result(tx, run.uid, ToolResultMessage(tool="grep", ok=True), once=once("x")),
        lambda tx: reports.add_artifact(tx, run.uid, artifact("b"), once=once("x")),
        lambda tx: reports.heartbeat(tx, run.uid),
    ):
        with pytest.raises(Refused) as caught, bench.tx() as tx:
            report(tx)
        assert caught.value.reason == "AlreadyReported"
    assert bench.run(run.uid) == done


def test_a_failure_is_reported_in_the_agents_words(bench: RunBench, run: Resource) -> None:
    with bench.tx() as tx:
        reports.fail(tx, run.uid, "No\nAccess", "the login\x00 failed", retryable=False, once=once())
    report = bench.status(run.uid).report
    assert report is not None
    assert (report.outcome, report.reason, report.message, report.retryable) == (
        "Fail",
        "No Access",
        "the login failed",
        False,
    )
    assert bench.events(run.uid)[-1].message == "No Access: the login failed"


def test_a_run_that_has_ended_takes_nothing_not_even_a_repetition(bench: RunBench, run: Resource) -> None:
    complete(bench, run.uid)
    with bench.tx() as tx:
        records.finish(tx, run.uid, Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0))
    before = bench.run(run.uid)
    for attempt in (lambda: complete(bench, run.uid), lambda: say(bench, run.uid, "x", "y")):
        with pytest.raises(Refused) as caught:
            attempt()
        assert caught.value.reason == "RunEnded"
    with bench.tx() as tx:
        records.mark_started(tx, run.uid)
    assert bench.run(run.uid) == before


def test_a_report_for_no_run_says_so(bench: RunBench, run: Resource) -> None:
    with pytest.raises(NotFound, match="no Run with uid"):
        say(bench, "019a0000-0000-7000-8000-00000000ffff", "x")
    with pytest.raises(NotFound, match="no Run with uid"):
        say(bench, run.spec["missionUid"], "x")


def test_two_at_once_with_one_key_are_carried_out_once(bench: RunBench, run: Resource) -> None:
    gate = threading.Barrier(8)

    def report() -> None:
        gate.wait()
        with bench.tx() as tx:
            reports.usage(tx, run.uid, Spend(input_tokens=1, source="Reported"), once=once())

    threads = [threading.Thread(target=report) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.status(run.uid).spend.input_tokens == 1


def test_the_actor_of_a_report_is_the_agent_with_its_token(run: Resource) -> None:
    actor = agent_actor(run)
    assert (actor.kind, actor.subject, actor.transport) == ("Agent", "agent:default/work-1-agent", "Token")
