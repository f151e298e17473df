"""Reading a directory: the rules of git sources, and edits that race the reader."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.sources import tree
from controllers.sources.directory import DirectoryReader
from schemas.errors import InvalidSpec, SourceUnreadable


class Monotonic:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def put(root: Path, files: dict[str, str | bytes]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)


def everything(reader: DirectoryReader) -> dict[str, bytes]:
    return {entry.path: data for entry, data in reader.read_blobs(reader.read_tree().entries)}


def listed(reader: DirectoryReader) -> tuple[list[str], dict[str, str]]:
    found = reader.read_tree()
    return [e.path for e in found.entries], {d.path: d.message for d in found.problems}


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(SourceUnreadable) as caught:
        call()
    assert str(caught.value)
    return caught.value.reason


def test_a_listing_holds_every_manifest_and_its_bytes(tmp_path: Path) -> None:
    put(tmp_path, {"b/z.yaml": "z", "a.YML": "a", "README.md": "x", "b.yaml": "b", ".git/c.yaml": "x", ".h.yaml": "x"})
    (tmp_path / "b.yaml").chmod(0o755)
    reader = DirectoryReader(tmp_path)
    found = reader.read_tree()
    assert [(e.path, e.size, e.mode) for e in found.entries] == [
        ("a.YML", 1, "100644"),
        ("b.yaml", 1, "100755"),
        ("b/z.yaml", 1, "100644"),
    ]
    assert all(e.blob.startswith("sha256-") for e in found.entries)
    assert found.revision == reader.head() == f"dir@sha256:{found.commit}"
    assert found.tree_id == found.commit
    assert everything(reader) == {"a.YML": b"a", "b.yaml": b"b", "b/z.yaml": b"z"}
    reader.fetch()
    reader.close()


def test_the_revision_follows_content_names_and_problems_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, {"a.yaml": "1", "b.yaml": "2"})
    reader = DirectoryReader(tmp_path)
    first = reader.head()
    os.utime(tmp_path / "a.yaml", (1, 1))
    put(tmp_path, {"notes.md": "x"})
    assert reader.head() == first
    seen = {first}
    put(tmp_path, {"a.yaml": "3"})
    seen.add(reader.head())
    (tmp_path / "a.yaml").rename(tmp_path / "c.yaml")
    seen.add(reader.head())
    (tmp_path / "evil.yaml").symlink_to("/etc/passwd")
    seen.add(reader.head())
    (tmp_path / "b.yaml").chmod(0o755)
    seen.add(reader.head())
    assert len(seen) == 5
    assert DirectoryReader(tmp_path).head() == reader.head()


def test_an_edit_that_keeps_size_and_time_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, {"a.yaml": "1"})
    reader = DirectoryReader(tmp_path)
    before = reader.head()
    info = (tmp_path / "a.yaml").stat()
    put(tmp_path, {"a.yaml": "2"})
    os.utime(tmp_path / "a.yaml", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert reader.head() != before


def test_a_file_is_read_again_until_its_time_stamp_can_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"a.yaml": "1", "b.yaml": "1"})
    clock = Monotonic()
    reader = DirectoryReader(tmp_path, monotonic=clock)
    opened: list[object] = []
    real = os.open

    def counting(path: object, flags: int, *arguments: object, **options: object) -> int:
        if not flags & os.O_DIRECTORY:
            opened.append(path)
        return real(path, flags, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", counting)
    reader.head()
    for _ in range(3):
        opened.clear()
        reader.head()
        assert sorted(set(opened)) == [b"a.yaml", b"b.yaml"]  # type: ignore[type-var]
        clock.seconds += 1
    clock.seconds += 1
    reader.head()
    opened.clear()
    reader.head()
    assert opened == []


def test_a_directory_that_is_gone_is_not_an_empty_source(tmp_path: Path) -> None:
    put(tmp_path / "specs", {"a.yaml": "1"})
    reader = DirectoryReader(tmp_path / "specs")
    found = reader.read_tree()
    (tmp_path / "specs").rename(tmp_path / "away")
    assert reason(reader.head) == tree.PATH_NOT_FOUND
    assert reason(reader.read_tree) == tree.PATH_NOT_FOUND
    assert reason(lambda: list(reader.read_blobs(found.entries))) == tree.PATH_NOT_FOUND
    (tmp_path / "specs").write_text("a file")
    assert reason(reader.head) == tree.PATH_NOT_FOUND


def test_an_empty_directory_is_empty(tmp_path: Path) -> None:
    assert listed(DirectoryReader(tmp_path)) == ([], {})


def test_the_directory_itself_may_be_a_symlink(tmp_path: Path) -> None:
    put(tmp_path / "v1", {"a.yaml": "1"})
    put(tmp_path / "v2", {"a.yaml": "2"})
    (tmp_path / "specs").symlink_to("v1")
    reader = DirectoryReader(tmp_path / "specs")
    assert everything(reader) == {"a.yaml": b"1"}
    (tmp_path / "specs").unlink()
    (tmp_path / "specs").symlink_to("v2")
    assert everything(reader) == {"a.yaml": b"2"}


def test_a_mounted_configmap_is_read_before_and_after_its_swap(tmp_path: Path) -> None:
    put(tmp_path, {"..v1/a.yaml": "1", "..v2/a.yaml": "2"})
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    reader = DirectoryReader(tmp_path)
    before = reader.head()
    assert everything(reader) == {"a.yaml": b"1"}
    (tmp_path / "..next").symlink_to("..v2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert reader.head() != before
    assert everything(reader) == {"a.yaml": b"2"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", "absolute"),
        ("../outside.yaml", "leaves the source path"),
        ("real/../../outside.yaml", "leaves the source path"),
        ("nothing.yaml", "points at nothing"),
        ("real/a.yaml/x", "not a folder"),
        ("real", "a folder, not at a file"),
        ("evil.yaml", "more than 8 symlinks"),
        ("a\nb", "not a path"),
        (b"\xff", "not a path"),
        ("pipe", "a other, not at a file"),
    ],
)
def test_a_symlink_that_leads_elsewhere_is_a_problem_and_not_followed(
    tmp_path: Path, target: str | bytes, message: str
) -> None:
    put(tmp_path, {"specs/real/a.yaml": "x", "outside.yaml": "secret"})
    os.mkfifo(tmp_path / "specs" / "pipe")
    os.symlink(target, os.fsencode(tmp_path / "specs" / "evil.yaml"))
    paths, problems = listed(DirectoryReader(tmp_path / "specs"))
    assert paths == ["real/a.yaml"]
    assert set(problems) == {"evil.yaml"}
    assert message in problems["evil.yaml"]


def test_links_inside_are_listed_and_linked_folders_are_not_listed_twice(tmp_path: Path) -> None:
    put(tmp_path, {"real/a.yaml": "x", ".hidden/b.yaml": "y"})
    (tmp_path / "l.yaml").symlink_to("real/a.yaml")
    (tmp_path / "via.yaml").symlink_to("way/a.yaml")
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "secret").symlink_to(".hidden")
    (tmp_path / "up").symlink_to("..")
    reader = DirectoryReader(tmp_path)
    paths, problems = listed(reader)
    assert paths == ["l.yaml", "real/a.yaml", "via.yaml"]
    assert set(problems) == {"secret", "up"}
    assert set(everything(reader).values()) == {b"x"}


def test_things_that_are_no_files_are_problems_and_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(tmp_path / "socket.yaml"))
        paths, problems = listed(DirectoryReader(tmp_path))
    assert paths == []
    assert problems == {"pipe.yaml": "is not a regular file", "socket.yaml": "is not a regular file"}


def test_names_are_judged_as_in_git(tmp_path: Path) -> None:
    for name in (b"caf\xe9.yaml", b"a\nb.yaml", b"A.yaml", b"a.yaml", b"caf\xe9.md"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("x")
    paths, problems = listed(DirectoryReader(tmp_path))
    assert paths == ["A.yaml", "a.yaml"]
    assert set(problems) == {"caf\\xe9.yaml", "a\\nb.yaml", "a.yaml"}


def test_limits_make_problems_or_an_unreadable_source(tmp_path: Path) -> None:
    put(tmp_path, {"huge.yaml": "x" * 101, "most.yaml": "x" * 100, "d/e/f.yaml": "x"})
    (tmp_path / "l").symlink_to("d")
    paths, problems = listed(DirectoryReader(tmp_path, limits=tree.Limits(max_blob_bytes=100, max_depth=2)))
    assert paths == ["most.yaml"]
    assert set(problems) == {"huge.yaml", "d/e"}
    for limits in (tree.Limits(max_files=2), tree.Limits(max_nodes=5), tree.Limits(max_links=0)):
        assert reason(DirectoryReader(tmp_path, limits=limits).read_tree) == tree.LIMIT_EXCEEDED


@pytest.mark.skipif(os.geteuid() != 0, reason="drops rights, which needs to have them")
def test_a_file_or_folder_without_access_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        put(root, {"a.yaml": "x", "closed/b.yaml": "x", "secret.yaml": "x"})
        for closed in ("closed", "secret.yaml"):
            mode = (root / closed).stat().st_mode
            (root / closed).chmod(0)
            os.seteuid(65534)
            try:
                with pytest.raises(SourceUnreadable, match=closed) as caught:
                    DirectoryReader(root).read_tree()
            finally:
                os.seteuid(0)
            assert caught.value.reason == tree.FILE_UNREADABLE
            (root / closed).chmod(mode)


def test_a_revision_that_has_passed_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path, {"a.yaml": "1"})
    reader = DirectoryReader(tmp_path)
    old = reader.read_tree()
    assert reader.read_tree(old.revision) == old
    put(tmp_path, {"a.yaml": "2"})
    assert reason(lambda: reader.read_tree(old.revision)) == tree.SOURCE_CHANGING
    assert reason(lambda: list(reader.read_blobs(old.entries))) == tree.SOURCE_CHANGING
    (tmp_path / "a.yaml").unlink()
    assert reason(lambda: list(reader.read_blobs(old.entries))) == tree.SOURCE_CHANGING


def test_find_gives_any_file_and_refuses_what_leaves_the_path(tmp_path: Path) -> None:
    put(tmp_path, {"s/souls/a.md": "be kind", "s/b.yaml": "x", "top.md": "x"})
    (tmp_path / "s/link.md").symlink_to("souls/a.md")
    (tmp_path / "s/out.md").symlink_to("../top.md")
    reader = DirectoryReader(tmp_path / "s")
    whole = reader.read_tree()
    for path in ("souls/a.md", "link.md"):
        found = reader.find(whole, path)
        assert found is not None
        assert list(reader.read_blobs([found])) == [(found, b"be kind")]
    for path in ("none.md", "souls", "b.yaml/x"):
        assert reader.find(whole, path) is None
    for path in ("out.md", "../top.md", "/etc/passwd", "a\n"):
        with pytest.raises(InvalidSpec):
            reader.find(whole, path)


def test_a_file_replaced_by_a_link_while_it_is_read_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"specs/a.yaml": "x", "specs/d/b.yaml": "x", "outside/b.yaml": "secret", "secret.yaml": "secret"})
    reader = DirectoryReader(tmp_path / "specs")
    found = reader.read_tree()
    real = os.open
    swapped: list[str] = []

    def swapping(path: object, flags: int, *arguments: object, **options: object) -> int:
        if path == b"a.yaml" and not swapped:
            (tmp_path / "specs/a.yaml").unlink()
            (tmp_path / "specs/a.yaml").symlink_to("../secret.yaml")
            swapped.append("a")
        if path == b"d" and len(swapped) == 1:
            (tmp_path / "specs/d").rename(tmp_path / "away")
            (tmp_path / "specs/d").symlink_to("../outside")
            swapped.append("d")
        return real(path, flags, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swapping)
    for entry in found.entries:
        assert reason(lambda entry=entry: list(reader.read_blobs([entry]))) == tree.SOURCE_CHANGING  # type: ignore[misc]
    assert swapped == ["a", "d"]
    paths, problems = listed(reader)
    assert paths == []
    assert set(problems) == {"a.yaml", "d"}


def test_a_directory_that_never_holds_still_is_unreadable_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"a.yaml": "0"})
    count = 0
    real = os.scandir

    def restless(folder: object) -> object:
        nonlocal count
        count += 1
        put(tmp_path, {"a.yaml": f"{count}"})
        return real(folder)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", restless)
    assert reason(DirectoryReader(tmp_path).head) == tree.SOURCE_CHANGING


def test_a_listing_never_pairs_a_name_with_a_torn_file(tmp_path: Path) -> None:
    sizes = (100_000, 200_000)
    versions = {bytes([65 + n]) * sizes[n % 2] for n in range(6)}
    put(tmp_path, {"a.yaml": b"A" * sizes[0]})
    done = threading.Event()
    reasons: set[str] = set()

    def churn() -> None:
        for _ in range(40):
            for version in sorted(versions):
                with (tmp_path / "a.yaml").open("r+b") as file:
                    file.truncate(0)
                    file.write(version)
                done.wait(0.001)
        done.set()

    writer = threading.Thread(target=churn)
    writer.start()
    reader = DirectoryReader(tmp_path)
    while not done.is_set():
        try:
            for data in everything(reader).values():
                # Truncated and rewritten in place: empty and half-written are true states, a mixture is not.
                assert len(set(data)) <= 1
        except SourceUnreadable as error:
            reasons.add(error.reason)
    writer.join()
    assert reasons <= {tree.SOURCE_CHANGING}
    assert everything(reader)["a.yaml"] in versions


names = st.text(alphabet="aAbé.~ -", min_size=1, max_size=4).filter(lambda n: n not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, st.binary(max_size=5), max_size=8))
def test_every_file_is_listed_or_hidden_or_a_problem(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written = {}
        for name, data in files.items():
            path = root / f"{name}.yaml"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
            written[f"{name}.yaml"] = data
        reader = DirectoryReader(root)
        found = everything(reader)
        expected = {n: d for n, d in written.items() if not any(p.startswith(".") for p in n.split("/"))}
        assert found == expected
        assert list(found) == sorted(found, key=str.encode)
