"""Talking over real HTTP: the cap, the pause, a person's word in the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from remit_client import Assignment, AsyncRun

from controllers.runs import messages, sessions
from controllers.runtime.clock import SystemClock
from schemas.resource import Actor, ActorKind, Resource
from schemas.run import RunState
from tests.fakes.agent_port import TOKENS, WAKES_S, problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio
ALICE = Actor(ActorKind.HUMAN, "user:alice", "Store")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path, now=SystemClock().now)
    yield made
    made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    return bench.order(state=RunState.RUNNING)


def person(bench: RunBench, run: Resource, text: str) -> Resource:
    with bench.store.transaction(ALICE) as tx:
        current = tx.get_by_uid(run.uid)
        assert current is not None
        return messages.person_says(tx, sessions.of_run(tx, current), ALICE, text, key=text)


async def test_messages_go_out_within_the_cap_and_a_person_starts_anew(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answers = [(await port.post(run, "messages", {"text": f"n{n}"})).json() for n in range(4)]
        assert [(a["state"], a["reason"]) for a in answers] == [
            ("Delivered", "Delivered"),
            ("Pending", "Cooldown"),
            ("Pending", "Cooldown"),
            ("Blocked", "HardCap"),
        ]
        assert "dueAt" in answers[1]
        said = person(bench, run, "stop")
        [notice] = (await port.inbox(run)).json()["items"]
        assert (notice["id"], notice["type"]) == (f"message/{said.uid}", "Message")
        assert (notice["author"], notice["text"]) == ("user:alice", "stop")
        reply = (await port.post(run, "messages", {"text": "stopped", "inReplyTo": said.uid})).json()
        assert reply["state"] == "Delivered"
        assert (await port.inbox(run, ack=[notice["id"]])).json() == {"items": []}
        assert (await port.inbox(run)).json() == {"items": []}


async def test_a_person_wakes_the_agent_that_waits_at_its_inbox(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        poll = asyncio.create_task(port.inbox(run, 50))
        await port.until_waiting(1)
        await asyncio.to_thread(person, bench, run, "hello")
        answer = await asyncio.wait_for(poll, WAKES_S)
        assert [item["text"] for item in answer.json()["items"]] == ["hello"]


async def test_what_is_no_message_is_refused(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        problem(await port.post(run, "messages", {"text": ""}), 422, "Invalid")
        problem(await port.post(run, "messages", {"text": "x", "to": ["everybody"]}), 422, "Invalid")
        problem(await port.post(run, "messages", {"text": "x", "channel": "c"}), 422, "Invalid")


async def test_hostile_text_is_cleaned_and_cut(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answer = await port.post(run, "messages", {"text": "\x1b[31m" + "a" * 20_000})
        assert answer.status_code == 200
    with bench.store.snapshot() as snapshot:
        [message] = snapshot.objects("Message")
    assert len(message.spec["text"]) == 10_000
    assert "\x1b" not in message.spec["text"]


async def test_messages_at_once_never_pass_the_cap(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answers = await asyncio.gather(*(port.post(run, "messages", {"text": f"n{n}"}) for n in range(15)))
    states = sorted(a.json()["state"] for a in answers)
    assert states == ["Blocked"] * 12 + ["Delivered"] + ["Pending"] * 2


async def test_the_client_hears_a_person_and_answers(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port, AsyncRun(Assignment(port.url, run.name, TOKENS.mint(run.uid))) as working:
        await asyncio.to_thread(person, bench, run, "how far?")
        async with asyncio.timeout(120):
            while not (heard := working.take_notices()):
                await working.progress("at work")
        assert [notice.text for notice in heard] == ["how far?"]
        assert (await working.say("half way", in_reply_to=heard[0]))["state"] == "Delivered"
        assert (await working.say("on my own"))["state"] == "Delivered"
        await working.fail("Enough", "done talking")
