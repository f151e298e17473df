"""The hook port: who is heard, who is not, and what a storm does."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx2
import pytest
import pytest_asyncio

from api.hooks import Hook, HookLimits, Proof, create_hooks_app

pytestmark = pytest.mark.asyncio

SECRET = "a secret of some length"
BODY = b'{"ref": "refs/heads/main", "repository": {"full_name": "acme/agents"}}'


@dataclass
class Desk:
    """The application, without a network, and what it woke."""

    client: httpx2.AsyncClient
    hooks: dict[tuple[str, str], Hook]
    woken: list[tuple[str, str]] = field(default_factory=list)
    now_s: float = 0.0

    async def post(
        self, path: str = "/hooks/agents", body: bytes = BODY, proof: Proof = Proof.GITHUB, secret: str = SECRET,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:  # fmt: skip
        return await self.client.post(path, content=body, headers=headers or prove(proof, secret, body))


def prove(proof: Proof, secret: str, body: bytes) -> dict[str, str]:
    """The headers that a forge sends."""
    mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        Proof.GITHUB: {"X-Hub-Signature-256": f"sha256={mac}"},
        Proof.GITLAB: {"X-Gitlab-Token": secret},
        Proof.GITEA: {"X-Gitea-Signature": mac},
    }[proof]


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    made: Desk

    async def hook_of(namespace: str, name: str) -> Hook | None:
        return made.hooks.get((namespace, name))

    app = create_hooks_app(
        hook_of,
        lambda namespace, name: made.woken.append((namespace, name)),
        monotonic=lambda: made.now_s,
        limits=HookLimits(body=100_000, requests_per_s=1.0, burst=5),
    )
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://hooks.example.org") as client:
        made = Desk(client, {("default", "agents"): Hook(Proof.GITHUB, SECRET)})
        yield made


@pytest.mark.parametrize("proof", list(Proof))
async def test_a_proven_request_wakes_its_source(desk: Desk, proof: Proof) -> None:
    desk.hooks["acme", "specs"] = Hook(proof, SECRET)
    answer = await desk.post("/hooks/acme/specs", proof=proof)
    assert (answer.status_code, answer.content) == (202, b"")
    assert desk.woken == [("acme", "specs")]


async def test_a_source_of_the_default_namespace_needs_its_name_only(desk: Desk) -> None:
    assert (await desk.post()).status_code == 202
    assert desk.woken == [("default", "agents")]


@pytest.mark.parametrize("proof", list(Proof))
async def test_a_false_proof_wakes_nobody(desk: Desk, proof: Proof) -> None:
    desk.hooks["default", "agents"] = Hook(proof, SECRET)
    good = prove(proof, SECRET, BODY)
    ((name, value),) = good.items()
    others = {**prove(Proof.GITHUB, SECRET, BODY), **prove(Proof.GITEA, SECRET, BODY)}
    others.pop(name, None)
    false = [
        prove(proof, "another secret", BODY),
        {name: ""},
        {name: value[:-1]},
        {name: value + "0"},
        {name: value.upper()},
        {"X-Nothing": "x"},
    ]
    for headers in false:
        desk.now_s += 100
        assert (await desk.post(headers=headers)).status_code == 401, headers
    assert (await desk.post(headers=others)).status_code == 401
    assert desk.woken == []


async def test_a_changed_body_is_not_proven(desk: Desk) -> None:
    answer = await desk.post(body=BODY + b" ", headers=prove(Proof.GITHUB, SECRET, BODY))
    assert answer.status_code == 401


async def test_the_old_signature_of_github_does_not_count(desk: Desk) -> None:
    old = hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()
    assert (await desk.post(headers={"X-Hub-Signature": f"sha1={old}"})).status_code == 401


async def test_nobody_learns_which_sources_there_are(desk: Desk) -> None:
    answers = [
        await desk.post("/hooks/agents", secret="x"),
        await desk.post("/hooks/unknown", secret="x"),
        await desk.post("/hooks/unknown", secret="nobody has this secret"),
        await desk.post("/hooks/acme/agents", secret="x"),
        await desk.post("/hooks/No_Name!", secret="nobody has this secret"),
    ]
    assert {(a.status_code, a.content) for a in answers} == {(401, answers[0].content)}
    assert desk.woken == []


async def test_what_the_body_says_is_not_read(desk: Desk) -> None:
    for body in (b"", b"\xff\x00", b"{", b'{"ref": "refs/heads/other", "zen": "x"}'):
        desk.now_s += 10
        assert (await desk.post(body=body)).status_code == 202
    assert desk.woken == [("default", "agents")] * 4


async def test_a_replay_is_one_more_look(desk: Desk) -> None:
    headers = prove(Proof.GITHUB, SECRET, BODY)
    for _ in range(3):
        assert (await desk.post(headers=headers)).status_code == 202
    assert desk.woken == [("default", "agents")] * 3


async def test_a_storm_is_held_off_and_heard_again_later(desk: Desk) -> None:
    codes = [(await desk.post()).status_code for _ in range(50)]
    assert codes.count(202) == 5
    assert codes.count(429) == 45
    assert "Retry-After" in (await desk.post()).headers
    desk.now_s += 10
    assert (await desk.post()).status_code == 202


async def test_a_storm_at_one_source_leaves_the_others_be(desk: Desk) -> None:
    desk.hooks["default", "other"] = Hook(Proof.GITHUB, SECRET)
    for _ in range(50):
        await desk.post("/hooks/agents", secret="x")
    assert (await desk.post("/hooks/other")).status_code == 202


async def test_a_body_that_is_too_large_is_refused(desk: Desk) -> None:
    assert (await desk.post(body=b"x" * 100_001)).status_code == 413
    assert (await desk.post(body=b"x" * 100_000)).status_code == 202

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000

    answer = await desk.client.post("/hooks/agents", content=parts(), headers=prove(Proof.GITHUB, SECRET, BODY))
    assert answer.status_code == 413


async def test_only_posts_are_taken(desk: Desk) -> None:
    assert (await desk.client.get("/hooks/agents")).status_code == 405
    assert (await desk.client.post("/")).status_code == 404
    assert (await desk.client.post("/hooks/a/b/c")).status_code == 404
