"""Hostile and damaged repository contents: each is named, changes nothing that is in force, and is over with the next
good commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.base import Key
from schemas.mission import MissionState
from tests.fakes.world import World, agent, executor, mission

POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house}
spec:
  selector: {}
  risk: {read_file: Green}
"""

Contents = dict[str | bytes, str | bytes | None]


@dataclass
class Kept:
    """A world with something in force: a mission at work, a policy. ``specs`` is what nothing hostile may change."""

    world: World
    specs: dict[Key, tuple[int, dict[str, object]]]
    applied: str | None

    def commit(self, files: Contents, *, modes: dict[str | bytes, str] | None = None) -> None:
        """Commit on top, without a work tree that could refuse the names."""
        self.world.repo.commit(files, modes=modes, checkout=False)

    def refused(self, reason: str, *words: str) -> str:
        """Look at the source; it has to say why not, in these words, and nothing may have changed."""
        source = self.world.sync()
        condition = next(c for c in source.conditions if c.type == "Ready")
        assert (condition.status.value, condition.reason) == ("False", reason), condition.message
        said = "\n".join([condition.message, *(e for u in source.units for e in u.errors)])
        for word in words:
            assert word in said
        self.unharmed()
        assert source.units[0].applied_revision == self.applied
        assert len(condition.message) < 4000
        return said

    def unharmed(self) -> None:
        """What was in force still is, and work goes on."""
        assert declared(self.world) == self.specs
        assert self.world.state("kept") is MissionState.IN_PROGRESS

    def heals(self, files: Contents) -> None:
        """The next good commit is applied, in one look."""
        self.commit({**files, "next.yaml": mission("next", agent=None)})
        source = self.world.sync()
        condition = next(c for c in source.conditions if c.type == "Ready")
        assert (condition.status.value, condition.reason) == ("True", "Synced"), condition.message
        assert self.world.find("Mission", "next") is not None
        self.world.finish("kept-1")
        assert self.world.state("kept") is MissionState.DONE


def declared(world: World) -> dict[Key, tuple[int, dict[str, object]]]:
    return {r.key: (r.generation, r.spec) for r in world.everything() if r.unit}


@pytest.fixture
def kept(world: World) -> Kept:
    files = {"fleet.yaml": executor() + "---\n" + agent(), "kept.yaml": mission("kept"), "p.yaml": POLICY}
    world.repo.commit({**files})
    world.sync()
    assert world.started == ["kept-1"]
    return Kept(world, declared(world), world.source.units[0].applied_revision)


def alias_bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        pytest.param(lambda: "[" * 1_000_000, "bomb.yaml:1:", id="a million opening brackets"),
        pytest.param(lambda: "{a: " * 200_000, "bomb.yaml:1:", id="deep mappings"),
        pytest.param(lambda: "- " * 300_000, "bomb.yaml:1:", id="deep sequences"),
        pytest.param(alias_bomb, "bomb.yaml:", id="an alias bomb"),
        pytest.param(lambda: "a: &a [*a]\n", "bomb.yaml:", id="an alias to itself"),
        pytest.param(lambda: mission("x").replace("do x", "do\0x"), "bomb.yaml:", id="NUL"),
        pytest.param(lambda: b"\xff\xfe" + mission("x").encode("utf-16-le"), "bomb.yaml", id="UTF-16"),
        pytest.param(lambda: b"title: \xc3\x28\n", "bomb.yaml:1:", id="not UTF-8"),
        pytest.param(lambda: mission("x")[:-20] + "title: {a: [", "bomb.yaml:", id="truncated"),
        pytest.param(lambda: mission("x") + "---\n" + "%" * 50_000, "bomb.yaml:", id="directives"),
        pytest.param(lambda: "x: !!python/object/apply:os.system [id]\n", "bomb.yaml:1:", id="a Python tag"),
        pytest.param(lambda: "---\n" * 200_000, "bomb.yaml:", id="two hundred thousand documents"),
        pytest.param(lambda: "a: " + "9" * 1_000_000 + "\n", "bomb.yaml:1:", id="a number of a million digits"),
        pytest.param(lambda: "a: 1_" + "0:" * 100_000 + "0\n", "bomb.yaml:1:", id="a sexagesimal number"),
        pytest.param(lambda: "k" * 900_000 + ": 1\n", "bomb.yaml:1:", id="a key of 900 KB"),
    ],
)
def test_a_file_made_to_break_the_parser_fails_its_unit_and_nothing_else(
    kept: Kept, content: Callable[[], str | bytes], word: str
) -> None:
    kept.commit({"bomb.yaml": content(), "kept.yaml": mission("kept", priority=99)})
    kept.refused("InvalidSpec", word)
    kept.heals({"bomb.yaml": None, "kept.yaml": mission("kept")})


