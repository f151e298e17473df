"""The inventory agent: its counts, and an index that trusts nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remit_client import Failure
from remit_client.agents import file_index, inventory
from remit_client.agents.file_index import FileIndex, Known
from remit_client.agents.inventory import Reading, read_files, render, state_folder
from remit_client.agents.languages import language
from remit_client.agents.tree import Tree, walk


def read(root: Path, known: dict[str, Known] | None = None) -> tuple[Tree, Reading]:
    tree = walk(root, check=lambda: None)
    return tree, read_files(tree, known or {}, check=lambda: None)


def test_files_are_counted_by_language_and_folder(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("1\n2\n3")
    (tmp_path / "src/b.py").write_text("")
    (tmp_path / "README.md").write_text("# x\n")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\0" + b"\n" * 2000)
    tree, reading = read(tmp_path)
    assert {path: known.lines for path, known in reading.files.items()} == {
        "README.md": 1, "logo.png": None, "src/a.py": 3, "src/b.py": 0,
    }  # fmt: skip
    text = render(tree, reading.files)
    assert "**4 files, 4 lines of text, 2.0 kB.**" in text
    assert "| Python | 2 | 3 | 5 B |" in text
    assert "| `src/` | 2 | 3 | 5 B |" in text
    assert "- `logo.png`: 2.0 kB" in text


def test_an_empty_repository_has_an_inventory_too(tmp_path: Path) -> None:
    tree, reading = read(tmp_path)
    assert "**0 files, 0 lines of text, 0 B.**" in render(tree, reading.files)


def test_what_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    (tmp_path / "b").write_text("1\n")
    _, first = read(tmp_path)
    (tmp_path / "a").write_text("1\n2\n")
    (tmp_path / "c").write_text("x")
    known = dict(first.files)
    _, second = read(tmp_path, known)
    assert second.reused == 1
    assert {path: k.lines for path, k in second.files.items()} == {"a": 2, "b": 1, "c": 1}


def test_a_file_of_a_gigabyte_is_listed_without_being_read(tmp_path: Path) -> None:
    with open(tmp_path / "big.log", "wb") as file:
        file.truncate(1 << 30)
    tree, reading = read(tmp_path)
    assert reading.files["big.log"].lines is None
    assert "1.1 GB" in render(tree, reading.files)


def test_when_time_is_up_the_rest_is_left_for_the_next_attempt(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    tree = walk(tmp_path, check=lambda: None)
    turns = iter([False, True])
    reading = read_files(tree, {}, check=lambda: None, late=lambda: next(turns))
    assert list(reading.files) == ["a"]
    assert tree.incomplete == "the time limit was reached"


KNOWN = {"a": Known(1, 2, 3), "caf\udce9": Known(4, 5, None)}


def test_an_index_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "state", "uid", ".")
    assert index.load() is None
    index.store(KNOWN)
    assert index.load() == KNOWN
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_an_index_belongs_to_one_mission_and_one_root(tmp_path: Path) -> None:
    FileIndex(tmp_path, "uid", ".").store(KNOWN)
    assert FileIndex(tmp_path, "other", ".").load() is None
    assert FileIndex(tmp_path, "uid", "docs").load() is None


def index_file(folder: Path) -> Path:
    (path,) = folder.glob("*.json")
    return path


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_an_index_that_was_cut_or_altered_counts_as_cold(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("index")
    index = FileIndex(folder, "uid", ".")
    index.store(KNOWN)
    path = index_file(folder)
    data = path.read_bytes()
    at %= len(data)
    for damaged in (data[:at], data[:at] + junk + data[at + len(junk) :]):
        path.write_bytes(damaged)
        assert index.load() in (None, KNOWN)


@pytest.mark.parametrize("files", [[], {"a": 1}, {"a": [1, 2]}, {"a": ["1", 2, 3]}, {"a": [1, 2, "x"]}])
def test_an_index_of_another_shape_counts_as_cold(tmp_path: Path, files: object) -> None:
    index = FileIndex(tmp_path, "uid", ".")
    index.store({})
    document = json.loads(index_file(tmp_path).read_text())
    document["files"] = files
    document["digest"] = file_index._digest(files)  # type: ignore[arg-type]
    index_file(tmp_path).write_text(json.dumps(document))
    assert index.load() is None


def test_an_index_that_is_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "a", "uid", ".")
    index.store(KNOWN)
    path = index_file(tmp_path / "a")
    path.rename(tmp_path / "real.json")
    path.symlink_to(tmp_path / "real.json")
    assert index.load() is None
    index.store(KNOWN)
    assert index.load() == KNOWN
    assert not path.is_symlink()


def test_old_indexes_of_other_missions_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_index, "KEPT_INDEXES", 3)
    (tmp_path / "other.json").touch()
    for number in range(6):
        FileIndex(tmp_path, str(number), ".").store({})
        os.utime(FileIndex(tmp_path, str(number), ".")._path, (number, number))
    FileIndex(tmp_path, "last", ".").store({})
    names = [*map(str, range(6)), "last"]
    kept = [name for name in names if FileIndex(tmp_path, name, ".").load() is not None]
    assert kept == ["4", "5", "last"]
    assert (tmp_path / "other.json").exists()


def test_an_index_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    with pytest.raises(Failure, match="StateUnwritable"):
        FileIndex(tmp_path / "state", "uid", ".").store({})


def test_nothing_half_written_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("remit_client.agents.file_index.os.fsync", full)
    with pytest.raises(Failure, match="No space left"):
        FileIndex(tmp_path, "uid", ".").store(KNOWN)
    assert list(tmp_path.iterdir()) == []


def test_the_index_is_kept_below_the_project_unless_told_otherwise(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": "/cache", "HOME": "/home/x"}
    assert state_folder(tmp_path, "", cache) == Path("/cache/remit/inventory")
    assert state_folder(tmp_path, "", {"HOME": "/home/x"}) == tmp_path / ".remit/agents/inventory"
    (tmp_path / ".remit").mkdir()
    assert state_folder(tmp_path, "", cache) == tmp_path / ".remit/agents/inventory"
    assert state_folder(tmp_path, "a/b", cache) == tmp_path / "a/b"


@pytest.mark.parametrize("given_", ["/tmp/x", "../x", "a/../../x", "out/x", "out"])
def test_the_index_cannot_be_put_outside_of_the_project(tmp_path: Path, given_: str) -> None:
    project = tmp_path / "p"
    project.mkdir()
    (project / "out").symlink_to("..")
    with pytest.raises(Failure, match="OutsideProject"):
        state_folder(project, given_, {})


def test_a_remit_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    project = tmp_path / "p"
    project.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (project / ".remit").symlink_to("../elsewhere")
    with pytest.raises(Failure, match="OutsideProject"):
        state_folder(project, "", {})


@pytest.mark.parametrize(
    ("mission", "expected"),
    [
        ({"uid": "u", "name": "n"}, "u"),
        ({"metadata": {"uid": "u", "name": "n"}}, "u"),
        ({"missionUid": "u"}, "u"),
        ({"name": "n"}, "n"),
    ],
)
def test_a_mission_is_known_by_its_uid(mission: dict[str, object], expected: str) -> None:
    assert inventory.mission_uid(mission) == expected


def test_without_a_uid_the_attempts_of_a_mission_still_share_an_index() -> None:
    first = {"title": "t", "input": {"a": 1}, "attempt": 1}
    assert inventory.mission_uid(first) == inventory.mission_uid({**first, "attempt": 2})
    assert inventory.mission_uid(first) != inventory.mission_uid({**first, "title": "u"})


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/B.PY", "Python"), ("Dockerfile", "Dockerfile"), ("x/Makefile", "Make"), ("a.tar.gz", "other"),
     (".env", "other"), ("CMakeLists.txt", "CMake"), ("notes.txt", "Text")],
)  # fmt: skip
def test_languages_are_told_by_the_file_name(path: str, name: str) -> None:
    assert language(path) == name
