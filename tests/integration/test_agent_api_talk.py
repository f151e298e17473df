"""Follow-ups, commands and the inbox over real HTTP, and the client that agents use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from remit_client import Assignment, AsyncRun, Notice, Run

from controllers.reconcilers.sessions import Sessions
from controllers.runs import chat, sessions
from controllers.runtime.clock import SystemClock
from schemas.resource import SYSTEM, Actor, ActorKind, Resource
from schemas.run import RunState
from tests.fakes.agent_port import LONG_S, TOKENS, WAKES_S, AgentPort, problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio
ALICE = Actor(ActorKind.HUMAN, "user:alice", "Store")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path, now=SystemClock().now)
    yield made
    made.close()


def working(bench: RunBench) -> Resource:
    """A run at work on a mission that knows its agent."""
    run = bench.order(state=RunState.RUNNING)
    with bench.tx() as tx:
        mission = tx.get_by_uid(run.owner_uid)
        assert mission is not None
        ref = {"name": run.spec["agentRef"]["name"]}
        tx.put_status(mission, {**mission.status, "state": "InProgress", "agent": ref, "currentRun": run.name})
    return run


def person(bench: RunBench, run: Resource, text: str) -> chat.Heard:
    with bench.store.transaction(ALICE) as tx:
        mission = tx.get_by_uid(run.owner_uid)
        assert mission is not None
        return chat.say(tx, mission, ALICE, text, key=text)


def said(bench: RunBench, run: Resource) -> list[str]:
    with bench.store.snapshot() as snapshot:
        found = snapshot.objects("Message", owner_uid=run.owner_uid)
    ordered = sorted((m for m in found if m.status["number"]), key=lambda m: int(m.status["number"]))
    return [f"{m.spec['author'].partition(':')[0]}: {m.spec['text']}" for m in ordered]


def client_of(port: AgentPort, run: Resource) -> AsyncRun:
    return AsyncRun(Assignment(port.url, run.name, TOKENS.mint(run.uid)))


async def test_a_follow_up_is_taken_once_and_told_when_it_is_due(bench: RunBench) -> None:
    run = working(bench)
    async with serving(bench) as port:
        body = {"afterS": 1, "text": "look again"}
        first = (await port.post(run, "follow-ups", body, key="k")).json()
        again = (await port.post(run, "follow-ups", body, key="k")).json()
        assert first == again
        problem(await port.post(run, "follow-ups", {"afterS": 0, "text": "x"}), 422, "Invalid")
        problem(await port.post(run, "follow-ups", {"afterS": 10**9, "text": "x"}), 422, "Invalid")
        for n in range(9):
            assert (await port.post(run, "follow-ups", {"afterS": 3600, "text": f"{n}"})).status_code == 200
        problem(await port.post(run, "follow-ups", {"afterS": 3600, "text": "x"}), 429, "TooManyFollowUps")
        poll = asyncio.create_task(port.inbox(run, 50))
        await port.until_waiting(1)
        await SystemClock().sleep(1.1)
        with bench.store.transaction(SYSTEM) as tx:
            Sessions()(tx, sessions.key_of(run))
        [notice] = (await asyncio.wait_for(poll, WAKES_S)).json()["items"]
        assert (notice["type"], notice["text"]) == ("FollowUp", "look again")


async def test_another_run_sees_neither_session_nor_inbox(bench: RunBench) -> None:
    one, two = working(bench), working(bench)
    secret = person(bench, one, "between us")
    async with serving(bench) as port:
        headers = port.headers(two)
        for verb in ("messages", "follow-ups", "commands"):
            answer = await port.client.post(f"/agent/v1/runs/{one.uid}/{verb}", json={"text": "x"}, headers=headers)
            problem(answer, 404, "NotFound")
        problem(await port.client.get(f"/agent/v1/runs/{one.uid}/inbox", headers=headers), 404, "NotFound")
        assert (await port.inbox(two)).json() == {"items": []}
        # Naming what was said elsewhere neither answers it nor shows anything of it.
        reply = (await port.post(two, "messages", {"text": "me too", "inReplyTo": secret.message.uid})).json()
        assert (await port.inbox(one)).json()["items"][0]["text"] == "between us"
    with bench.store.snapshot() as snapshot:
        message = snapshot.get_by_uid(reply["message"])
        assert message is not None
        assert message.spec["autonomous"]
        assert message.spec["threadRef"] != secret.message.spec["threadRef"]


async def test_what_was_not_kept_comes_again_after_a_reconnect_and_what_was_kept_does_not(bench: RunBench) -> None:
    run = working(bench)
    for text in ("one", "two"):
        person(bench, run, text)
    async with serving(bench) as port:
        first = (await port.inbox(run)).json()
        await port.restart()
        again = (await port.inbox(run)).json()
        assert again == first
        known = [item["id"] for item in first["items"]]
        assert (await port.inbox(run, known=known)).json() == {"items": []}
        assert (await port.inbox(run)).json() == first
        kept = first["items"][0]["cursor"]
        rest = (await port.inbox(run, cursor=kept)).json()
        assert [item["text"] for item in rest["items"]] == ["two"]
        last = (await port.inbox(run, cursor=rest["cursor"])).json()
        assert last == {"items": [], "cursor": rest["cursor"]}
        assert (await port.inbox(run)).json() == {"items": []}


async def test_commands_are_checked_and_answered(bench: RunBench) -> None:
    run = working(bench)
    async with serving(bench) as port:
        for names in (["Build"], ["a", "a"], [""], ["x" * 40]):
            problem(await port.post(run, "commands", {"commands": [{"name": n} for n in names]}), 422, "Invalid")
        offered = {"commands": [{"name": "build", "description": "\x1b[2Jbuild it"}]}
        assert (await port.post(run, "commands", offered)).status_code == 200
        person(bench, run, "/build all")
        [notice] = (await port.inbox(run)).json()["items"]
        assert (notice["type"], notice["command"], notice["arguments"]) == ("Command", "build", "all")
        reply = {"text": "built", "inReplyTo": notice["id"].removeprefix("message/")}
        assert (await port.post(run, "messages", reply)).json()["state"] == "Delivered"
    assert said(bench, run) == ["user: /build all", "agent: built"]
    answer = person(bench, run, "/help").answer
    assert answer is not None
    assert "/build: [2Jbuild it" in answer.spec["text"]  # the escape character is gone


async def test_an_agent_answers_with_a_handler(bench: RunBench) -> None:
    run = working(bench)

    async def answer(notice: Notice) -> str | None:
        if notice.text == "break":
            raise ValueError("on purpose")
        return f"{notice.type} {notice.command or notice.text}"

    async with serving(bench) as port, client_of(port, run) as agent:
        await agent.offer({"build": "build it"})
        agent.on_message(answer)
        for text in ("hello", "break", "/build"):
            await asyncio.to_thread(person, bench, run, text)
        async with asyncio.timeout(LONG_S):
            while sum(line.startswith("agent") for line in said(bench, run)) < 2:
                await SystemClock().sleep(0.05)
        await agent.follow_up(3600, "later")
        await agent.fail("Enough", "done talking")
    assert [line for line in said(bench, run) if line.startswith("agent")] == [
        "agent: Message hello",
        "agent: Command build",
    ]
    with bench.store.snapshot() as snapshot:
        session = sessions.find(snapshot, run)
    assert session is not None
    assert session.status["inbound"] == []  # the last word says what was delivered


async def test_a_message_that_was_not_dealt_with_is_there_for_the_next_program(bench: RunBench) -> None:
    run = working(bench)
    async with serving(bench) as port:
        person(bench, run, "one")
        async with client_of(port, run) as agent:
            notice = await agent.next_message(LONG_S)
            assert notice is not None
            assert notice.author == "user:alice"
        # That program died over it, without a word.
        assert [item["text"] for item in (await port.inbox(run)).json()["items"]] == ["one"]
        async with client_of(port, run) as agent:
            async for notice in agent.inbox():
                await agent.say("got it", in_reply_to=notice)
                break
        assert (await port.inbox(run)).json() == {"items": []}


async def test_programs_without_asyncio_talk_as_well(bench: RunBench) -> None:
    run = working(bench)

    def program(url: str) -> list[str]:
        heard: list[str] = []
        with Run(Assignment(url, run.name, TOKENS.mint(run.uid))) as agent:
            agent.offer({"stop": "leave"})
            agent.follow_up(3600, "later", say=True)
            for notice in agent.inbox():
                heard.append(notice.command or notice.text)
                agent.say("yes", in_reply_to=notice)
                if notice.command == "stop":
                    break
            assert agent.next_message(0) is None
            agent.fail("Enough", "done talking")
        return heard

    async with serving(bench) as port:
        person(bench, run, "hello")
        working_on_it = asyncio.create_task(asyncio.to_thread(program, port.url))
        async with asyncio.timeout(LONG_S):
            while len(said(bench, run)) < 2:
                await SystemClock().sleep(0.05)
            await asyncio.to_thread(person, bench, run, "/stop")
            assert await working_on_it == ["hello", "stop"]