def test_ten_megabytes_of_valid_yaml_are_refused_by_their_size(kept: Kept) -> None:
    many = "---\n".join(mission(f"m{n:05d}", agent=None) for n in range(95_000))
    assert len(many) > 10_000_000
    kept.commit({"big.yaml": many})
    kept.refused("InvalidSpec", "big.yaml", "bytes")
    kept.heals({"big.yaml": None})


def test_a_single_line_of_a_hundred_megabytes_is_never_read(kept: Kept) -> None:
    kept.commit({"line.yaml": b"a: " + b"x" * 100_000_000})
    kept.refused("InvalidSpec", "line.yaml", "bytes")
    kept.heals({"line.yaml": None})


# Damage below the files.


def newest_blob(kept: Kept, name: str = "new.yaml") -> str:
    kept.commit({name: mission("new", agent=None)})
    kept.world.repo.loosen()
    return kept.world.repo.blob(name)


def test_a_corrupt_object_is_named_and_not_taken_for_less(kept: Kept) -> None:
    kept.world.repo.flip_bit(newest_blob(kept))
    kept.refused("ObjectDamaged", "new.yaml")
    kept.heals({"new.yaml": None})


def test_a_truncated_object_is_named_and_not_taken_for_less(kept: Kept) -> None:
    kept.world.repo.truncate(newest_blob(kept), 0.5)
    kept.refused("ObjectDamaged", "new.yaml")
    kept.heals({"new.yaml": None})


def test_a_missing_object_is_named_and_deletes_nothing(kept: Kept) -> None:
    kept.world.repo.remove_object(newest_blob(kept))
    kept.refused("ObjectMissing", "new.yaml")
    kept.heals({"new.yaml": None})


def test_wrong_bytes_under_a_good_name_are_found(kept: Kept) -> None:
    blob = newest_blob(kept, "p.yaml")
    kept.world.repo.forge(blob, b"# no rules at all\n")
    kept.refused("ObjectDamaged", "p.yaml")
    kept.heals({"p.yaml": POLICY})


def test_a_missing_folder_of_the_tree_is_no_empty_folder(kept: Kept) -> None:
    good = kept.world.repo.head
    kept.commit({"sub/new.yaml": mission("new", agent=None)})
    kept.world.repo.loosen()
    kept.world.repo.remove_object(kept.world.repo.blob("sub"))
    kept.refused("ObjectMissing", "sub")
    kept.world.repo.git("update-ref", "refs/heads/main", good)
    kept.heals({})


def test_a_missing_commit_leaves_everything_in_force(kept: Kept) -> None:
    good = kept.world.repo.head
    kept.commit({"new.yaml": mission("new", agent=None)})
    kept.world.repo.loosen()
    bad = kept.world.repo.head
    kept.world.repo.remove_object(bad)
    said = kept.refused("ObjectMissing", bad[:10])
    assert "main" in said
    (kept.world.repo.git_dir / "refs/heads/main").write_text(f"{good}\n")
    kept.heals({})


# The ref.


def test_an_empty_ref_file_is_named(kept: Kept) -> None:
    ref = kept.world.repo.git_dir / "refs/heads/main"
    good = ref.read_text()
    ref.write_text("")
    kept.refused("RefDamaged", "refs/heads/main")
    ref.write_text(good)
    kept.heals({})


def test_a_ref_of_nonsense_is_named(kept: Kept) -> None:
    ref = kept.world.repo.git_dir / "refs/heads/main"
    good = ref.read_text()
    ref.write_text("../../../../etc/passwd\n")
    kept.refused("RefDamaged", "refs/heads/main")
    ref.write_text(good)
    kept.heals({})


def test_a_stale_lock_beside_the_ref_keeps_nobody_from_reading(kept: Kept) -> None:
    git = kept.world.repo.git_dir
    locks = [git / "refs/heads/main.lock", git / "index.lock", git / "HEAD.lock", git / "packed-refs.lock"]
    for lock in locks:
        lock.touch()
    source = kept.world.sync()
    assert source.units[0].reason == "Synced"
    kept.unharmed()
    for lock in locks:
        lock.unlink()
    kept.heals({})


def test_a_repository_that_is_gone_for_a_while_is_not_an_empty_one(kept: Kept) -> None:
    git = kept.world.repo.git_dir
    git.rename(git.with_name("away"))
    kept.refused("RepositoryUnreachable", "specs")
    git.with_name("away").rename(git)
    kept.heals({})


def test_a_repository_that_was_made_anew_is_refused_until_somebody_looks(kept: Kept) -> None:
    kept.world.repo.commit({"only.yaml": mission("only", agent=None)}, orphan=True, checkout=False)
    kept.refused("HistoryRewritten", "main")
    assert kept.world.find("Mission", "only") is None


