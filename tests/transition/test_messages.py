"""Messages of a session: so many in a row, with a pause, until a person speaks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controllers.runs import inbox, messages, sessions
from controllers.runs.messages import Said
from controllers.runs.once import Once
from schemas.base import Key
from schemas.mission import MissionState
from schemas.protocol import Notice
from schemas.resource import SYSTEM, Resource
from schemas.run import RunState
from tests.fakes.world import ALICE, World, agent, executor, mission


def fleet(world: World, *names: str, policy: str = "") -> None:
    files = {"fleet.yaml": executor().replace("Text", "Remit") + "---\n" + agent(maxConcurrentMissions="9") + policy}
    files |= {f"{n}.yaml": mission(n) for n in names or ("a",)}
    world.commit(files)
    world.sync()


def say(world: World, text: str, run: str = "a-1", *, reply: str = "", key: str = "", settle: bool = True) -> Said:
    resource = world.get("Run", run)
    with world.store.transaction(SYSTEM) as tx:
        said = messages.agent_says(tx, resource.uid, text, (), reply, once=Once.of(key or text, b""))
    if settle:
        world.settle()
    return said


def person(world: World, text: str, mission_name: str = "a") -> Resource:
    with world.store.transaction(ALICE) as tx:
        found = tx.get(Key("Mission", "default", mission_name))
        assert found is not None
        session = sessions.of_mission(tx, found)
        assert session is not None
        message = messages.person_says(tx, session, ALICE, text, key=text)
    world.settle()
    return message


def states(world: World, run: str = "a-1") -> dict[str, str]:
    """Text -> state/reason of what the agent of a run said."""
    session = sessions.key_of(world.get("Run", run)).name
    with world.store.snapshot() as snapshot:
        found = [m for m in snapshot.objects("Message") if m.spec["sessionRef"]["name"] == session]
    return {m.spec["text"]: f"{m.state}/{m.status['conditions'][0]['reason']}" for m in found}


def notices(world: World, run: str = "a-1") -> list[Notice]:
    with world.store.snapshot() as snapshot:
        return [n for n in inbox.notices(snapshot, world.get("Run", run), world.now) if n.type == "Message"]


def test_three_messages_go_out_with_a_pause_and_the_fourth_is_noted_as_blocked(world: World) -> None:
    fleet(world)
    dues = [say(world, text).due_at for text in ("one", "two", "three")]
    assert dues[0] is None
    assert dues[1] == world.now + timedelta(seconds=15)
    say(world, "four")
    assert states(world) == {
        "one": "Delivered/Delivered",
        "two": "Pending/Pending",
        "three": "Pending/Pending",
        "four": "Blocked/HardCap",
    }
    world.advance(14)
    assert states(world)["two"] == "Pending/Pending"
    world.restart()
    world.advance(1)
    assert states(world)["two"] == "Delivered/Delivered"
    assert states(world)["three"] == "Pending/Pending"
    world.advance(15)
    assert states(world)["three"] == "Delivered/Delivered"
    world.advance(3600)
    say(world, "five")
    assert states(world)["five"] == "Blocked/HardCap"
    world.check()


def test_a_person_cancels_what_waits_in_that_session_only_and_the_count_begins_anew(world: World) -> None:
    fleet(world, "a", "b")
    for run in ("a-1", "b-1"):
        for text in ("one", "two"):
            say(world, f"{text} of {run}", run)
    message = person(world, "stop that")
    assert states(world)["two of a-1"] == "Canceled/PersonSpoke"
    assert states(world, "b-1")["two of b-1"] == "Pending/Pending"
    with world.store.snapshot() as snapshot:
        timers = {t.key.name for t in snapshot.timers() if t.key.kind == "Session"}
    assert timers == {sessions.key_of(world.get("Run", "b-1")).name}
    assert [(n.author, n.text) for n in notices(world)] == [("user:alice", "stop that")]
    reply = say(world, "understood", reply=message.uid)
    assert (reply.message.state, reply.message.spec["autonomous"]) == ("Delivered", False)
    for number in range(3):
        say(world, f"more {number}")
    say(world, "too much")
    world.advance(60)
    assert states(world)["more 2"] == "Delivered/Delivered"
    assert states(world)["too much"] == "Blocked/HardCap"
    world.check()


def test_only_the_first_answer_to_a_person_is_one(world: World) -> None:
    fleet(world)
    message = person(world, "how far are you?")
    first = say(world, "half way", reply=message.uid)
    second = say(world, "and more", reply=message.uid)
    assert [first.message.spec["autonomous"], second.message.spec["autonomous"]] == [False, True]
    assert say(world, "of somebody else", reply="no-such-uid").message.spec["autonomous"] is True


def test_a_repeated_message_is_said_once(world: World) -> None:
    fleet(world)
    first = say(world, "one", key="k")
    again = say(world, "one", key="k")
    assert first.message.uid == again.message.uid
    assert len(states(world)) == 1


def test_what_a_person_said_stays_in_the_inbox_until_it_was_seen(world: World) -> None:
    fleet(world)
    first, second = person(world, "one"), person(world, "two")
    assert [n.text for n in notices(world)] == ["one", "two"]
    with world.store.transaction(SYSTEM) as tx:
        run = tx.get(world.get("Run", "a-1").key)
        assert run is not None
        messages.seen(tx, run, frozenset({first.uid}))
    world.restart()
    assert [n.text for n in notices(world)] == ["two"]
    assert world.get("Message", first.name).state == "Delivered"
    assert world.get("Message", second.name).state == "Pending"


def test_messages_of_a_mission_that_ended_go_nowhere(world: World) -> None:
    fleet(world)
    say(world, "one")
    say(world, "two")
    world.finish("a-1", state=RunState.FAILED)
    assert world.state("a") is MissionState.FAILED
    world.advance(20)
    assert states(world)["two"] == "Canceled/MissionEnded"
    world.check()


POLICY = """\
---
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: quiet}
spec:
  autonomy: {maxConsecutive: 1, cooldown: 1m}
"""


def test_a_policy_sets_the_cap(world: World) -> None:
    fleet(world, policy=POLICY)
    say(world, "one")
    say(world, "two")
    assert states(world) == {"one": "Delivered/Delivered", "two": "Blocked/HardCap"}


def test_an_agent_that_goes_on_talking_is_contained(world: World) -> None:
    fleet(world)
    for number in range(21):
        say(world, f"message {number}")
    assert world.state("a") is MissionState.BLOCKED
    assert "Messages" in world.status("a").transitions[-1].message
    assert world.canceled == ["a-1"]


@pytest.mark.parametrize("sessions_", [30])
def test_sessions_do_not_wait_for_one_another(world: World, sessions_: int) -> None:
    names = [f"m{n}" for n in range(sessions_)]
    files = {"fleet.yaml": executor().replace("Text", "Remit") + "---\n" + agent(maxConcurrentMissions="99")}
    world.commit(files | {"m.yaml": "---\n".join(mission(n) for n in names)})
    world.sync()
    for name in names:
        for text in ("one", "two"):
            say(world, f"{text} of {name}", f"{name}-1", settle=False)
    world.settle()
    world.advance(15)
    for name in names:
        assert set(states(world, f"{name}-1").values()) == {"Delivered/Delivered"}
