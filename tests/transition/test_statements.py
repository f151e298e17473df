"""What a mission costs the database: a ceiling for the statements of its whole life. Who adds one on every pass, or
reads again what the transaction knows already, finds out here."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from schemas.mission import MissionState
from store.sqlite import SqliteBackend
from tests.fakes.world import World, agent, executor, mission

MISSIONS = 10
IN_ALL = 310
WRITING = 205


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[bool]:
    """Statements, a row of a bulk insert each, by whether the connection only reads."""
    counted: Counter[bool] = Counter()
    connect = SqliteBackend.connect

    def watched(self: SqliteBackend, *, query_only: bool = False) -> sqlite3.Connection:
        made = connect(self, query_only=query_only)
        made.set_trace_callback(lambda _: counted.update([query_only]))
        return made

    monkeypatch.setattr(SqliteBackend, "connect", watched)
    return counted


def test_a_mission_from_its_commit_to_done_costs_so_many_statements(asked: Counter[bool], tmp_path: Path) -> None:
    world = World(tmp_path)
    world.commit({"fleet.yaml": executor() + "---\n" + agent()})
    world.sync()
    asked.clear()
    world.commit({f"{n}.yaml": mission(f"m{n}") for n in range(MISSIONS)})
    world.sync()
    for _ in range(MISSIONS):
        world.finish(world.started[-1])
    spent = {only: count / MISSIONS for only, count in asked.items()}
    assert {world.state(f"m{n}") for n in range(MISSIONS)} == {MissionState.DONE}
    world.close()
    assert spent[False] <= WRITING
    assert spent[False] + spent[True] <= IN_ALL