# Names.


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../../../../../../etc/passwd", "../outside.yaml", "link.yaml", "missing.yaml", ".git/config"],
)
def test_a_symlink_that_leads_elsewhere_is_refused_by_name(kept: Kept, target: str) -> None:
    (Path(kept.world.folder) / "outside.yaml").write_text(mission("outside", agent=None))
    kept.commit({"link.yaml": target}, modes={"link.yaml": "120000"})
    kept.refused("InvalidSpec", "link.yaml")
    assert kept.world.find("Mission", "outside") is None
    kept.heals({"link.yaml": None})


def test_names_that_differ_in_case_only_are_refused_both(kept: Kept) -> None:
    kept.commit({"Agent.yaml": agent("one"), "agent.yaml": agent("two")})
    kept.refused("InvalidSpec", "Agent.yaml", "agent.yaml")
    kept.heals({"Agent.yaml": None, "agent.yaml": None})


def test_names_that_look_alike_in_unicode_are_refused_both(kept: Kept) -> None:
    kept.commit({"\u00e9.yaml": agent("one"), "e\u0301.yaml": agent("two")})
    kept.refused("InvalidSpec", "\u00e9.yaml")
    kept.heals({"\u00e9.yaml": None, "e\u0301.yaml": None})


@pytest.mark.parametrize("name", [b"\xff\xfe.yaml", b"a\nb.yaml", b"\x1b[31mred.yaml", b"d\xffr/a.yaml"])
def test_a_name_that_cannot_be_shown_is_refused_and_shown_escaped(kept: Kept, name: bytes) -> None:
    kept.commit({name: agent("one")})
    said = kept.refused("InvalidSpec", ".yaml")
    assert all(c.isprintable() or c == "\n" for c in said)
    kept.heals({name: None})


def test_a_path_of_a_thousand_folders_is_refused(kept: Kept) -> None:
    name = "d/" * 400 + "a.yaml"
    kept.commit({name: agent("one")})
    kept.refused("InvalidSpec", "d/d/d")
    kept.heals({name: None})


@pytest.mark.parametrize("name", [b"..", b".git", b"a/b", b"."])
def test_a_tree_with_a_name_that_no_git_would_write_is_refused(kept: Kept, name: bytes) -> None:
    repo = kept.world.repo
    good = repo.head
    repo.loosen()
    blob = repo.store("blob", agent("evil").encode())
    tree = repo.store("tree", b"100644 evil.yaml\0" + bytes.fromhex(blob))
    parent = f"parent {good}\n"
    rows = repo.git("ls-tree", good).splitlines()
    listed = [(r.split()[0], r.split("\t")[1].encode(), r.split()[2]) for r in rows]
    raw = b"".join(
        b"%s %s\0%s" % (m.lstrip("0").encode(), n, bytes.fromhex(i)) for m, n, i in [*listed, ("40000", name, tree)]
    )
    person = "Ada <ada@example.org> 1700000000 +0000"
    commit = repo.store(
        "commit",
        f"tree {repo.store('tree', raw)}\n{parent}author {person}\ncommitter {person}\n\nodd\n".encode(),
    )
    repo.git("update-ref", "refs/heads/main", commit)
    source = kept.world.sync()
    kept.unharmed()
    assert kept.world.find("Agent", "evil") is None
    assert source.conditions[0].reason in ("InvalidSpec", "ObjectDamaged", "Synced")
    repo.git("update-ref", "refs/heads/main", good)
    kept.heals({})


# Content that is well-formed and still an attack.


def test_a_unit_that_fails_leaves_the_other_units_be(kept: Kept) -> None:
    tenant = "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: t1}\nspec: {}\n"
    theirs = mission("theirs", agent=None).replace("name: theirs", "name: theirs, namespace: t1")
    kept.commit({"t1/tenant.yaml": tenant, "t1/m.yaml": theirs, "bomb.yaml": "[" * 1_000_000})
    source = kept.world.sync()
    assert {u.path: u.reason.value for u in source.units} == {".": "InvalidSpec", "t1": "Synced"}
    assert kept.world.find("Mission", "theirs", "t1") is not None
    assert kept.world.state("kept") is MissionState.IN_PROGRESS


def test_ten_thousand_errors_are_told_in_a_bounded_message(kept: Kept) -> None:
    kept.commit({"wrong.yaml": "---\n".join(f"kind: Nonsense{n}\n" for n in range(10_000))})
    said = kept.refused("InvalidSpec", "wrong.yaml:1:")
    assert len(said) < 100_000
    kept.heals({"wrong.yaml": None})
