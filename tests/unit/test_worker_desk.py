"""What a worker remembers over its death."""

from __future__ import annotations

from pathlib import Path

import pytest

from controllers.worker.desk import Desk, HeldClaim
from schemas.errors import Stalled

CLAIM = HeldClaim(run="0197-1", name="a-1", fence=3, lease_s=60.0, grace_s=10.0)


def test_claims_and_open_requests_are_there_in_the_next_life(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    for key in ("b", "a", "a"):
        desk.asking(key)
    desk.asked("b")
    desk.hold(CLAIM)
    desk.close()
    again = Desk(tmp_path / "w")
    assert (again.open_asks(), again.held()) == (["a"], [CLAIM])
    again.drop(CLAIM.run)
    again.drop(CLAIM.run)
    assert again.held() == []
    again.close()


def test_a_folder_belongs_to_one_worker_at_a_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(Stalled, match="another worker uses"):
        Desk(tmp_path)
    desk.close()
    Desk(tmp_path).close()


def test_nothing_that_is_kept_can_be_read_by_others(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "w")
    desk.hold(CLAIM)
    desk.asking("a")
    desk.close()
    assert [p for p in (tmp_path / "w").rglob("*") if p.stat().st_mode & 0o077] == []
