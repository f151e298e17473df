"""Damaged repositories: every fault names its place and reason, and none of them reads as an empty source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controllers.sources import tree
from controllers.sources.git import GitReader
from schemas.errors import SourceUnreadable
from tests.fakes.repos import Repo

TEXT = "rules:\n" + "".join(f"- rule {n} of the house\n" for n in range(1500))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "r")
    repo.commit({"policies/house.yaml": TEXT, "policies/other.yaml": "x: 1\n", "z.yaml": "z: 1\n"})
    repo.loosen()
    return repo


@pytest.fixture
def reader(repo: Repo) -> Iterator[GitReader]:
    made = GitReader(str(repo.path), deadline_s=10)
    yield made
    made.close()


def everything(reader: GitReader) -> dict[str, bytes]:
    return {entry.path: data for entry, data in reader.read_blobs(reader.read_tree().entries)}


def fault(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(SourceUnreadable) as caught:
        call()
    return caught.value.reason, str(caught.value)


def flip(repo: Repo, oid: str) -> None:
    repo.flip_bit(oid)


def flip_header(repo: Repo, oid: str) -> None:
    repo.flip_bit(oid, at=0.0)


def cut_half(repo: Repo, oid: str) -> None:
    repo.truncate(oid, 0.5)


def cut_all(repo: Repo, oid: str) -> None:
    repo.truncate(oid, 0.0)


def forge_shorter(repo: Repo, oid: str) -> None:
    repo.forge(oid, b"rules: []\n")


def forge_same_length(repo: Repo, oid: str) -> None:
    repo.forge(oid, TEXT.replace("house", "horse").encode())


def forge_kind(repo: Repo, oid: str) -> None:
    repo.forge(oid, b"", "tree")


def lose(repo: Repo, oid: str) -> None:
    repo.remove_object(oid)


DAMAGES = [flip, flip_header, cut_half, cut_all, forge_shorter, forge_same_length, forge_kind]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_blob_is_never_served(repo: Repo, reader: GitReader, damage: Callable[[Repo, str], None]) -> None:
    oid = repo.blob("policies/house.yaml")
    damage(repo, oid)
    reason, message = fault(lambda: everything(reader))
    assert reason == tree.OBJECT_DAMAGED
    assert "policies/house.yaml" in message
    assert oid in message


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_blob_that_is_damaged_after_it_was_listed_is_never_served(
    repo: Repo, reader: GitReader, damage: Callable[[Repo, str], None]
) -> None:
    listed = reader.read_tree()
    damage(repo, repo.blob("policies/house.yaml"))
    reason, message = fault(lambda: list(reader.read_blobs(listed.entries)))
    assert reason == tree.OBJECT_DAMAGED
    assert "policies/house.yaml" in message


def test_a_missing_blob_is_named(repo: Repo, reader: GitReader) -> None:
    listed = reader.read_tree()
    oid = repo.blob("policies/house.yaml")
    lose(repo, oid)
    for call in (lambda: everything(reader), lambda: list(reader.read_blobs(listed.entries))):
        reason, message = fault(call)
        assert reason == tree.OBJECT_MISSING
        assert "policies/house.yaml" in message
        assert oid in message


@pytest.mark.parametrize("damage", [*DAMAGES, lose])
@pytest.mark.parametrize("what", ["HEAD:policies", "HEAD^{tree}", "HEAD"])
def test_a_damaged_folder_or_commit_is_never_an_empty_one(
    repo: Repo, reader: GitReader, what: str, damage: Callable[[Repo, str], None]
) -> None:
    oid = repo.git("rev-parse", what).strip()
    if damage is forge_kind and what != "HEAD":
        repo.forge(oid, b"x", "blob")
    else:
        damage(repo, oid)
    reason, message = fault(lambda: everything(reader))
    expected = {tree.OBJECT_MISSING} if damage is lose else {tree.OBJECT_DAMAGED}
    if damage in (forge_kind, forge_shorter, forge_same_length) and what == "HEAD":
        expected.add(tree.REF_DAMAGED)  # a ref that does not lead to a commit
    assert reason in expected
    assert oid in message or "refs/heads/main" in message


def test_an_emptied_folder_stored_under_the_name_of_a_full_one_is_noticed(repo: Repo, reader: GitReader) -> None:
    repo.forge(repo.blob("policies"), b"", "tree")
    assert repo.git("ls-tree", "-r", "--name-only", "HEAD").split() == ["z.yaml"]  # git believes it
    assert fault(lambda: everything(reader))[0] == tree.OBJECT_DAMAGED


def test_the_good_state_is_read_again_once_the_damage_is_repaired(repo: Repo, reader: GitReader) -> None:
    oid = repo.blob("policies/house.yaml")
    good = repo.object_path(oid).read_bytes()
    listed = reader.read_tree()
    for damage in (*DAMAGES, lose):
        damage(repo, oid)
        fault(lambda: list(reader.read_blobs(listed.entries)))
        repo.store("blob", TEXT.encode()) if damage is lose else repo.object_path(oid).write_bytes(good)
        assert everything(reader)["policies/house.yaml"] == TEXT.encode()


def test_a_bit_flip_in_a_pack_is_noticed(repo: Repo, reader: GitReader) -> None:
    repo.git("repack", "-adq")
    (pack,) = (repo.git_dir / "objects/pack").glob("*.pack")
    pack.chmod(0o600)
    good = pack.read_bytes()
    read, reasons = 0, set()
    for at in range(12, len(good) - 20, max(1, len(good) // 40)):
        data = bytearray(good)
        data[at] ^= 0x04
        pack.write_bytes(bytes(data))
        reader.close()
        try:
            assert everything(reader)["policies/house.yaml"] == TEXT.encode()
            read += 1  # the flipped bit belongs to nothing that is read
        except SourceUnreadable as error:
            reasons.add(error.reason)
    assert read < 20
    assert reasons <= {tree.OBJECT_DAMAGED, tree.OBJECT_MISSING, tree.REF_DAMAGED}


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"0" * 39, b"not an id", b"\x00" * 41, b"ref: ", b"ref: refs/heads/../../x", b"f" * 41, b"\xff" * 40],
)
def test_a_damaged_ref_is_told_apart_from_one_that_is_gone(repo: Repo, reader: GitReader, content: bytes) -> None:
    repo.git("pack-refs", "--all")  # the older value beside it does not count
    repo.commit({"z.yaml": "z: 2\n"})
    (repo.git_dir / "refs/heads/main").write_bytes(content)
    reason, message = fault(reader.head)
    assert reason == tree.REF_DAMAGED
    assert "refs/heads/main" in message


def test_a_ref_at_an_object_that_is_not_there_is_missing(repo: Repo, reader: GitReader) -> None:
    (repo.git_dir / "refs/heads/main").write_text("1" * 40 + "\n")
    assert fault(reader.head)[0] == tree.OBJECT_MISSING


def test_a_circle_of_symbolic_refs_is_damage(repo: Repo, reader: GitReader) -> None:
    (repo.git_dir / "refs/heads/main").write_text("ref: refs/heads/a\n")
    (repo.git_dir / "refs/heads/a").write_text("ref: refs/heads/main\n")
    assert fault(reader.head)[0] == tree.REF_DAMAGED


def test_a_torn_packed_refs_file_is_damage(repo: Repo, reader: GitReader) -> None:
    repo.git("pack-refs", "--all")
    packed = repo.git_dir / "packed-refs"
    packed.write_bytes(packed.read_bytes()[:-30])
    assert fault(reader.head)[0] in (tree.REF_DAMAGED, tree.REF_NOT_FOUND)
    packed.write_bytes(b"\x00" * 100)
    assert fault(reader.head)[0] == tree.REF_DAMAGED


def test_a_ref_that_leads_to_a_blob_is_damage(repo: Repo, reader: GitReader) -> None:
    (repo.git_dir / "refs/heads/main").write_text(repo.blob("z.yaml") + "\n")
    assert fault(reader.head)[0] == tree.REF_DAMAGED


def test_stale_locks_do_not_keep_a_local_repository_from_being_read(repo: Repo, reader: GitReader) -> None:
    head = repo.head
    for lock in ("refs/heads/main.lock", "packed-refs.lock", "index.lock", "HEAD.lock", "config.lock", "shallow.lock"):
        (repo.git_dir / lock).write_text("")
    assert reader.head() == f"main@sha1:{head}"
    assert len(everything(reader)) == 3


def test_a_malformed_tree_with_a_matching_name_is_damage(tmp_path: Path, reader: GitReader, repo: Repo) -> None:
    blob = bytes.fromhex(repo.blob("z.yaml"))
    for rows in (
        b"100644 a/../../x.yaml\0" + blob,
        b"100644 a.yaml\0" + blob[:-1],
        b"100644 a.yaml",
        b"100644 \0" + blob,
    ):
        oid = repo.store("tree", rows)
        commit = repo.store("commit", f"tree {oid}\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\n\nx\n".encode())
        repo.git("update-ref", "refs/heads/main", commit)
        assert fault(lambda: everything(reader))[0] == tree.OBJECT_DAMAGED


def test_a_damaged_head_file_makes_the_repository_unreachable(repo: Repo, reader: GitReader) -> None:
    (repo.git_dir / "HEAD").write_text("")
    assert fault(reader.head)[0] == tree.REPOSITORY_UNREACHABLE


def test_an_object_that_names_a_folder_where_a_file_belongs_is_damage(repo: Repo, reader: GitReader) -> None:
    repo.commit_tree([("100644", b"a.yaml", repo.git("rev-parse", "HEAD^{tree}").strip())])
    reason, message = fault(lambda: everything(reader))
    assert reason == tree.OBJECT_DAMAGED
    assert "a.yaml" in message
