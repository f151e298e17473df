"""The ESTOP file: being there is what counts, whatever it is."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typing_extensions import Buffer

from controllers.holds.stop_file import StopFile, of_project
from controllers.holds.stops import Stops
from schemas.config import Config
from schemas.hold import HoldMode, HoldScope

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> StopFile:
    return StopFile(tmp_path / "state" / "ESTOP", "here")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _locked(path: Path) -> None:
    path.write_text("secret")
    path.chmod(0)


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def _nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def _wrong(path: Path) -> None:
    path.write_text(json.dumps({"by": 1, "at": None, "reason": []}))


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, _dangling, _fifo, _locked, _binary, _nested, _wrong])
def test_whatever_is_there_stops_everything(file: StopFile, make: Callable[[Path], None]) -> None:
    file.path.parent.mkdir()
    make(file.path)
    assert file.stands()
    (found,) = Stops(file).everywhere()
    assert (found.spec.scope, found.spec.mode) == (HoldScope.GLOBAL, HoldMode.STOP)
    assert found.spec.reason
    assert found.spec.is_estop
    assert file.remove()
    assert not file.stands()
    assert Stops(file).everywhere() == []


def test_no_file_and_no_folder_stop_nothing(file: StopFile) -> None:
    assert not file.stands()
    assert list(file.found()) == []
    assert not file.remove()


def test_a_folder_that_cannot_be_looked_into_counts_as_if_it_held_one(file: StopFile) -> None:
    file.path.parent.write_text("no folder")
    assert file.stands()
    assert [stop.tenant for stop in file.found()] == [""]


def test_what_was_written_says_who_why_and_when(file: StopFile) -> None:
    path = file.write("it writes\nto customers", by="user:alice", at=NOW)
    (found,) = file.found()
    assert (found.path, found.by, found.reason, found.at) == (path, "user:alice", "it writes to customers", NOW)
    file.write("another", by="user:bob", at=NOW)
    assert [stop.by for stop in file.found()] == ["user:alice"], "one that stands stays as it is"
    assert sorted(p.name for p in path.parent.iterdir()) == ["ESTOP"]


def test_words_of_a_person_are_the_reason_with_nothing_that_acts_on_a_terminal(file: StopFile) -> None:
    file.path.parent.mkdir()
    file.path.write_text("hands off\x1b[2J\n  now ")
    (found,) = file.found()
    assert found.reason == "hands off [2J now"
    assert found.by == ""


def test_a_tenant_has_a_file_of_its_own(file: StopFile) -> None:
    file.write("theirs", by="user:alice", at=NOW, tenant="acme")
    (file.path.parent / "ESTOP.No Tenant").touch()
    (file.path.parent / "ESTOP.acme.bak").touch()
    (found,) = Stops(file).everywhere()
    assert (found.key.namespace, found.spec.scope) == ("acme", HoldScope.TENANT)
    assert not file.stands()
    assert file.remove("acme")


def test_it_lies_beside_the_store_unless_configured(tmp_path: Path) -> None:
    state = tmp_path / ".remit"

    def place(**config: str) -> Path:
        return of_project(Config.model_validate(config), tmp_path, state).path

    assert place() == state / "ESTOP"
    assert place(store="sqlite:///data/remit.db") == tmp_path / "data" / "ESTOP"
    assert place(store=f"sqlite:///{tmp_path}/elsewhere/remit.db") == tmp_path / "elsewhere" / "ESTOP"
    assert place(store="postgresql://host/remit") == state / "ESTOP"
    assert place(store="postgresql://host/remit", estopFile="../shared/STOP") == tmp_path.parent / "shared" / "STOP"


class _OnFullDisk(io.FileIO):
    def write(self, words: Buffer) -> int:
        super().write(bytes(words)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_takes_the_file_without_its_words(file: StopFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdopen", lambda fd, mode, **_: _OnFullDisk(fd, mode))
    assert file.write("it writes to customers", by="user:alice", at=NOW) == file.path
    assert file.path.read_bytes() == b""
    assert file.stands()
    assert [path.name for path in file.path.parent.iterdir()] == ["ESTOP"]
