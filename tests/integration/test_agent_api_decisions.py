"""The gate over HTTP: authorize, the long poll at a decision, and results, on a real server over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from controllers.reconcilers import approvals
from controllers.runs import records
from schemas.agent import AgentSpec
from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.base import Key
from schemas.resource import Declared, Resource, digest
from tests.fakes.agent_port import WAKES_S, AgentPort, problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    """A run of a specialist who may use every tool."""
    made = bench.order()
    with bench.tx() as tx:
        agent = tx.get_by_uid(str(made.spec["agentUid"]))
        assert agent is not None
        spec = {**agent.spec, "autonomyLevel": "Specialist", "tools": [{"name": "*"}]}
        wire = AgentSpec.model_validate(spec).to_wire()
        tx.put_spec(agent, Declared(agent.kind, agent.namespace, agent.name, wire, agent.labels))
    return made


async def ask(port: AgentPort, run: Resource, tool: str, key: str | None = None, **body: Any) -> httpx2.Response:
    return await port.client.post("/agent/v1/authorize", json={"tool": tool, **body}, headers=port.headers(run, key))


async def decided(port: AgentPort, run: Resource, decision: str, wait: int = 0) -> httpx2.Response:
    return await port.client.get(f"/agent/v1/decisions/{decision}", params={"wait": wait}, headers=port.headers(run))


def answer(bench: RunBench, request: str, verdict: str = "Approve") -> None:
    """A person answers, and the engine takes it in."""
    with bench.tx() as tx:
        found = tx.get(Key("ApprovalRequest", "default", request))
        assert found is not None
        spec = ApprovalDecisionSpec.model_validate(
            {
                "requestRef": {"name": found.name, "uid": found.uid},
                "actionDigest": found.spec["actionDigest"],
                "verdict": verdict,
            }
        )
        status = ApprovalDecisionStatus(subject="user:alice", transport="Store")
        made = tx.create(
            Declared("ApprovalDecision", "default", f"{request}-{verdict.lower()}", spec.to_wire()),
            status=status.to_wire(),
        )
        approvals.reconcile_decision(tx, made.key)


async def test_a_call_that_is_allowed_is_answered_at_once_and_the_same_again(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        first = await ask(port, run, "read_file", "k1", args={"path": "a"})
        assert first.status_code == 200, first.text
        assert first.json()["decision"] == "allow"
        again = await ask(port, run, "read_file", "k1", args={"path": "a"})
        assert again.json() == first.json()
        in_body = await port.client.post(
            "/agent/v1/authorize",
            json={"tool": "read_file", "args": {"path": "a"}, "idempotencyKey": "k1"},
            headers={k: v for k, v in port.headers(run).items() if k != "Idempotency-Key"},
        )
        assert in_body.json() == first.json()


async def test_a_long_poll_is_woken_by_the_answer(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        asked = (await ask(port, run, "push_tag", args={"tag": "v1"}, target="origin")).json()
        assert asked["decision"] == "ask"
        assert asked["expiresAt"]
        assert (await decided(port, run, asked["decisionId"])).json() == asked
        waiting = asyncio.create_task(decided(port, run, asked["decisionId"], 50))
        await port.until_waiting(1)
        answer(bench, asked["approvalRequest"])
        found = (await asyncio.wait_for(waiting, WAKES_S)).json()
        assert (found["decision"], found["code"]) == ("allow", "Approved")
        assert (await decided(port, run, asked["decisionId"], 50)).json() == found, "an answer that was lost"


async def test_arguments_that_hold_a_secret_are_asked_for_again(bench: RunBench, run: Resource) -> None:
    args = {"url": "https://example.org", "token": "s3cret-and-long"}
    async with serving(bench) as port:
        asked = (await ask(port, run, "push_tag", "k1", args=args)).json()
        with bench.store.snapshot() as snapshot:
            everything = [*snapshot.objects("ToolCall"), *snapshot.objects("ApprovalRequest"), *snapshot.events()]
        assert "s3cret" not in repr(everything)
        answer(bench, asked["approvalRequest"])
        found = (await decided(port, run, asked["decisionId"], 50)).json()
        assert (found["decision"], found["authorizeAgain"]) == ("ask", True)
        assert (await ask(port, run, "push_tag", "k1", args=args)).json()["decision"] == "allow"


async def test_what_cannot_be_asked_is_refused(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        await ask(port, run, "read_file", "k1", args={"path": "a"})
        problem(await ask(port, run, "read_file", "k1", args={"path": "b"}), 422, "KeyReused")
        wrong = await ask(port, run, "read_file", args={"path": "a"}, argsDigest=digest({"path": "b"}))
        problem(wrong, 422, "ArgsDigestMismatch")
        right = await ask(port, run, "read_file", args={"path": "a"}, argsDigest=digest({"path": "a"}))
        assert right.status_code == 200
        problem(await ask(port, run, "read_file", "k2", idempotencyKey="k3"), 422, "KeysDiffer")
        for body in (
            {},
            {"tool": ""},
            {"tool": "x" * 201},
            {"tool": "x", "args": []},
            {"tool": "x", "args": {"text": "y" * 300_000}},
            {"tool": "x", "args": {"n": 2**70}},
            {"tool": "x", "nonsense": 1},
            {"tool": "x", "estimate": {"usd": "-1"}},
        ):
            response = await port.client.post("/agent/v1/authorize", json=body, headers=port.headers(run))
            assert response.status_code == 422, (body, response.text)
        nan = await port.client.post(
            "/agent/v1/authorize", content=b'{"tool": "x", "args": {"n": NaN}}', headers=port.headers(run)
        )
        assert nan.status_code == 422
        bare = {k: v for k, v in port.headers(run).items() if k != "Idempotency-Key"}
        problem(await port.client.post("/agent/v1/authorize", json={"tool": "x"}, headers=bare), 400,
                "IdempotencyKeyMissing")  # fmt: skip


async def test_a_decision_is_seen_by_its_own_run_only(bench: RunBench, run: Resource) -> None:
    other = bench.order()
    async with serving(bench) as port:
        asked = (await ask(port, run, "read_file")).json()
        problem(await decided(port, other, asked["decisionId"]), 404, "NotFound")
        problem(await decided(port, run, run.uid), 404, "NotFound")
        problem(await decided(port, run, "nonsense"), 404, "NotFound")
        stolen = await port.post(other, "tool-results", {"tool": "x", "ok": True, "decisionId": asked["decisionId"]})
        problem(stolen, 404, "NotFound")


async def test_a_result_closes_the_call_once(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        asked = (await ask(port, run, "read_file", "k1", args={"path": "a"})).json()
        body = {"tool": "read_file", "ok": False, "error": "no such file", "decisionId": asked["decisionId"]}
        assert (await port.post(run, "tool-results", body, key="r1")).status_code == 200
        assert (await port.post(run, "tool-results", body, key="r1")).status_code == 200
        problem(await port.post(run, "tool-results", body, key="r2"), 409, "CallEnded")
        done = (await ask(port, run, "read_file", "k1", args={"path": "a"})).json()
        assert done["decision"] == "deny", "the call was made: its key opens nothing more"
    assert bench.status(run.uid).tool_calls == 1


async def test_an_agent_that_asks_for_the_same_again_and_again_is_refused_and_then_stopped(
    bench: RunBench, run: Resource
) -> None:
    async with serving(bench) as port:
        words = [(await ask(port, run, "read_file", args={"path": "a"})).json() for _ in range(42)]
        other_call = (await ask(port, run, "read_file", args={"path": "b"})).json()
    assert [w["decision"] for w in words] == ["allow"] * 20 + ["deny"] * 22
    assert words[20]["code"] == other_call["code"] == "Limit"
    assert "number 21 in 10 minutes" in words[20]["reason"]
    assert "goes around in circles (SameCall)" in other_call["reason"]


async def test_asking_again_about_a_call_that_waits_for_a_person_is_never_too_often(
    bench: RunBench, run: Resource
) -> None:
    async with serving(bench) as port:
        words = [(await ask(port, run, "deploy_prod", "same")).json()["decision"] for _ in range(45)]
        assert words == ["ask"] * 45
        assert (await ask(port, run, "read_file", args={"path": "a"})).json()["decision"] == "allow"


async def test_a_token_that_was_revoked_gets_no_decision_although_its_run_goes_on(
    bench: RunBench, run: Resource
) -> None:
    async with serving(bench) as port:
        first = await ask(port, run, "read_db", "one")
        assert first.json()["decision"] == "allow"
        with bench.tx() as tx:
            records.revoke_token(tx, bench.run(run.uid), "quarantine by user:alice: it asked for keys")
        for key in ("one", "two"):
            assert "it asked for keys" in problem(await ask(port, run, "read_db", key), 401, "TokenDead")["detail"]
        problem(await decided(port, run, first.json()["decisionId"]), 401, "TokenDead")
