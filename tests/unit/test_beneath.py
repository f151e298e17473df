"""No path leads out of its folder: by its text, through links, by other names, or while somebody changes the tree."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.runtime.beneath import LeadsOut, enter, open_beneath, open_plain, require_regular
from decisions.policy.globs import clean_path


def read(root: Path, path: str, *, links: bool = True) -> bytes:
    opened = open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK, links=links)
    try:
        require_regular(opened, path)
        return os.read(opened, 100)
    finally:
        os.close(opened)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "a/b").mkdir(parents=True)
    (made / "a/b/file").write_text("inside")
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside/file").write_text("outside")
    return made


@pytest.mark.parametrize("path", ["a/b/file", "./a//b/./file", "a/../a/b/file", "a/b/../b/file"])
def test_a_path_within_is_opened(root: Path, path: str) -> None:
    assert read(root, path) == b"inside"


@pytest.mark.parametrize(
    "path",
    ["../outside", "a/../../outside", "a/b/../../../outside", "/etc/passwd", "../root-beside/file", "..", "a/\0/b",
     "../root/a/b/file"],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused(root: Path, path: str) -> None:
    with pytest.raises(LeadsOut):
        read(root, path)


LINKS = {
    "to the outside": ("../outside", "link"),
    "absolute": ("/etc/passwd", "link"),
    "absolute to within": ("{root}/a/b/file", "link"),
    "a folder": ("..", "link/outside"),
    "a folder by an absolute path": ("/etc", "link/passwd"),
    "in a circle": ("link", "link"),
    "a link to a link": ("second", "link"),
    "to the processes": ("/proc/self/root/etc/passwd", "link"),
}


@pytest.mark.parametrize("name", LINKS)
def test_a_symbolic_link_that_leads_out_is_refused(root: Path, name: str) -> None:
    target, path = LINKS[name]
    (root / "link").symlink_to(target.replace("{root}", str(root)))
    (root / "second").symlink_to("a/../../outside")
    with pytest.raises(LeadsOut):
        read(root, path)


def test_a_symbolic_link_that_stays_within_is_followed_or_refused_as_asked(root: Path) -> None:
    (root / "a/link").symlink_to("../a/b/file")
    assert read(root, "a/link") == b"inside"
    with pytest.raises(LeadsOut, match="symbolic link"):
        read(root, "a/link", links=False)


def test_a_hard_link_is_no_file_of_the_folder(root: Path, tmp_path: Path) -> None:
    os.link(tmp_path / "outside", root / "mine")
    with pytest.raises(LeadsOut, match="hard link"):
        read(root, "mine")


def test_a_pipe_a_folder_and_a_device_are_no_files_and_nobody_waits(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for name in ("pipe", "a", "."):
        with pytest.raises(LeadsOut, match="not a regular file"):
            read(root, name)
    with pytest.raises(OSError, match="not a regular file"):
        open_plain(root / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_plain(Path("/dev/null"))
    (root / "link").symlink_to("a/b/file")
    with pytest.raises(OSError, match="symbolic links"):
        open_plain(root / "link")


def test_unusual_names_are_names(root: Path) -> None:
    for name in ("...", "..a", " ", "a b", "-rf", "*", "a\nb", "\u202e", "CON", "~root", "a\\..\\b", "x" * 255):
        (root / name).write_text("inside")
        assert read(root, name) == b"inside"
    with pytest.raises(OSError, match="too long"):
        read(root, "x" * 256)


def test_what_is_made_is_made_within_and_never_through_a_link(root: Path, tmp_path: Path) -> None:
    os.close(open_beneath(root, "a/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    assert (root / "a/new").is_file()
    (root / "dangling").symlink_to("../made-outside")
    (root / "within").symlink_to("made-within")
    with pytest.raises(LeadsOut):
        open_beneath(root, "dangling", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(LeadsOut):
        open_beneath(root, "within", os.O_WRONLY | os.O_CREAT, links=False)
    assert not (tmp_path / "made-outside").exists()


def test_nobody_wins_a_race_against_the_walk(root: Path, tmp_path: Path) -> None:
    """A folder that becomes a link to the outside and back, again and again: what is read is inside or refused."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "file").write_text("outside")
    (root / "a/link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(root / "a/b", root / "a/kept")
            os.rename(root / "a/link", root / "a/b")
            os.rename(root / "a/b", root / "a/link")
            os.rename(root / "a/kept", root / "a/b")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            with contextlib.suppress(LeadsOut, FileNotFoundError, NotADirectoryError):
                seen.add(read(root, "a/b/file"))
    finally:
        stop.set()
        thread.join()
    assert seen <= {b"inside"}


def test_a_working_directory_is_entered_by_no_link(root: Path) -> None:
    here = os.getcwd()
    try:
        enter(str((root / "a/b").resolve()))
        assert os.getcwd() == str((root / "a/b").resolve())
        (root / "link").symlink_to("a")
        for folder in (str(root.resolve() / "link"), str(root.resolve() / "link/b")):
            with pytest.raises(OSError, match="symbolic link"):
                enter(folder)
        enter("/")
        assert os.getcwd() == "/"
    finally:
        os.chdir(here)


_PARTS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "file", "~", "x y", "a\\b", "\u202e"]), max_size=6)


@given(_PARTS.map("/".join))
def test_a_path_that_policies_take_for_one_of_the_workspace_leads_nowhere_else(path: str) -> None:
    """The words of a policy and the walk agree: what ``filesystem`` lists may cover never leaves the folder."""
    if clean_path(path) is None:
        return
    leads_out: Callable[[], int] = lambda: open_beneath(Path("/proc/self"), path, os.O_RDONLY, links=False)  # noqa: E731
    with contextlib.suppress(OSError):
        os.close(leads_out())
