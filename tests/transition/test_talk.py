"""Talking: follow-ups, threads, commands, and what a person's word does to them. In virtual time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controllers.runs import chat, inbox, mentions, messages, sessions, threads
from controllers.runs.chat import Heard
from controllers.runs.once import Once
from schemas.base import Key
from schemas.errors import OverLimit, Refused
from schemas.mission import MissionState
from schemas.protocol import Notice, OfferedCommand
from schemas.resource import SYSTEM, Resource
from schemas.run import RunState
from schemas.session import FollowUp
from schemas.thread import ThreadOf
from store.contract import Event
from tests.fakes.world import ALICE, World, agent, executor, mission

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])
PROJECT = """\
---
apiVersion: remit.dev/v1alpha1
kind: Project
metadata: {name: docs}
spec: {stage: Development}
"""


def fleet(world: World, *names: str, more: str = "", **fields: object) -> None:
    files = {"fleet.yaml": executor().replace("Text", "Remit") + "---\n" + agent(maxConcurrentMissions="99") + more}
    world.commit(files | {"m.yaml": "---\n".join(mission(n, **fields) for n in names or ("a",))})
    world.sync()


def agent_says(
    world: World, text: str, run: str = "a-1", *, reply: str = "", thread: ThreadOf = ThreadOf.MISSION
) -> str:
    with world.store.transaction(SYSTEM) as tx:
        said = messages.agent_says(
            tx, world.get("Run", run).uid, text, (), reply, once=Once.of(text, b""), thread=thread,
            mentions=mentions.subjects(tx, "default", text),
        )  # fmt: skip
    world.settle()
    return said.message.state


def person_says(world: World, text: str, about: str = "a", kind: str = "Mission", *, key: str = "") -> Heard:
    with world.store.transaction(ALICE) as tx:
        subject = tx.get(Key(kind, "default", about))
        assert subject is not None
        heard = chat.say(tx, subject, ALICE, text, key=key or text)
    world.settle()
    return heard


def follow_up(world: World, after_s: int, text: str, run: str = "a-1", *, say: bool = False) -> FollowUp:
    with world.store.transaction(SYSTEM) as tx:
        asked = messages.asks_follow_up(
            tx, world.get("Run", run).uid, timedelta(seconds=after_s), text, say=say, once=Once.of(text, b"")
        )
    world.settle()
    return asked


def offer(world: World, *names: str, run: str = "a-1") -> None:
    with world.store.transaction(SYSTEM) as tx:
        offered = tuple(OfferedCommand(name=name, description=f"does {name}") for name in names)
        messages.offers_commands(tx, world.get("Run", run).uid, offered, once=Once.of("commands", b""))
    world.settle()


def notices(world: World, run: str = "a-1") -> list[Notice]:
    with world.store.snapshot() as snapshot:
        found = inbox.notices(snapshot, world.get("Run", run), world.now)
    return [n for n in found if n.id.startswith(inbox.MESSAGE)]


def session(world: World, run: str = "a-1") -> Resource:
    return world.get("Session", sessions.key_of(world.get("Run", run)).name)


def talk(world: World, about: str = "a", kind: str = "Mission") -> list[str]:
    """The thread: number author: text."""
    with world.store.snapshot() as snapshot:
        subject = snapshot.get(Key(kind, "default", about))
        assert subject is not None
        thread = threads.find(snapshot, subject)
        found = threads.page(snapshot, thread).entries if thread is not None else ()
    return [f"{e.message.status['number']} {e.message.spec['author']}: {e.message.spec['text']}" for e in found]


def log(world: World, run: str = "a-1") -> list[Event]:
    """What was decided in a session, in its order."""
    with world.store.snapshot() as snapshot:
        found = snapshot.events(subject_uid=session(world, run).uid)
    return [event for event in found if "sequence" in event.data]


def test_what_an_agent_asked_to_be_told_is_told_when_it_is_due(world: World) -> None:
    fleet(world)
    follow_up(world, 30, "look at the build again")
    world.advance(29.9)
    assert notices(world) == []
    world.restart()
    world.advance(0.1)
    [notice] = notices(world)
    assert (notice.type, notice.text, notice.author) == ("FollowUp", "look at the build again", "agent:default/worker")
    assert talk(world) == []  # it is nobody else's business
    assert session(world).status["followUps"] == []
    world.check()


def test_what_an_agent_asked_to_have_said_is_said_by_itself_and_within_the_cap(world: World) -> None:
    fleet(world)
    for n in range(4):
        follow_up(world, 10, f"still at it {n}", say=True)
    world.advance(10)
    assert len(talk(world)) == 2  # the first, and one that is noted as stopped
    world.advance(60)
    assert len(talk(world)) == 4
    found = [world.get("Message", e.subject.name) for e in log(world) if e.type == "MessagePosted"]
    assert sorted(m.state for m in found) == ["Blocked", "Delivered", "Delivered", "Delivered"]
    assert all(m.spec["autonomous"] and m.spec["followUp"] for m in found)
    assert session(world).status["state"] == "Paused"


def test_a_person_cancels_the_follow_ups_of_one_session_and_of_no_other(world: World) -> None:
    fleet(world, "a", "b")
    for run in ("a-1", "b-1"):
        follow_up(world, 60, f"tell {run}", run)
        follow_up(world, 61, f"say {run}", run, say=True)
    person_says(world, "leave it")
    with world.store.snapshot() as snapshot:
        timers = {t.key.name for t in snapshot.timers() if t.key.kind == "Session"}
    assert timers == {session(world, "b-1").name}
    assert session(world).status["followUps"] == []
    world.advance(120)
    assert [n.text for n in notices(world)] == ["leave it"]
    assert [n.text for n in notices(world, "b-1")] == ["tell b-1"]
    assert [line.partition(": ")[2] for line in talk(world, "b")] == ["say b-1"]


def test_follow_ups_end_with_the_mission_and_ten_wait_at_most(world: World) -> None:
    fleet(world)
    for n in range(10):
        follow_up(world, 100, f"{n}", say=True)
    with pytest.raises(OverLimit, match="10 follow-ups"):
        follow_up(world, 100, "one more")
    world.finish("a-1", state=RunState.FAILED)
    assert world.state("a") is MissionState.FAILED
    world.advance(200)
    name = next(e.subject.name for e in world.events() if e.subject.kind == "Session")
    assert world.get("Session", name).status["state"] == "Closed"
    assert not any(e.type == "MessagePosted" for e in world.events())
    world.check()


def test_an_agent_that_keeps_waking_itself_is_contained(world: World) -> None:
    fleet(world)
    for n in range(6):
        follow_up(world, 1, f"again {n}")
    world.advance(2)
    assert world.state("a") is MissionState.BLOCKED
    assert "SelfWakes" in world.status("a").transitions[-1].message


def test_a_hold_keeps_back_what_goes_out_by_itself_and_lets_answers_through(world: World) -> None:
    fleet(world)
    agent_says(world, "one")
    agent_says(world, "two")
    follow_up(world, 5, "later", say=True)
    world.act("Hold", "wait", {"selector": {"kinds": ["Agent"], "names": ["worker"]}, "mode": "Hold", "reason": "x"})
    world.advance(300)
    assert len(talk(world)) == 1
    assert session(world).status["conditions"][0]["reason"] == "Held"
    world.remove("Hold", "wait")
    assert [line.split(" ", 1)[1] for line in talk(world)] == [f"agent:default/worker: {n}" for n in ("one", "two")]
    world.advance(15)
    assert len(talk(world)) == 3
    world.act("Hold", "wait2", {"selector": {"kinds": ["Agent"], "names": ["worker"]}, "mode": "Drain", "reason": "x"})
    message = person_says(world, "how far?").message
    assert agent_says(world, "half way", reply=message.uid) == "Delivered"


def test_under_an_e_stop_nothing_is_said(world: World) -> None:
    fleet(world)
    agent_says(world, "one")
    agent_says(world, "two")
    follow_up(world, 5, "later")
    world.act("Hold", "stop", {"scope": "Global", "mode": "Stop", "reason": "x"})
    world.advance(100)
    assert len(talk(world)) == 1
    assert notices(world) == []


def test_events_of_a_session_are_numbered_in_strict_order(world: World) -> None:
    fleet(world)
    agent_says(world, "one")
    agent_says(world, "two")
    follow_up(world, 20, "three")
    world.advance(20)
    person_says(world, "four")
    numbers = [event.data["sequence"] for event in log(world)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, session(world).status["sequence"] + 1))


def test_a_thread_shows_what_was_said_in_the_order_in_which_it_went_out(world: World) -> None:
    fleet(world)
    agent_says(world, "one")
    agent_says(world, "two")
    heard = person_says(world, "three")
    assert heard.told == ("worker on a",)
    agent_says(world, "four", reply=heard.message.uid)
    world.advance(60)
    assert talk(world) == [
        "1 agent:default/worker: one",
        "2 user:alice: three",
        "3 agent:default/worker: four",
    ]


def test_a_mission_without_agent_has_a_thread_for_people(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    heard = person_says(world, "who takes this?")
    assert (heard.told, heard.message.state) == ((), "Delivered")
    assert "no agent is assigned" in heard.note
    assert talk(world) == ["1 user:alice: who takes this?"]


def test_commands_go_to_the_agent_that_takes_them_and_its_output_comes_back(world: World) -> None:
    fleet(world)
    help_ = person_says(world, "/help").answer
    assert help_ is not None
    assert "/build" not in help_.spec["text"]
    offer(world, "build", "status")
    follow_up(world, 500, "go on")
    help_ = person_says(world, "/help", key="h2").answer
    assert help_ is not None
    assert "/build: does build (of worker)" in help_.spec["text"]
    person_says(world, "/status all of it")
    [notice] = notices(world)
    assert (notice.type, notice.command, notice.arguments) == ("Command", "status", "all of it")
    assert notice.thread == "mission/a"
    assert len(session(world).status["followUps"]) == 1  # a question cancels nothing
    assert agent_says(world, "half done", reply=notice.id.removeprefix(inbox.MESSAGE)) == "Delivered"
    assert talk(world)[-1] == "6 agent:default/worker: half done"
    person_says(world, "/build now")
    assert session(world).status["followUps"] == []  # an order does
    unknown = person_says(world, "/nonsense").answer
    assert unknown is not None
    assert "nobody here takes /nonsense" in unknown.spec["text"]
    world.check()


def test_status_is_answered_from_the_store_while_no_agent_takes_it(world: World) -> None:
    fleet(world)
    answer = person_says(world, "/status").answer
    assert answer is not None
    assert answer.spec["author"] == "controller:chat"
    assert "a: InProgress, worker" in answer.spec["text"]


def test_in_a_project_only_mentioned_agents_are_told_for_their_missions_of_it(world: World) -> None:
    fleet(world, "a", "b", more=PROJECT + "---\n" + agent("other"), projectRef="{name: docs}")
    world.commit({"c.yaml": mission("c")})
    world.sync()
    heard = person_says(world, "@worker @other @bob what is left?", "docs", "Project")
    assert set(heard.told) == {"worker on a", "worker on b"}
    assert "other" in heard.note
    assert notices(world, "c-1") == []
    [notice] = notices(world, "b-1")
    assert notice.thread == "project/docs"
    uid = notice.id.removeprefix(inbox.MESSAGE)
    assert agent_says(world, "the index", "b-1", reply=uid) == "Delivered"
    assert agent_says(world, "and @bob knows", "a-1", thread=ThreadOf.PROJECT) == "Delivered"
    assert [line.split(" ", 1)[1] for line in talk(world, "docs", "Project")] == [
        "user:alice: @worker @other @bob what is left?",
        "agent:default/worker: the index",
        "agent:default/worker: and @bob knows",
    ]
    with pytest.raises(Refused, match="no project"):
        agent_says(world, "x", "c-1", thread=ThreadOf.PROJECT)
    with world.store.snapshot() as snapshot:
        project = snapshot.get(Key("Project", "default", "docs"))
        assert project is not None
        thread = threads.find(snapshot, project)
    assert thread is not None
    assert threads.unread(thread, "user:alice") == 2
    bob = threads.reader_of(thread, "user:bob")
    assert bob is not None
    assert bob.mentions == 2


def test_who_reads_has_nothing_unread_and_who_leaves_is_not_counted(world: World) -> None:
    fleet(world)
    heard = person_says(world, "hello")
    agent_says(world, "one")
    for wanted, unread in ((None, 1), ("read", 0), ("leave", 0)):
        with world.store.transaction(ALICE) as tx:
            thread = tx.get(heard.thread.key)
            assert thread is not None
            if wanted == "read":
                thread = threads.read(tx, thread, "user:alice")
            elif wanted == "leave":
                thread = threads.subscribe(tx, thread, "user:alice", wanted=False)
            assert threads.unread(thread, "user:alice") == unread


def test_a_thread_is_paged_by_cursor_without_gap_or_repetition(world: World) -> None:
    fleet(world)
    for n in range(25):
        with world.store.transaction(ALICE) as tx:
            subject = tx.get(Key("Mission", "default", "a"))
            assert subject is not None
            thread = chat.say(tx, subject, ALICE, f"n{n}", key=f"{n}").thread
    seen: list[int] = []
    before: int | None = None
    with world.store.snapshot() as snapshot:
        while True:
            page = threads.page(snapshot, thread, before=before, limit=10)
            seen = [e.message.status["number"] for e in page.entries] + seen
            if page.older is None:
                break
            before = page.older
        forward = threads.page(snapshot, thread, after=page.newest, limit=100)
    assert seen == list(range(1, 26))
    assert [e.message.status["number"] for e in forward.entries] == list(range(len(page.entries) + 1, 26))


def test_the_same_message_of_a_person_twice_is_one(world: World) -> None:
    fleet(world)
    first = person_says(world, "hello", key="k")
    again = person_says(world, "hello", key="k")
    assert first.message.uid == again.message.uid
    assert len(talk(world)) == len(notices(world)) == 1
