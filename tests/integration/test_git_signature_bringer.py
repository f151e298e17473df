"""Whose a file is: the signer of the commit that brought it as it is, and nobody else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.sources import git_trust
from controllers.sources.git import GitReader
from controllers.sources.git_signature import Verdict
from schemas.source import SourceReason, Verify
from tests.fakes.repos import Repo
from tests.fakes.signing import Signer, allowed, commit, needs_ssh, sign_with, ssh_signer

NOW = datetime(2026, 11, 21, tzinfo=UTC)
pytestmark = needs_ssh


class Team:
    """Ada and Bob are trusted, Eve is not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "specs")
        keys = folder / "keys"
        keys.mkdir()
        self.ada, self.bob, self.eve = (ssh_signer(keys, name) for name in ("ada", "bob", "eve"))
        (folder / "signers").write_text(allowed(("ada", self.ada), ("bob", self.bob)))

    def put(self, signer: Signer | None, **files: str) -> str:
        """Commit files; ``_`` in a name stands for the dot."""
        return commit(self.repo, {name.replace("_", "."): text for name, text in files.items()}, signer)

    def of(self, path: str, repo: Path | None = None, folder: str = ".") -> Verdict:
        """Whose the file is at the head."""
        verify = Verify(allowed_signers="signers")
        reader = GitReader(
            str(repo or self.repo.path), path=folder, wanted=lambda _: True,
            trusted=git_trust.files(verify, self.folder),
        )  # fmt: skip
        try:
            listed, trust = reader.read_tree(), reader.trust()
            assert trust is not None
            (entry,) = (e for e in listed.entries if e.path == path)
            return reader.bringer(listed, entry, trust, NOW)
        finally:
            reader.close()

    def who(self, path: str) -> str:
        """The principal, or the reason that there is none."""
        found = self.of(path)
        return found.principal if found.problem is None else found.problem.value


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def test_a_file_is_its_bringers_and_not_the_last_committers(team: Team) -> None:
    team.put(team.ada, a_yaml="1")
    team.put(team.bob, b_yaml="1")
    assert (team.who("a.yaml"), team.who("b.yaml")) == ("ada", "bob")


def test_an_edit_makes_it_the_editors(team: Team) -> None:
    team.put(team.ada, a_yaml="1")
    team.put(team.bob, a_yaml="2")
    assert team.who("a.yaml") == "bob"


def test_an_unsigned_commit_below_a_signed_one_proves_nobody(team: Team) -> None:
    team.put(None, a_yaml="1")
    team.put(team.ada, b_yaml="1")
    assert team.who("a.yaml") == "SignatureUnsigned"


def test_a_strangers_commit_below_a_signed_one_proves_nobody(team: Team) -> None:
    commit(team.repo, {"a.yaml": "1"}, team.eve, author="ada <ada>")
    team.put(team.ada, b_yaml="1")
    assert team.who("a.yaml") == "SignatureUntrusted"


def test_what_was_taken_away_and_put_back_is_whose_put_it_back(team: Team) -> None:
    team.put(team.ada, a_yaml="1")
    (team.repo.path / "a.yaml").unlink()
    team.put(team.ada)
    team.put(None, a_yaml="1")
    assert team.who("a.yaml") == "SignatureUnsigned"


def test_what_a_merge_brings_is_its_own_commits(team: Team) -> None:
    team.put(team.ada, base_yaml="1")
    team.repo.git("checkout", "-q", "-b", "topic")
    team.put(team.ada, a_yaml="1")
    team.repo.git("checkout", "-q", "main")
    team.put(team.bob, b_yaml="1")
    team.repo.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
    assert (team.who("a.yaml"), team.who("b.yaml")) == ("ada", "bob")


def test_what_a_merge_makes_up_is_the_merges(team: Team) -> None:
    team.put(team.ada, base_yaml="1")
    team.repo.git("checkout", "-q", "-b", "topic")
    team.put(team.ada, a_yaml="1")
    team.repo.git("checkout", "-q", "main")
    team.put(team.bob, b_yaml="1")
    team.repo.git("merge", "-q", "--no-ff", "--no-commit", "topic")
    team.repo.write("a.yaml", "made up")
    team.repo.git("add", "-A")
    sign_with(team.repo, None)
    team.repo.git("commit", "-q", "-m", "merge")
    assert team.who("a.yaml") == "SignatureUnsigned"


def test_a_moved_file_is_whose_moved_it(team: Team) -> None:
    team.put(team.ada, a_yaml="1")
    team.repo.git("mv", "a.yaml", "c.yaml")
    team.put(team.bob)
    assert team.who("c.yaml") == "bob"


def test_a_symlink_proves_nobody(team: Team) -> None:
    team.put(team.ada, a_yaml="1")
    (team.repo.path / "b.yaml").symlink_to("a.yaml")
    team.put(team.bob)
    assert team.who("b.yaml") == "SignatureUnchecked"


def test_the_path_of_a_source_is_looked_at(team: Team) -> None:
    commit(team.repo, {"a.yaml": "1", "deep/er/a.yaml": "1"}, team.ada)
    commit(team.repo, {"a.yaml": "2"}, None)
    assert team.of("a.yaml", folder="deep/er").principal == "ada"
    assert team.of("er/a.yaml", folder="deep").principal == "ada"


def test_magic_in_a_name_is_a_name(team: Team) -> None:
    commit(team.repo, {":(glob)**.yaml": "1"}, None)
    commit(team.repo, {"a.yaml": "1", "*.yaml": "1"}, team.ada)
    assert team.who(":(glob)**.yaml") == "SignatureUnsigned"
    assert team.who("*.yaml") == "ada"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_shallow_clone_does_not_lend_the_last_signature_to_everything(team: Team, depth: int) -> None:
    """Its oldest commit looks as if it had brought every file."""
    team.put(None, a_yaml="1")
    team.put(team.ada, b_yaml="1")
    team.put(team.ada, c_yaml="1")
    shallow = Repo(team.folder / "shallow", bare=True)
    shallow.git("fetch", "-q", f"--depth={depth}", f"file://{team.repo.path}", "main:main")
    found = team.of("a.yaml", shallow.path)
    assert found.problem is SourceReason.SIGNATURE_UNCHECKED
    assert "shallow" in found.message
    last = team.of("c.yaml", shallow.path)
    assert last.problem is (SourceReason.SIGNATURE_UNCHECKED if depth == 1 else None)


def test_a_commit_graph_that_lies_is_not_believed(team: Team) -> None:
    team.put(team.ada, a_yaml="1")
    team.put(None, a_yaml="2")
    team.put(team.ada, b_yaml="1")
    team.repo.git("commit-graph", "write", "--reachable", "--changed-paths")
    graph = team.repo.git_dir / "objects" / "info" / "commit-graph"
    assert graph.is_file()
    graph.chmod(0o644)
    data = bytearray(graph.read_bytes())
    at = data.index(b"BDAT")
    start = int.from_bytes(data[at + 4 : at + 12], "big")
    data[start + 12 : len(data) - 20] = bytes(len(data) - 20 - start - 12)  # "nobody changed any path"
    graph.write_bytes(bytes(data))
    assert team.who("a.yaml") == "SignatureUnsigned"
