"""``remit calendar`` and ``remit move`` before a store with schedules, goals, to-dos and work under way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from schemas.mission import MissionState
from tests.fakes.shell import Shell, configure
from tests.fakes.world import World, agent, executor

SCHEDULE = """\
apiVersion: remit.dev/v1alpha1
kind: Schedule
metadata: {{name: {name}}}
spec:
  schedule: "{times}" # as agreed
  missionTemplate:
    spec: {{title: look around, review: None, agentRef: {{name: worker}}, deadline: 2h}}
"""
REST = """\
apiVersion: remit.dev/v1alpha1
kind: Goal
metadata: {name: healthy}
spec: {objective: stay healthy, deadline: 2027-01-01T00:00:00Z}
---
apiVersion: remit.dev/v1alpha1
kind: Todo
metadata: {name: letter}
spec: {title: write the letter, assignee: "user:alice", dueDate: 2026-12-24}
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("REMIT_NAMESPACE", "REMIT_STORE", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    world = World(tmp_path)
    configure(tmp_path)
    files = {name: SCHEDULE.format(name=name, times=times) for name, times in
             (("nightly", "0 3 * * *"), ("often", "*/20 * * * *"))}  # fmt: skip
    world.commit(
        {"e.yaml": executor(), "a.yaml": agent(), "rest.yaml": REST, **{f"{n}.yaml": t for n, t in files.items()}}
    )
    world.sync()
    yield Shell(world, capsys)
    world.close()


def test_everything_that_is_due_is_listed_with_its_day_and_for_programs(shell: Shell) -> None:
    world = shell.world
    listed = shell("calendar", "--for", "40d")
    for part in ("schedule/nightly", "goal/healthy", "Look", "03:00"):
        assert part in listed
    printed, remark = shell.apart("calendar", "--for", "120d", "--from", f"{world.now:%Y-%m-%d}", "-o", "json")
    assert "schedule/often fires more often" in remark
    document = json.loads(printed)
    assert document["kind"] == "ScheduleFeed"
    sorts = {item["type"] for item in document["items"]}
    assert {"Fire", "Look", "Deadline", "Todo"} <= sorts
    assert [cut["subject"]["name"] for cut in document["cut"]] == ["often"]
    starts = [item["start"] for item in document["items"]]
    assert starts == sorted(starts)
    assert "BEGIN:VEVENT" in shell("calendar", "-o", "ics", "--for", "2d")
    assert "schedule/nightly" in shell("calendar", "--agent", "worker", "-z", "Asia/Tokyo", "-A")
    assert "there is no agent 'nobody'" in shell("calendar", "--agent", "nobody", code=2)
    assert "Europe/Berlin" in shell("calendar", "-z", "Europe/Berlni", code=2)
    assert "--for" in shell("calendar", "--for", "soon", code=2)
    assert "--from" in shell("calendar", "--from", "yesterday", code=2)


def test_work_under_way_is_shown_with_its_deadline_and_its_next_sign_of_life(shell: Shell) -> None:
    world = shell.world
    world.advance(20 * 60 + 5)
    with world.store.snapshot() as snapshot:
        (mission,) = snapshot.objects("Mission", states=[MissionState.IN_PROGRESS])
    items = json.loads(shell("calendar", "--for", "1d", "-o", "json"))["items"]
    mine = {item["type"]: item for item in items if item["subject"]["name"].startswith(mission.name)}
    assert set(mine) == {"Run", "Deadline", "Heartbeat"}
    began, due = (datetime.fromisoformat(mine["Run"][end]) for end in ("start", "end"))
    assert (due - began).total_seconds() == 7200
    assert mine["Run"]["agent"]["name"] == "worker"
    assert "stale" in mine["Heartbeat"]["note"]


def test_a_move_is_a_commit_that_keeps_the_file_and_is_refused_where_something_stands_against_it(shell: Shell) -> None:
    world = shell.world
    assert "agent/worker" in shell("move", "nightly", "20 4 * * *", "--dry-run", code=1)
    refused = shell("move", "nightly", "20 4 * * *", code=3)
    assert "works on schedule/often" in refused
    assert "--force" in refused
    assert '"0 3 * * *" # as agreed' in (world.repo.path / "nightly.yaml").read_text()
    assert "nothing stands against it" in shell("move", "nightly", "10 4 * * *", "--dry-run")
    moved = shell("move", "nightly", "10 4 * * *", "-z", "Europe/Berlin", "--reason", "after the backup")
    assert "nightly.yaml (commit " in moved
    world.sync()
    spec = world.get("Schedule", "nightly").spec
    assert (spec["schedule"], spec["timeZone"]) == ("10 4 * * *", "Europe/Berlin")
    assert "# as agreed" in (world.repo.path / "nightly.yaml").read_text()
    assert "stays as it is" in shell("move", "nightly", "10 4 * * *")
    assert "moved schedule/nightly" in shell("move", "nightly", "20 4 * * *", "-z", "UTC", "--force")
    assert "is no schedule: a schedule has five fields" in shell("move", "nightly", "soon", code=2)
    assert "there is no schedule 'nighty'" in shell("move", "nighty", "@daily", code=2)
