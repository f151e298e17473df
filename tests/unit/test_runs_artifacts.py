"""Artifacts: inline or in a file named by its content, durable before the store hears of them."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from controllers.runs import artifacts
from controllers.runs.artifacts import INLINE, LARGEST, ArtifactFiles, digest_of, room_inline
from controllers.secrets.known import KnownSecrets
from schemas.errors import NotFound, Refused, StoreUnavailable
from schemas.mission import Artifact
from schemas.policy import Redaction
from schemas.redaction import Redactor
from schemas.run import RunStatus

UID = "019a0000-0000-7000-8000-000000000001"


@pytest.fixture
def files(tmp_path: Path) -> ArtifactFiles:
    return ArtifactFiles(tmp_path)


def keep(files: ArtifactFiles, data: bytes, **options: int) -> Artifact:
    return files.keep(UID, "work-1", "a.md", "text/markdown", data, **options)


def listed(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_a_small_text_stays_inline(files: ArtifactFiles, tmp_path: Path) -> None:
    kept = keep(files, "Grüße\n".encode())
    assert kept.text == "Grüße\n"
    assert kept.size == 8
    assert kept.digest == digest_of("Grüße\n".encode())
    assert kept.run == "work-1"
    assert listed(tmp_path) == []
    assert files.read(UID, kept) == "Grüße\n".encode()


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"\xff\xfe", b"x" * (INLINE + 1), b"a\0b"])
def test_binary_and_large_content_lies_in_a_file_of_its_digest(
    files: ArtifactFiles, tmp_path: Path, data: bytes
) -> None:
    kept = keep(files, data)
    assert kept.text is None
    path = tmp_path / "artifacts" / UID / kept.digest.removeprefix("sha256:")
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert files.read(UID, kept) == data


def test_text_that_is_cleaned_for_reading_is_kept_byte_for_byte_too(files: ArtifactFiles, tmp_path: Path) -> None:
    data = b"\x1b]0;title\x07TODO\r\n"
    kept = keep(files, data)
    assert kept.text == "]0;titleTODO\n"
    assert files.read(UID, kept) == data
    assert files.text(UID, kept) == "]0;titleTODO\n"
    assert len(listed(tmp_path)) == 1


TOKEN = "ghp_" + "x1Y2" * 9
WRITTEN = f"to ann@example.org, with {TOKEN}\r\n".encode()


@pytest.mark.parametrize("filler", [0, INLINE])
def test_what_the_level_takes_out_is_in_no_text_and_no_file(files: ArtifactFiles, tmp_path: Path, filler: int) -> None:
    for level, gone, there in (
        (Redaction.STANDARD, [TOKEN], ["ann@example.org"]),
        (Redaction.STRICT, [TOKEN, "ann@example.org"], []),
        (Redaction.OFF, [], [TOKEN, "ann@example.org"]),
    ):
        redactor = Redactor((), level)
        kept = files.keep(UID, "work-1", "a.md", "text/plain", WRITTEN + b"." * filler, redactor=redactor)
        stored = files.read(UID, kept)
        assert digest_of(stored) == kept.digest
        assert kept.size == len(stored)
        everywhere = [stored.decode(), files.text(UID, kept), kept.text or stored.decode()]
        assert [word for word in gone for text in everywhere if word in text] == []
        assert [word for word in there for text in everywhere if word not in text] == []
        assert files.content(stored, redactor, "default") == stored, "doing it again changes nothing"
    assert b"\r\n" in files.read(UID, kept), "otherwise byte for byte"


def test_known_values_are_taken_out_of_files_unless_the_level_is_off(tmp_path: Path) -> None:
    known = KnownSecrets()
    known.learn("swordfish-42", ["acme"])
    files = ArtifactFiles(tmp_path, mask=known.text)
    data = b"the word is swordfish-42\x1b"
    for level, namespace, expected in (
        (Redaction.STANDARD, "acme", b"the word is [redacted]\x1b"),
        (Redaction.STANDARD, "beta", data),
        (Redaction.OFF, "acme", data),
    ):
        redactor = Redactor((), level)
        kept = files.keep(UID, "r", "a", "text/plain", data, redactor=redactor, namespace=namespace)
        assert files.read(UID, kept) == expected
        assert "swordfish-42" not in (kept.text or "") or namespace == "beta"


@pytest.mark.parametrize("data", [b"\xff" + TOKEN.encode(), b"\0" + TOKEN.encode()])
def test_what_is_no_text_is_kept_byte_for_byte(files: ArtifactFiles, data: bytes) -> None:
    assert files.read(UID, keep(files, data)) == data


def test_the_text_of_a_file_can_be_read_cleaned(files: ArtifactFiles) -> None:
    kept = keep(files, b"\x1b[2J" + b"x" * INLINE + b"\xff")
    assert files.text(UID, kept) == "[2J" + "x" * INLINE + "\ufffd"


def test_keeping_twice_changes_nothing(files: ArtifactFiles, tmp_path: Path) -> None:
    first = keep(files, b"\0")
    before = (tmp_path / "artifacts" / UID).stat().st_mtime_ns, listed(tmp_path)
    assert keep(files, b"\0") == first
    assert ((tmp_path / "artifacts" / UID).stat().st_mtime_ns, listed(tmp_path)) == before


def test_a_file_that_was_cut_is_written_anew(files: ArtifactFiles, tmp_path: Path) -> None:
    kept = keep(files, b"\0" * 1000)
    path = tmp_path / listed(tmp_path)[0]
    os.truncate(path, 10)
    with pytest.raises(NotFound, match="damaged"):
        files.read(UID, kept)
    keep(files, b"\0" * 1000)
    assert files.read(UID, kept) == b"\0" * 1000


def test_too_much_is_refused_before_it_is_written(files: ArtifactFiles, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="33,554,433 bytes") as caught:
        keep(files, b"\0" * (LARGEST + 1))
    assert caught.value.reason == "ArtifactTooLarge"
    assert listed(tmp_path) == []


def test_a_link_in_place_of_a_file_is_not_followed(files: ArtifactFiles, tmp_path: Path) -> None:
    kept = keep(files, b"\0")
    path = tmp_path / listed(tmp_path)[0]
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        files.read(UID, kept)
    keep(files, b"\0")
    assert files.read(UID, kept) == b"\0"
    assert not path.is_symlink()


def test_a_missing_file_is_named(files: ArtifactFiles, tmp_path: Path) -> None:
    kept = keep(files, b"\0")
    (tmp_path / listed(tmp_path)[0]).unlink()
    with pytest.raises(NotFound, match=r"a\.md is gone"):
        files.read(UID, kept)


@pytest.mark.parametrize("uid", ["..", "../../etc", "", "019A0000-0000-7000-8000-000000000001", "a/b"])
def test_only_a_uid_names_a_folder(files: ArtifactFiles, uid: str) -> None:
    with pytest.raises(ValueError, match=r"uid|UUID|form"):
        files.keep(uid, "r", "a", "text/plain", b"\0")
    with pytest.raises(ValueError, match=r"uid|UUID|form"):
        files.remove(uid)


def test_a_digest_that_is_none_names_no_file(files: ArtifactFiles) -> None:
    for digest in ("", "sha256:../../x", "sha256:" + "g" * 64):
        with pytest.raises(ValueError, match="digest"):
            files.read(UID, Artifact(name="a", digest=digest))


def test_a_disk_that_does_not_take_it_is_a_passing_fault(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="cannot be written") as caught:
        keep(ArtifactFiles(tmp_path), b"\0")
    assert "Free some space" in str(caught.value)


def test_a_write_that_fails_leaves_nothing_aside(
    files: ArtifactFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    keep(files, b"\0")
    monkeypatch.setattr(artifacts.os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        keep(files, b"\0\0")
    monkeypatch.undo()
    assert len(listed(tmp_path)) == 1


def test_what_was_turned_down_is_dropped_unless_another_has_its_content(files: ArtifactFiles, tmp_path: Path) -> None:
    kept = keep(files, b"\0")
    other = kept.model_copy(update={"name": "b.md"})
    files.drop(UID, kept, [other])
    assert len(listed(tmp_path)) == 1
    files.drop(UID, kept, [])
    files.drop(UID, kept, [])
    assert listed(tmp_path) == []


def test_a_run_is_removed_with_everything(files: ArtifactFiles, tmp_path: Path) -> None:
    keep(files, b"\0")
    keep(files, b"\0\0")
    files.remove(UID)
    files.remove(UID)
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_the_same_content_from_many_threads_is_one_file(files: ArtifactFiles, tmp_path: Path) -> None:
    gate, failures = threading.Barrier(8), []

    def work() -> None:
        gate.wait()
        try:
            for size in range(1, 20):
                keep(files, b"\0" * size)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(listed(tmp_path)) == 19


def test_texts_stay_inline_only_while_the_status_is_small() -> None:
    status = RunStatus()
    assert room_inline(status) == INLINE
    texts = tuple(Artifact(name=f"{i}", text="x" * INLINE) for i in range(3))
    status = RunStatus(artifacts=(*texts, Artifact(name="x", text="x" * (INLINE - 10))))
    assert room_inline(status) == 10
    assert room_inline(RunStatus(artifacts=(*texts, texts[0]))) == 0
