"""Places that ask over HTTP, on a real server over a real store: Claude Code, OpenClaw, Docker's MCP gateway."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from remit_client.hooks.endings import digest

from controllers.reconcilers import approvals
from controllers.runs import records, tokens
from schemas.agent import AgentSpec
from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.resource import Declared, Resource
from schemas.resource import digest as engine_digest
from schemas.run import RunReason, RunState
from tests.fakes.agent_port import TOKENS, AgentPort, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio

CLAUDE, OPENCLAW = "/agent/v1/hooks/claude", "/agent/v1/hooks/openclaw"
DOCKER = "/agent/v1/interceptors/docker/github"


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


def event(name: str = "PreToolUse", tool: str = "Read", **more: Any) -> dict[str, Any]:
    return {
        "session_id": "s", "cwd": "/srv", "hook_event_name": name, "tool_name": tool, "tool_use_id": "toolu_1",
        "tool_input": {"file_path": "/srv/a.txt"}, **more,
    }  # fmt: skip


def claw(hook: str = "before_tool_call", **more: Any) -> dict[str, Any]:
    return {"hook": hook, "toolName": "read", "toolCallId": "c1", "params": {"path": "a"}, "cwd": "/srv", **more}


def bearer(run: Resource, kind: str = tokens.RUN) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS.mint(run.uid, kind)}", "Content-Type": "application/json"}


def basic(run: Resource) -> dict[str, str]:
    words = base64.b64encode(f"run:{TOKENS.mint(run.uid)}".encode()).decode()
    return {"Authorization": f"Basic {words}"}


async def said(port: AgentPort, body: Any, headers: dict[str, str], **query: Any) -> dict[str, Any]:
    """What Claude Code reads; the status is always 200."""
    done = await port.client.post(CLAUDE, params=query, headers=headers, **_body(body))
    assert done.status_code == 200
    return dict(done.json().get("hookSpecificOutput", {}))


def _body(body: Any) -> dict[str, Any]:
    return {"content": body} if isinstance(body, bytes) else {"json": body}


def call_of(bench: RunBench) -> Resource:
    with bench.store.snapshot() as snapshot:
        (call,) = snapshot.objects("ToolCall")
    return call


def run_of(bench: RunBench, run: Resource) -> dict[str, Any]:
    with bench.store.snapshot() as snapshot:
        found = snapshot.get_by_uid(run.uid)
    assert found is not None
    return dict(found.status)


def answer(bench: RunBench, verdict: str = "Approve") -> None:
    """A person answers the only question."""
    with bench.tx() as tx:
        (found,) = tx.objects("ApprovalRequest")
        spec = ApprovalDecisionSpec.model_validate(
            {
                "requestRef": {"name": found.name, "uid": found.uid},
                "actionDigest": found.spec["actionDigest"],
                "verdict": verdict,
            }
        )
        status = ApprovalDecisionStatus(subject="user:alice", transport="Store")
        made = tx.create(Declared("ApprovalDecision", "default", "answer", spec.to_wire()), status=status.to_wire())
        approvals.reconcile_decision(tx, made.key)


async def test_claude_is_answered_in_its_own_words(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        allowed = await said(port, event(), bearer(run))
        assert (allowed["permissionDecision"], allowed["hookEventName"]) == ("allow", "PreToolUse")
        assert await said(port, event(tool_use_id="t2"), bearer(run), keepPrompts="true") == {}
        force = event(tool="Bash", tool_input={"command": "rm -rf /"}, tool_use_id="t3")
        denied = await said(port, force, bearer(run))
        assert denied["permissionDecision"] == "deny"
        assert denied["permissionDecisionReason"].startswith("Remit: ")
    with bench.store.snapshot() as snapshot:
        calls = {c.spec["idempotencyKey"]: c for c in snapshot.objects("ToolCall")}
    assert calls["toolu_1"].spec["tool"] == "read_file"
    assert calls["toolu_1"].spec["args"] == {"path": "a.txt"}
    assert {(c.spec["channel"], c.spec["placed"]) for c in calls.values()} == {("http-hook", False)}


async def test_the_folder_that_remit_named_is_the_one_that_paths_count_from(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        inside = event(cwd="/srv/deep/below", tool_input={"file_path": "x"})
        await said(port, inside, bearer(run) | {"Remit-Workspace": "/srv"})
    assert call_of(bench).spec["args"] == {"path": "deep/below/x"}


async def test_a_person_is_waited_for_and_the_same_call_is_allowed_once(bench: RunBench, run: Resource) -> None:
    push = event(tool="push_tag", tool_input={"tag": "v1"})
    async with serving(bench) as port:
        denied = await said(port, push, bearer(run), wait=0)
        assert denied["permissionDecision"] == "deny"
        assert "remit" in denied["permissionDecisionReason"].lower()
        later = await said(port, push, bearer(run), wait=0, defer="true")
        assert later["permissionDecision"] == "defer"
        waiting = asyncio.create_task(said(port, push, bearer(run), wait=50))
        await port.until_waiting(1)
        answer(bench)
        assert (await asyncio.wait_for(waiting, 20))["permissionDecision"] == "allow"


async def test_arguments_that_hold_a_secret_are_taken_from_the_question(bench: RunBench, run: Resource) -> None:
    push = event(tool="push_tag", tool_input={"tag": "v1", "token": "s3cret-and-long"})
    async with serving(bench) as port:
        waiting = asyncio.create_task(said(port, push, bearer(run), wait=50))
        await port.until_waiting(1)
        answer(bench)
        assert (await asyncio.wait_for(waiting, 20))["permissionDecision"] == "allow"


async def test_a_result_settles_the_call_that_it_is_about(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        await said(port, event(), bearer(run))
        after = event("PostToolUse", tool_response={"text": "hello"}, duration_ms=12)
        assert await said(port, after, bearer(run)) == {}
        assert await said(port, after, bearer(run)) == {}, "told twice"
    call = call_of(bench)
    assert (call.state, call.status["durationMs"]) == ("Succeeded", 12)
    assert call.status["outputDigest"] == digest({"text": "hello"})
    assert (run_of(bench, run)["toolCalls"], run_of(bench, run).get("unaskedCalls", 0)) == (1, 0)


async def test_a_failure_is_told_as_one(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        await said(port, event(), bearer(run))
        await said(port, event("PostToolUseFailure", error="no such file"), bearer(run))
    assert (call_of(bench).state, call_of(bench).status["errorSignature"] != "") == ("Failed", True)


async def test_a_result_that_nobody_asked_for_is_counted_as_such(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        await said(port, event("PostToolUse", tool_use_id="other"), bearer(run))
        denied = event(tool="push_tag", tool_input={"tag": "v1"})
        await said(port, denied, bearer(run), wait=0)
        await said(port, {**denied, "hook_event_name": "PostToolUse"}, bearer(run))
    assert run_of(bench, run)["unaskedCalls"] == 2, "one nobody knew, and one that was made without leave"


async def test_without_a_key_the_oldest_open_call_alike_is_the_one(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for key in ("one", "two"):
            asked = {"tool": "read_file", "args": {"path": "a"}}
            await port.client.post("/agent/v1/authorize", json=asked, headers=port.headers(run, key))
        report = {"tool": "read_file", "argsDigest": digest({"path": "a"}), "ok": True}
        assert (await port.post(run, "tool-results", report)).status_code == 200
    with bench.store.snapshot() as snapshot:
        states = {c.spec["idempotencyKey"]: c.state for c in snapshot.objects("ToolCall")}
    assert states == {"one": "Succeeded", "two": "Allowed"}


@pytest.mark.parametrize("value", [{"b": [1, 2.5, None], "a": "ä\n"}, {}, {"x": {"z": 1, "y": True}}], ids=str)
async def test_the_digests_of_hooks_are_those_of_the_engine(value: Any) -> None:
    assert digest(value) == engine_digest(value)


BAD = [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff", {}, {"hook_event_name": "New"}, event(tool_input=[1]),
       event(cwd="relative"), event(tool_name="x" * 300), event(tool_input={"x": "y" * 300_000})]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=lambda body: repr(body)[:30])
async def test_whatever_claude_sends_wrongly_is_denied(bench: RunBench, run: Resource, body: Any) -> None:
    async with serving(bench) as port:
        assert (await said(port, body, bearer(run)))["permissionDecision"] == "deny"


@pytest.mark.parametrize("query", ["wait=x", "wait=-1", "wait=99999", "wait=٣", "defer=1", "wat=1"])
async def test_a_wrong_address_is_a_denial_too(bench: RunBench, run: Resource, query: str) -> None:
    async with serving(bench) as port:
        done = await port.client.post(f"{CLAUDE}?{query}", json=event(), headers=bearer(run))
        assert done.json()["hookSpecificOutput"]["permissionDecision"] == "deny"
        for path in (f"{DOCKER}?{query}", DOCKER.replace("github", "a b")):
            done = await port.client.post(path, json={"params": {"name": "x"}}, headers=basic(run))
            assert (done.status_code, done.json()["isError"]) == (200, True)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}], ids=str)
async def test_a_false_token_is_denied_in_the_words_of_each(
    bench: RunBench, run: Resource, headers: dict[str, str]
) -> None:
    headers = {**headers, "Content-Type": "application/json"}
    async with serving(bench) as port:
        assert (await said(port, event(), headers))["permissionDecision"] == "deny"
        assert (await port.client.post(OPENCLAW, json=claw(), headers=headers)).json()["decision"] == "deny"
        assert (await port.client.post(DOCKER, json={"params": {"name": "x"}}, headers=headers)).json()["isError"]


async def test_a_run_that_is_over_is_denied_and_so_is_everything_when_the_store_fails(
    bench: RunBench, run: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(bench) as port:
        with bench.tx() as tx:
            records.finish(tx, run.uid, records.Ending(RunState.FAILED, RunReason.CANCELED))
        assert (await said(port, event(), bearer(run)))["permissionDecision"] == "deny"
        assert (await port.client.post(OPENCLAW, json=claw(), headers=bearer(run))).json()["decision"] == "deny"
        assert (await port.client.post(DOCKER, json={"params": {"name": "x"}}, headers=basic(run))).json()["isError"]
        monkeypatch.setattr(bench.store, "transaction", lambda *_, **__: 1 / 0)
        assert (await said(port, event(), bearer(run)))["permissionDecision"] == "deny"


async def test_a_placed_hook_may_ask_and_report_and_nothing_else(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        headers = bearer(run, tokens.HOOK)
        asked = {"tool": "read_file", "args": {"path": "a"}}
        key = {"Idempotency-Key": "k"}
        claims = {"Remit-Channel": "client"}
        done = await port.client.post("/agent/v1/authorize", json=asked, headers=headers | key | claims)
        assert done.json()["decision"] == "allow"
        found = await port.client.get(f"/agent/v1/decisions/{done.json()['decisionId']}", headers=headers)
        assert found.status_code == 200
        for verb, status in (("complete", 401), ("fail", 401), ("heartbeat", 401), ("tool-results", 200)):
            body = {"tool": "read_file", "ok": True} if status == 200 else {"reason": "X", "message": "y"}
            told = await port.client.post(
                f"/agent/v1/runs/{run.uid}/{verb}", json=body, headers=headers | {"Idempotency-Key": verb}
            )
            assert told.status_code == status, verb
    spec = call_of(bench).spec
    assert (spec["channel"], spec["placed"]) == ("hook", True)


async def test_what_the_header_says_is_kept_and_proves_nothing(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for key, claim in (("a", "mcp-proxy"), ("b", "made-up"), ("c", "hook")):
            await port.client.post(
                "/agent/v1/authorize",
                json={"tool": "read_file"},
                headers=port.headers(run, key, **{"Remit-Channel": claim}),
            )
    with bench.store.snapshot() as snapshot:
        calls = {c.spec["idempotencyKey"]: (c.spec["channel"], c.spec["placed"]) for c in snapshot.objects("ToolCall")}
    assert calls == {"a": ("mcp-proxy", False), "b": ("client", False), "c": ("hook", False)}
    assert [p["channel"] for p in run_of(bench, run)["passages"]] == ["mcp-proxy", "client", "hook"]


async def test_openclaw_reads_allow_or_is_blocked(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:

        async def ask(body: Any) -> Any:
            return (await port.client.post(OPENCLAW, params={"wait": 0}, headers=bearer(run), **_body(body))).json()

        assert (await ask(claw()))["decision"] == "allow"
        assert (await ask(claw(toolName="push_tag", toolCallId="c2")))["decision"] == "deny"
        for bad in (b"", claw("before"), claw(params=3), claw(toolName=None)):
            assert (await ask(bad))["decision"] == "deny"
        assert await ask(claw("after_tool_call", result="text", durationMs=3)) == {}
    with bench.store.snapshot() as snapshot:
        call = next(c for c in snapshot.objects("ToolCall") if c.spec["idempotencyKey"] == "c1")
    assert (call.spec["channel"], call.state, call.status["durationMs"]) == ("plugin", "Succeeded", 3)


async def test_an_empty_answer_lets_the_docker_gateway_go_on_and_any_other_does_not(
    bench: RunBench, run: Resource
) -> None:
    async with serving(bench) as port:

        async def ask(body: Any, **more: str) -> httpx2.Response:
            return await port.client.post(DOCKER, params={"wait": 0}, headers=basic(run) | more, **_body(body))

        go = b'{"Session":{},"Params":{"name":"search_read","arguments":{"q":"x"}},"Extra":null}'
        done = await ask(go)
        assert done.status_code == 200
        denied = done.json()
        assert denied["isError"] is True
        assert denied["content"][0]["text"].startswith("Remit")
        for bad in (b"", b"{", {}, {"params": {}}, {"params": {"name": "x"}, "Params": {"name": "y"}}, {"params": []}):
            refused = await ask(bad)
            assert refused.content, "an empty answer is leave"
            assert refused.json()["isError"] is True
        answer(bench)
        assert (await ask(go)).content == b""
    with bench.store.snapshot() as snapshot:
        calls = snapshot.objects("ToolCall")
    assert {(c.spec["tool"], c.spec["channel"]) for c in calls} == {("mcp:github/search_read", "interceptor")}
