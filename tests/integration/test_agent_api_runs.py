"""The agent protocol over real HTTP: what each write does, repeated, raced, and turned down."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.records import Ending
from schemas.resource import Resource
from schemas.run import RunReason, RunState
from tests.fakes.agent_port import TOKENS, problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio

DELIVERABLE = {"name": "deliverable.md", "mediaType": "text/markdown", "text": "# Done\n"}
COMPLETE: dict[str, Any] = {"deliverable": DELIVERABLE, "selfReview": "Every figure was checked.", "evidence": []}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    return bench.order(state=RunState.RUNNING)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def end(bench: RunBench, run: Resource, state: RunState = RunState.FAILED) -> None:
    with bench.tx() as tx:
        records.finish(tx, run.uid, Ending(state, RunReason.NON_ZERO_EXIT, "x", exit_code=1))


async def test_a_whole_run_from_its_first_word_to_its_last(bench: RunBench) -> None:
    run = bench.order()
    async with serving(bench) as port:
        beat = await port.post(run, "heartbeat")
        assert (beat.status_code, beat.json()) == (200, {"accepted": True, "cancel": False, "run": run.name})
        bodies = [
            ("progress", {"message": "reading", "percent": 10.9, "workPlan": "1. read"}),
            ("usage", {"usd": "0.12", "inputTokens": 100, "outputTokens": 20, "model": "m", "source": "Reported"}),
            ("tool-results", {"tool": "read_file", "argsDigest": "sha256:" + "0" * 64, "ok": True}),
            ("artifacts", {"name": "log.txt", "mediaType": "text/plain", "text": "all well"}),
            ("complete", {**COMPLETE, "evidence": ["log.txt"], "usage": {"usd": 0.03}}),
        ]
        for verb, body in bodies:
            answer = await port.post(run, verb, body)
            assert answer.status_code == 200, answer.text
            assert answer.json()["accepted"] is True
            assert answer.headers["cache-control"] == "no-store"
    status = bench.status(run.uid)
    assert (status.state, status.progress, status.percent, status.work_plan) == (
        RunState.RUNNING,
        "reading",
        10,
        "1. read",
    )
    assert (status.spend.usd, status.spend.input_tokens, status.tool_calls) == (Decimal("0.15"), 100, 1)
    assert status.deliverable is not None
    assert status.deliverable.text == "# Done\n"
    assert status.report is not None
    assert status.report.self_review == "Every figure was checked."
    actors = {str(e.actor) for e in bench.events(run.uid)}
    assert actors == {"agent:default/work-1-agent"}


async def test_a_run_is_known_by_name_and_by_uid(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for name in (run.name, run.uid):
            answer = await port.client.post(f"/agent/v1/runs/{name}/heartbeat", json={}, headers=port.headers(run))
            assert answer.status_code == 200


async def test_the_same_request_has_the_same_answer_and_one_effect(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answers = [await port.post(run, "usage", {"inputTokens": 5}, key="once") for _ in range(3)]
        assert {a.status_code for a in answers} == {200}
        assert len({a.content for a in answers}) == 1
        kept = [await port.post(run, "artifacts", {"name": "a", "text": "x"}, key="art") for _ in range(2)]
        assert kept[0].content == kept[1].content
        assert kept[0].json()["digest"].startswith("sha256:")
    assert bench.status(run.uid).spend.input_tokens == 5


async def test_a_key_serves_one_request_only(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        assert (await port.post(run, "usage", {"inputTokens": 5}, key="once")).status_code == 200
        problem(await port.post(run, "usage", {"inputTokens": 6}, key="once"), 422, "KeyReused")
        problem(await port.post(run, "progress", {"message": "x"}, key="once"), 422, "KeyReused")
        problem(await port.post(run, "artifacts", {"name": "a", "text": "x"}, key="once"), 422, "KeyReused")
    assert bench.status(run.uid).spend.input_tokens == 5


async def test_keys_of_two_runs_have_nothing_to_do_with_each_other(bench: RunBench, run: Resource) -> None:
    other = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port:
        assert (await port.post(run, "usage", {"inputTokens": 5}, key="once")).status_code == 200
        assert (await port.post(other, "usage", {"inputTokens": 6}, key="once")).status_code == 200
    assert bench.status(other.uid).spend.input_tokens == 6


async def test_a_hundred_of_the_same_at_once_have_one_effect(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answers = await asyncio.gather(
            *(port.post(run, "usage", {"inputTokens": 1}, key="once") for _ in range(50)),
            *(port.post(run, "artifacts", {"name": "a", "base64": "AAEC"}, key="art") for _ in range(50)),
        )
        assert {a.status_code for a in answers} == {200}
    status = bench.status(run.uid)
    assert (status.spend.input_tokens, len(status.artifacts)) == (1, 1)


async def test_keys_outlive_the_server(bench: RunBench, run: Resource) -> None:
    for _ in range(2):
        async with serving(bench) as port:
            assert (await port.post(run, "usage", {"inputTokens": 1}, key="once")).status_code == 200
    assert bench.status(run.uid).spend.input_tokens == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb", "schlüssel"])
async def test_a_write_needs_a_key_that_can_be_kept(bench: RunBench, run: Resource, key: str) -> None:
    async with serving(bench) as port:
        headers = [(n.encode(), v.encode()) for n, v in port.headers(run, "k").items() if n != "Idempotency-Key"]
        headers.append((b"Idempotency-Key", key.encode()))
        path = f"/agent/v1/runs/{run.name}/heartbeat"
        problem(await port.client.post(path, content=b"{}", headers=headers), 400, "IdempotencyKeyMissing")
        problem(await port.client.post(path, content=b"{}", headers=headers[:-1]), 400, "IdempotencyKeyMissing")


async def test_who_has_no_good_token_learns_nothing(bench: RunBench, run: Resource) -> None:
    good = TOKENS.mint(run.uid)
    cases = [
        ({}, "TokenMissing"),
        ({"Authorization": ""}, "TokenMissing"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, "TokenMissing"),
        ({"Authorization": f"Bearer {good} x"}, "TokenInvalid"),
        ({"Authorization": "Bearer " + "x" * 5000}, "TokenMissing"),
        ({"Authorization": "Bearer rmt_run_nonsense"}, "TokenInvalid"),
        ({"Authorization": f"Bearer {good[:-1]}!"}, "TokenInvalid"),
        ({"Authorization": f"Bearer {good.swapcase()}"}, "TokenInvalid"),
    ]
    async with serving(bench) as port:
        for headers, code in cases:
            for path in (f"/agent/v1/runs/{run.name}/progress", "/agent/v1/runs/nobody/progress"):
                answer = await port.client.post(path, json={"message": "x"}, headers=headers)
                assert problem(answer, 401, code)
                assert answer.headers["www-authenticate"] == 'Bearer realm="remit"'
            assert (await port.client.get(f"/agent/v1/runs/{run.name}/inbox", headers=headers)).status_code == 401
    assert bench.status(run.uid).progress is None


async def test_a_token_for_a_run_that_never_was_is_dead(bench: RunBench, run: Resource) -> None:
    ghost = TOKENS.mint("019a0000-0000-7000-8000-00000000ffff")
    mission = TOKENS.mint(run.spec["missionUid"])
    async with serving(bench) as port:
        for token in (ghost, mission):
            headers = {"Authorization": f"Bearer {token}"}
            answer = await port.client.get(f"/agent/v1/runs/{run.name}/inbox", headers=headers)
            problem(answer, 401, "TokenDead")


async def test_any_other_run_is_not_there(bench: RunBench, run: Resource) -> None:
    other = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port:
        answers = [
            await port.client.post(f"/agent/v1/runs/{name}/progress", json={"message": "x"}, headers=port.headers(run))
            for name in (other.name, other.uid, "nobody", "%2e%2e", "a%00b")
        ]
        for answer in answers:
            problem(answer, 404, "NotFound")
        assert len({a.json()["detail"] for a in answers}) == 1
    assert bench.status(other.uid).progress is None


async def test_the_token_of_an_ended_run_is_dead_even_for_repetitions(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        assert (await port.post(run, "usage", {"inputTokens": 1}, key="once")).status_code == 200
        end(bench, run)
        for verb, body in (("usage", {"inputTokens": 1}), ("heartbeat", {}), ("fail", {"reason": "No"})):
            wire = problem(await port.post(run, verb, body, key="once"), 401, "TokenDead")
            assert "Failed, NonZeroExit" in wire["detail"]
        problem(await port.inbox(run), 401, "TokenDead")


async def test_after_the_last_word_only_its_repetition_is_taken(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        first = await port.post(run, "complete", COMPLETE, key="done")
        again = await port.post(run, "complete", COMPLETE, key="done")
        assert (first.status_code, first.content) == (again.status_code, again.content)
        for verb, body in (
            ("complete", COMPLETE),
            ("fail", {"reason": "No"}),
            ("progress", {"message": "x"}),
            ("heartbeat", {}),
            ("usage", {"usd": 1}),
            ("artifacts", {"name": "late", "base64": "AA=="}),
        ):
            wire = problem(await port.post(run, verb, body), 409, "AlreadyReported")
            assert "Complete" in wire["detail"]
    assert [p.name for p in bench.folder.glob("artifacts/*/*")] == []


async def test_what_is_not_of_the_protocol_is_refused_field_by_field(bench: RunBench, run: Resource) -> None:
    cases: list[tuple[str, Any, set[str]]] = [
        ("progress", {"message": "x", "percentage": 5}, {"percentage"}),
        ("progress", {"percent": 5}, {"message"}),
        ("progress", {"message": "x", "percent": 101}, {"percent"}),
        ("progress", {"message": "x", "percent": "5"}, {"percent"}),
        ("progress", {"message": "x", "work_plan": "y"}, {"work_plan"}),
        ("progress", ["x"], {""}),
        ("usage", {"usd": -1, "inputTokens": 1.5, "source": "Guess"}, {"usd", "inputTokens", "source"}),
        ("usage", {"outputTokens": 10**13}, {"outputTokens"}),
        ("tool-results", {"tool": "x", "ok": "yes", "argsDigest": "sha256:1"}, {"ok", "argsDigest"}),
        ("artifacts", {"name": "a"}, {""}),
        ("artifacts", {"name": "a", "text": "x", "base64": "AA=="}, {""}),
        ("artifacts", {"name": "a", "base64": "not base64!"}, {"base64"}),
        ("artifacts", {"name": "../../etc/passwd", "text": "x"}, {"name"}),
        ("artifacts", {"name": "/etc/passwd", "text": "x"}, {"name"}),
        ("artifacts", {"name": "a\u202eb", "text": "x"}, {"name"}),
        ("artifacts", {"name": "a", "text": "x", "mediaType": "text/html\r\nX: y"}, {"mediaType"}),
        ("complete", {**COMPLETE, "selfReview": "  "}, {"selfReview"}),
        ("complete", {**COMPLETE, "deliverable": {"name": "x"}}, {"deliverable"}),
        ("complete", {**COMPLETE, "evidence": ["../x"]}, {"evidence.0"}),
        ("fail", {"reason": "No", "retryable": "no"}, {"retryable"}),
        ("heartbeat", {"x": 1}, {"x"}),
    ]
    async with serving(bench) as port:
        for verb, body, fields in cases:
            answer = await port.client.post(
                f"/agent/v1/runs/{run.name}/{verb}", content=json.dumps(body), headers=port.headers(run)
            )
            wire = problem(answer, 422, "Invalid")
            assert {e["field"] for e in wire["errors"]} == fields, (verb, body)
            assert all(e["message"] for e in wire["errors"])
    assert bench.run(run.uid) == run


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"message": "\\ud800"}', b"[" * 100_000, b'{"message": NaN}', b'{"a":' * 50_000, b"\0"],
)
async def test_a_body_that_is_not_json_is_refused(bench: RunBench, run: Resource, body: bytes) -> None:
    async with serving(bench) as port:
        answer = await port.client.post(f"/agent/v1/runs/{run.name}/progress", content=body, headers=port.headers(run))
        problem(answer, 422, "Invalid")


async def test_only_plain_json_is_read(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for more in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json; charset=latin-1"}):
            problem(await port.post(run, "heartbeat", **more), 415, "NotJson")
        problem(await port.post(run, "heartbeat", **{"Content-Encoding": "gzip"}), 415, "Encoded")
        good = await port.post(run, "heartbeat", **{"Content-Type": 'Application/JSON; charset="UTF-8"'})
        assert good.status_code == 200


async def test_hostile_text_is_kept_as_data_without_its_poison(bench: RunBench, run: Resource) -> None:
    nasty = "\x1b]0;owned\x07\x00<script>alert(1)</script>'; DROP TABLE objects; --\u202e" + "🦀" * 3000
    async with serving(bench) as port:
        assert (await port.post(run, "progress", {"message": nasty, "workPlan": nasty})).status_code == 200
        assert (await port.post(run, "usage", {"inputTokens": 1, "model": nasty})).status_code == 200
        assert (await port.post(run, "fail", {"reason": nasty, "message": nasty})).status_code == 200
    status = bench.status(run.uid)
    assert status.progress is not None
    assert status.report is not None
    assert status.progress.startswith("]0;owned<script>alert(1)</script>'; DROP TABLE objects; --🦀")
    assert (len(status.progress), len(status.report.message), len(status.report.reason)) == (2000, 2000, 100)
    with bench.store.snapshot() as snapshot:
        assert snapshot.verify_events().problem == ""
        text = json.dumps([e.message for e in snapshot.events()], ensure_ascii=False)
    assert re.search(r"[\x00\x1b\u202e]", text) is None


async def test_artifacts_of_every_kind_are_kept_byte_for_byte(bench: RunBench, run: Resource) -> None:
    files = ArtifactFiles(bench.folder)
    contents = {
        "small.txt": "Grüße\n".encode(),
        "logs/big.txt": b"line\n" * 200_000,
        "raw.bin": bytes(range(256)) * 4000,
        "empty": b"",
        "esc.txt": b"\x1b[31mred\r\n",
    }
    async with serving(bench) as port:
        for name, data in contents.items():
            answer = await port.post(run, "artifacts", {"name": name, "base64": encoded(data)})
            assert answer.status_code == 200, answer.text
            assert answer.json()["size"] == len(data)
    kept = {a.name: a for a in bench.status(run.uid).artifacts}
    assert {name: files.read(run.uid, artifact) for name, artifact in kept.items()} == contents
    assert kept["small.txt"].text == "Grüße\n"
    assert kept["esc.txt"].text == "[31mred\n"
    assert kept["raw.bin"].text is None


async def test_another_content_under_a_name_is_refused_and_leaves_no_file(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        assert (await port.post(run, "artifacts", {"name": "a", "base64": "AAE="})).status_code == 200
        assert (await port.post(run, "artifacts", {"name": "a", "base64": "AAE="})).status_code == 200
        wire = problem(await port.post(run, "artifacts", {"name": "a", "base64": "AAEC"}), 409, "Conflict")
        assert "artifact names are unique within a run" in wire["detail"]
        racing = await asyncio.gather(
            *(port.post(run, "artifacts", {"name": "b", "base64": encoded(bytes([0, n]))}) for n in range(10))
        )
        assert sorted(a.status_code for a in racing) == [200] + [409] * 9
    assert len(list(bench.folder.glob("artifacts/*/*"))) == 2


async def test_evidence_must_be_there(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        wire = problem(await port.post(run, "complete", {**COMPLETE, "evidence": ["x.txt"]}), 409, "EvidenceMissing")
        assert "x.txt" in wire["detail"]
        assert (await port.post(run, "artifacts", {"name": "x.txt", "text": "x"})).status_code == 200
        assert (await port.post(run, "complete", {**COMPLETE, "evidence": ["x.txt"]})).status_code == 200


async def test_a_deliverable_that_does_not_meet_the_schema_is_taken_and_ends_the_run_as_failed(bench: RunBench) -> None:
    schema = {"type": "object", "required": ["total"]}
    good, bad = (bench.order(state=RunState.RUNNING, output_schema=schema) for _ in range(2))
    async with serving(bench) as port:
        for run, text in ((good, '{"total": 1}'), (bad, "# Done")):
            body = {**COMPLETE, "deliverable": {"name": "out.json", "mediaType": "application/json", "text": text}}
            assert (await port.post(run, "complete", body)).status_code == 200
            with bench.tx() as tx:
                records.finish(tx, run.uid, Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0))
    assert bench.status(good.uid).state is RunState.SUCCEEDED
    status = bench.status(bad.uid)
    assert (status.state, status.reason) == (RunState.FAILED, "OutputInvalid")
    assert "it is not JSON" in status.message


async def test_what_later_versions_bring_is_not_there_yet(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for verb in ("no-such-verb", "nonsense", "progress/"):
            problem(await port.post(run, verb), 404, "NotFound")
        for path in ("/", "/docs", "/openapi.json"):
            problem(await port.client.post(path, json={}, headers=port.headers(run)), 404, "NotFound")
        answer = await port.client.get(f"/agent/v1/runs/{run.name}/progress", headers=port.headers(run))
        problem(answer, 405, "MethodNotAllowed")


async def test_the_protocol_is_described(bench: RunBench) -> None:
    async with serving(bench) as port:
        document = (await port.client.get("/agent/v1/openapi.json")).json()
    verbs = {path.rpartition("/")[2] for path in document["paths"]}
    of_runs = {"heartbeat", "progress", "usage", "artifacts", "tool-results", "complete", "fail", "inbox"}
    of_runs |= {"messages", "follow-ups", "commands", "missions", "sub-agents", "terminate"}
    assert verbs == of_runs | {"authorize", "{decision_id}", "claims", "renew", "release", "log", "end"} | {
        "claude", "openclaw", "{server}", "tools", "proposals",
    }  # fmt: skip
    complete = document["paths"]["/agent/v1/runs/{run}/complete"]["post"]
    assert complete["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/CompleteMessage")
    assert {p["name"] for p in complete["parameters"]} == {"run", "Idempotency-Key"}
    assert set(complete["responses"]) >= {"200", "401", "404", "409", "413", "422", "429", "503"}
    text = json.dumps(document)
    for ref in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert ref in document["components"]["schemas"]
    assert "HTTPValidationError" not in text


async def test_only_known_names_of_this_machine_are_answered(bench: RunBench, run: Resource) -> None:
    path = f"/agent/v1/runs/{run.name}/heartbeat"
    async with serving(bench, hosts=("remit.internal",)) as port:
        for host in ("localhost", "127.0.0.1:1", "[::1]:8421", "LOCALHOST:80", "remit.internal:8421", "localhost."):
            answer = await port.client.post(path, json={}, headers=port.headers(run, Host=host))
            assert answer.status_code == 200, host
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "[::1",
            "localhost:x",
            "",
        ):
            answer = await port.client.post(path, json={}, headers=port.headers(run, Host=host))
            problem(answer, 421, "UnknownHost")


async def test_a_page_in_a_browser_gets_no_leave_to_ask(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answer = await port.client.options(
            f"/agent/v1/runs/{run.name}/progress",
            headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        )
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_usage_in_any_common_form_is_taken(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for usd in (0.1 + 0.2, "0.25", 1, "0.0000001", 0):
            answer = await port.post(run, "usage", {"usd": usd})
            assert answer.status_code == 200, answer.text
    assert bench.status(run.uid).spend.usd == Decimal("0.300001") + Decimal("0.25") + 1 + Decimal("0.000001")


async def test_an_answer_names_no_server_and_no_library(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answer: httpx2.Response = await port.post(run, "heartbeat")
        assert "server" not in answer.headers


async def test_a_token_that_was_revoked_counts_no_more_although_the_run_goes_on(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        assert (await port.post(run, "heartbeat")).status_code == 200
        with bench.tx() as tx:
            records.revoke_token(tx, bench.run(run.uid), "quarantine by user:alice: it asked for keys")
        for verb in ("heartbeat", "progress", "complete"):
            answer = await port.post(run, verb, {"message": "still here"})
            assert "it asked for keys" in problem(answer, 401, "TokenDead")["detail"]
        assert (await port.inbox(run)).status_code == 401
    assert bench.status(run.uid).state is RunState.RUNNING
