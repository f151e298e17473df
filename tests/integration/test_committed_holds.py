"""Holds at the head of a repository, read without a store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.sources.committed_holds import CommittedHolds
from controllers.sources.readers import make_reader
from schemas.base import Key
from schemas.errors import SourceUnreadable
from schemas.hold import HoldMode
from schemas.source import SourceSpec
from tests.fakes.repos import Repo
from tests.fakes.signing import allowed, needs_ssh, ssh_signer

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
STOP = (
    "apiVersion: remit.dev/v1alpha1\nkind: Hold\nmetadata: {name: stop}\n"
    "spec: {scope: Global, mode: Stop, reason: now}\n"
)


class Bench:
    """A repository, and what is read of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "specs")
        self._made: list[CommittedHolds] = []

    def commit(self, *signed: str, **files: str) -> str:
        for name, text in files.items():
            self.repo.write(f"{name}.yaml", text)
        self.repo.git("add", "-A")
        self.repo.git(*signed, "commit", "-q", "--allow-empty", *(["-S"] if signed else []), "-m", "change")
        return self.repo.head

    def reading(self, **spec: object) -> CommittedHolds:
        typed = SourceSpec.model_validate({"url": str(self.repo.path), **spec})
        made = CommittedHolds(typed, lambda: make_reader(typed, self.folder, self.folder / "mirrors"), now=lambda: NOW)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_holds_of_the_head_are_found_with_their_place_and_nothing_else_is(bench: Bench) -> None:
    bench.commit(a=STOP, b="kind: Holding\n", c="nothing: to do with a Hold\n", d="[" * 50_000)
    read = bench.reading()
    (found,) = read()
    assert (found.key, found.spec.mode, found.place) == (Key("Hold", "default", "stop"), HoldMode.STOP, "a.yaml:1")
    assert found.remedy == "take it out of a.yaml:1"
    assert read() == [found]
    bench.commit(a="# nothing any more\n")
    assert read() == []


def test_a_hold_over_everything_of_another_namespace_does_not_count(bench: Bench) -> None:
    bench.commit(a=STOP.replace("{name: stop}", "{name: stop, namespace: acme}"))
    assert bench.reading()() == []


def test_a_quarantined_commit_and_a_suspended_source_stop_nothing(bench: Bench) -> None:
    head = bench.commit(a=STOP)
    with pytest.raises(SourceUnreadable):
        bench.reading(quarantine=[head])()
    assert bench.reading(suspend=True)() == []


def test_a_repository_that_cannot_be_read_raises(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable):
        bench.reading(url=str(tmp_path / "none"))()


@needs_ssh
def test_where_signatures_are_asked_for_only_a_trusted_commit_counts(bench: Bench, tmp_path: Path) -> None:
    ada, eve = ssh_signer(tmp_path, "ada"), ssh_signer(tmp_path, "eve")
    (tmp_path / "allowed").write_text(allowed(("ada@example.org", ada)))
    verify = {"mode": "Head", "allowedSigners": "allowed"}
    bench.commit(*eve.options, a=STOP)
    with pytest.raises(SourceUnreadable):
        bench.reading(verify=verify)()
    bench.commit(*ada.options)
    (found,) = bench.reading(verify=verify)()
    assert found.placed_by == "user:ada@example.org"
