"""Workers over HTTP: claims, their fences, and what becomes of repeated, late and false requests."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from controllers.effects import claims
from controllers.runs import records
from schemas.executor import ExecutorSpec
from schemas.resource import Resource
from schemas.run import RunState
from tests.fakes.agent_port import WAKES_S, AgentPort, problem, serving
from tests.fakes.runs import RunBench

TOKEN = "the-token-of-every-worker-here"
PULL = {"type": "Pull", "pull": {"lease": "60s", "auth": {"env": "T"}, "command": {"argv": ["work"]}}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def executor(bench: RunBench) -> Resource:
    return bench.declare("Executor", "lab", ExecutorSpec.model_validate(PULL).to_wire())


def token_of(executor: Resource) -> str | None:
    return TOKEN if executor.name == "lab" else f"another-token-for-{executor.name}"


def headers(key: str, token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Idempotency-Key": key}


async def ask(
    port: AgentPort, key: str, *, wait: int = 0, worker: str = "one", executor: str = "lab", token: str = TOKEN
) -> httpx2.Response:
    body = {"executor": executor, "worker": worker}
    return await port.client.post(f"/agent/v1/claims?wait={wait}", json=body, headers=headers(key, token))


async def claimed(port: AgentPort, key: str, **more: Any) -> dict[str, Any]:
    """The order; {} for none."""
    response = await ask(port, key, **more)
    assert response.status_code == 200, response.text
    order: dict[str, Any] = response.json().get("order", {})
    return order


async def write(port: AgentPort, run: str, verb: str, key: str = "w", *, token: str = TOKEN, **body: Any) -> Any:
    return await port.client.post(f"/agent/v1/claims/{run}/{verb}", json=body, headers=headers(key, token))


@pytest.mark.asyncio
async def test_a_claim_hands_over_the_order_with_run_token_and_fence(bench: RunBench, executor: Resource) -> None:
    run = bench.order(executor=executor)
    async with serving(bench, worker_token=token_of) as port:
        order = await claimed(port, "k1")
        assert (order["run"], order["name"], order["fence"], order["leaseS"]) == (run.uid, run.name, 1, 60.0)
        assert order["command"]["argv"] == ["work"]
        assert order["mission"]["title"] == "Work"
        reported = await port.client.post(
            f"/agent/v1/runs/{order['run']}/heartbeat", json={}, headers=headers("h", order["token"])
        )
        assert reported.status_code == 200
        assert await claimed(port, "k2") == {}
    assert [w["name"] for w in workers(bench, executor)] == ["one"]


def workers(bench: RunBench, executor: Resource) -> list[dict[str, Any]]:
    with bench.store.snapshot() as snapshot:
        found = snapshot.get(executor.key)
    assert found is not None
    return list(found.status["workers"])


@pytest.mark.asyncio
async def test_a_claim_that_is_asked_for_again_is_the_same_one(bench: RunBench, executor: Resource) -> None:
    for _ in range(3):
        bench.order(executor=executor)
    async with serving(bench, worker_token=token_of) as port:
        first = await claimed(port, "k1")
        assert await claimed(port, "k1") == first
        assert (await claimed(port, "k1", worker="two"))["run"] != first["run"]
        assert (await claimed(port, "k2"))["run"] != first["run"]


@pytest.mark.asyncio
async def test_no_run_is_claimed_twice_by_a_crowd(bench: RunBench, executor: Resource) -> None:
    runs = {bench.order(executor=executor).uid for _ in range(25)}
    async with serving(bench, worker_token=token_of, threads=8, worker_polls=50) as port:
        orders = await asyncio.gather(*(claimed(port, f"k{n}", worker=f"w{n % 7}") for n in range(40)))
    got = Counter(order["run"] for order in orders if order)
    assert got == Counter(runs)


@pytest.mark.asyncio
async def test_the_most_urgent_run_is_handed_out_first_and_among_equals_the_oldest(
    bench: RunBench, executor: Resource
) -> None:
    wanted = []
    for number, priority in enumerate((50, 50, 90, 10)):
        wanted.append((-priority, number, bench.order(executor=executor, priority=priority).name))
        bench.clock.tick(1)
    async with serving(bench, worker_token=token_of) as port:
        got = [(await claimed(port, f"k{n}"))["name"] for n in range(4)]
    assert got == [name for _, _, name in sorted(wanted)]


@pytest.mark.asyncio
async def test_who_waits_hears_of_a_run_that_is_ordered(bench: RunBench, executor: Resource) -> None:
    async with serving(bench, worker_token=token_of) as port:
        waiting = asyncio.create_task(claimed(port, "k1", wait=50))
        await port.until_waiting(1)
        run = bench.order(executor=executor)
        async with asyncio.timeout(WAKES_S):
            assert (await waiting)["run"] == run.uid


@pytest.mark.asyncio
async def test_a_cancel_keeps_a_run_from_being_handed_out(bench: RunBench, executor: Resource) -> None:
    kept, canceled = bench.order(executor=executor), bench.order(executor=executor)
    with bench.tx() as tx:
        records.request_cancel(tx, canceled, "enough")
    async with serving(bench, worker_token=token_of) as port:
        assert (await claimed(port, "k1"))["run"] == kept.uid
        assert await claimed(port, "k2") == {}
    with bench.tx() as tx:
        claims.withdraw(tx, canceled.uid)
        claims.withdraw(tx, kept.uid)
    assert bench.status(canceled.uid).state is RunState.CANCELED
    assert bench.status(kept.uid).state is RunState.PENDING


@pytest.mark.asyncio
async def test_a_renewal_tells_of_a_cancel_and_marks_the_start(bench: RunBench, executor: Resource) -> None:
    run = bench.order(executor=executor)
    async with serving(bench, worker_token=token_of) as port:
        await claimed(port, "k1")
        answer = (await write(port, run.uid, "renew", fence=1, started=True)).json()
        assert answer == {"run": run.uid, "leaseS": 60.0, "cancel": False, "reason": ""}
        assert bench.status(run.uid).state is RunState.RUNNING
        with bench.tx() as tx:
            records.request_cancel(tx, bench.run(run.uid), "enough")
        answer = (await write(port, run.uid, "renew", fence=1)).json()
        assert (answer["cancel"], answer["reason"]) == (True, "enough")


@pytest.mark.asyncio
async def test_a_released_run_is_offered_again_and_the_old_fence_is_stale(bench: RunBench, executor: Resource) -> None:
    run = bench.order(executor=executor)
    async with serving(bench, worker_token=token_of) as port:
        await claimed(port, "k1")
        assert (await write(port, run.uid, "release", fence=1)).status_code == 200
        problem(await write(port, run.uid, "renew", fence=1), 409, "StaleClaim")
        again = await claimed(port, "k2", worker="two")
        assert (again["run"], again["fence"]) == (run.uid, 2)
        for verb, body in (
            ("renew", {}), ("release", {}), ("log", {"stream": "stdout", "offset": 0, "base64": ""}),
            ("end", {"state": "Failed", "reason": "NonZeroExit"}),
        ):  # fmt: skip
            problem(await write(port, run.uid, verb, fence=1, **body), 409, "StaleClaim")
        assert (await write(port, run.uid, "renew", fence=2, started=True)).status_code == 200
        problem(await write(port, run.uid, "release", fence=2), 409, "AlreadyStarted")


@pytest.mark.asyncio
async def test_an_end_counts_once_and_what_follows_is_over(bench: RunBench, executor: Resource) -> None:
    run = bench.order(executor=executor)
    async with serving(bench, worker_token=token_of) as port:
        await claimed(port, "k1")
        body = {"fence": 1, "state": "Failed", "reason": "NonZeroExit", "message": "no", "exitCode": 3}
        body["startedAt"] = "2026-11-21T09:00:00Z"
        for _ in range(2):
            assert (await write(port, run.uid, "end", "once", **body)).status_code == 200
        problem(await write(port, run.uid, "end", "other", **body), 410, "ClaimOver")
        problem(await write(port, run.uid, "renew", fence=1), 410, "ClaimOver")
    status = bench.status(run.uid)
    assert (status.state, status.exit_code, status.message) == (RunState.FAILED, 3, "no")
    assert len(bench.events(run.uid, "RunFinished")) == 1


@pytest.mark.asyncio
async def test_a_log_arrives_in_parts_and_has_no_gaps(bench: RunBench, executor: Resource) -> None:
    run = bench.order(executor=executor)
    async with serving(bench, worker_token=token_of) as port:
        await claimed(port, "k1")

        async def part(offset: int, data: bytes) -> httpx2.Response:
            text = base64.b64encode(data).decode()
            answer: httpx2.Response = await write(
                port, run.uid, "log", fence=1, stream="stdout", offset=offset, base64=text
            )
            return answer

        for offset, data in ((0, b"one "), (4, b"two "), (4, b"two "), (8, b"three")):
            assert (await part(offset, data)).status_code == 200
        problem(await part(99, b"gap"), 409, "LogGap")
    assert (bench.folder / "runs" / run.uid / "stdout.log").read_bytes() == b"one two three"


@pytest.mark.asyncio
async def test_a_token_opens_its_own_executor_only(bench: RunBench, executor: Resource) -> None:
    other = bench.declare("Executor", "other", ExecutorSpec.model_validate(PULL).to_wire())
    run = bench.order(executor=other)
    async with serving(bench, worker_token=token_of) as port:
        problem(await ask(port, "k1", token="guessed-by-somebody-else"), 401, "WorkerTokenInvalid")
        problem(await ask(port, "k1", executor="other"), 404, "ExecutorNotFound")
        assert (await claimed(port, "k1", executor="other", token="another-token-for-other"))["run"] == run.uid
        problem(await write(port, run.uid, "renew", fence=1), 404, "NotFound")
        bare = await port.client.post("/agent/v1/claims", json={"executor": "lab", "worker": "one"})
        problem(bare, 401, "TokenMissing")
        problem(await ask(port, ""), 400, "IdempotencyKeyMissing")
        bad = await port.client.post("/agent/v1/claims", json={"executor": "lab"}, headers=headers("k"))
        problem(bad, 422, "Invalid")


@pytest.mark.asyncio
async def test_a_lease_that_ran_out_loses_the_run_and_fences_its_worker(bench: RunBench, executor: Resource) -> None:
    run = bench.order(executor=executor)
    async with serving(bench, worker_token=token_of) as port:
        await claimed(port, "k1")
        bench.clock.tick(60 + 10 + 5 - 0.5)
        with bench.tx() as tx:
            claims.watch(tx, run.key._replace(kind=claims.KIND))
        assert bench.status(run.uid).state is RunState.PENDING
        bench.clock.tick(1)
        with bench.tx() as tx:
            claims.watch(tx, run.key._replace(kind=claims.KIND))
        assert bench.status(run.uid).state is RunState.LOST
        problem(await write(port, run.uid, "renew", fence=1), 410, "ClaimOver")
        problem(await write(port, run.uid, "end", fence=1, state="Succeeded", reason="Completed"), 410, "ClaimOver")
