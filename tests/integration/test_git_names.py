"""Names and links that a hostile or careless commit may hold: each is a problem that names the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from controllers.sources import tree
from controllers.sources.git import GitReader
from tests.fakes.repos import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "r", bare=True)


@pytest.fixture
def reader(repo: Repo) -> Iterator[GitReader]:
    made = GitReader(str(repo.path))
    yield made
    made.close()


def listed(reader: GitReader) -> tuple[list[str], dict[str, str]]:
    found = reader.read_tree()
    return [e.path for e in found.entries], {d.path: d.message for d in found.problems}


def links(repo: Repo, targets: Mapping[str, str | bytes], files: Mapping[str, str] | None = None) -> None:
    repo.commit({**(files or {}), **targets}, modes=dict.fromkeys(targets, "120000"))


def test_a_name_that_is_not_utf8_is_a_problem(repo: Repo, reader: GitReader) -> None:
    repo.commit({b"caf\xe9.yaml": "x", b"d\xff/a.yaml": "x", b"d\xff/ok.md": "x", "good.yaml": "x", b"caf\xe9.md": "x"})
    paths, problems = listed(reader)
    assert paths == ["good.yaml"]
    assert problems == {"caf\\xe9.yaml": "the name is not UTF-8", "d\\xff/a.yaml": "the name is not UTF-8"}


def test_names_with_control_characters_are_problems_and_are_shown_escaped(repo: Repo, reader: GitReader) -> None:
    repo.commit({"a\nb.yaml": "x", "c\x1b[2J.yaml": "x", "tab\t/d.yaml": "x", "good.yaml": "x"})
    paths, problems = listed(reader)
    assert paths == ["good.yaml"]
    assert set(problems) == {"a\\nb.yaml", "c\\x1b[2J.yaml", "tab\\t/d.yaml"}


def test_names_that_fall_together_on_some_systems_are_problems(repo: Repo, reader: GitReader) -> None:
    files = [
        "a.yaml",
        "A.yaml",
        "d/x.yaml",
        "D/y.yaml",
        "docs/a.md",
        "DOCS/b.md",
        "e/stra\u00dfe.yaml",
        "e/STRASSE.yaml",
    ]
    files += ["n/caf\u00e9.yaml", "n/cafe\u0301.yaml"]
    repo.commit(dict.fromkeys(files, "x"))
    paths, problems = listed(reader)
    assert len(paths) == 8
    assert set(problems) == {"a.yaml", "d", "e/stra\u00dfe.yaml", "n/caf\u00e9.yaml"}
    assert all("only in case or Unicode form" in message for message in problems.values())


def test_collisions_across_a_taken_over_folder_are_found_too(repo: Repo, reader: GitReader) -> None:
    repo.commit({"d/x.yaml": "x"})
    assert listed(reader) == (["d/x.yaml"], {})
    repo.commit({"D/y.yaml": "x"})
    assert set(listed(reader)[1]) == {"d"}


def test_a_submodule_is_a_problem(repo: Repo, reader: GitReader) -> None:
    repo.commit({"a.yaml": "x", "vendor/lib": "1" * 40}, modes={"vendor/lib": "160000"})
    paths, problems = listed(reader)
    assert paths == ["a.yaml"]
    assert problems == {"vendor/lib": "a submodule is not read"}


def test_a_blob_that_is_too_large_is_a_problem_and_is_not_read(repo: Repo, reader: GitReader) -> None:
    limit = tree.DEFAULT_LIMITS.max_blob_bytes
    repo.commit({"huge.yaml": b"x" * (limit + 1), "most.yaml": b"x" * limit, "a.yaml": "x"})
    found = reader.read_tree()
    assert [e.path for e in found.entries] == ["a.yaml", "most.yaml"]
    assert [(d.path, d.hint) for d in found.problems] == [("huge.yaml", "split it")]
    assert sum(len(data) for _, data in reader.read_blobs(found.entries)) == limit + 1


def test_paths_that_are_too_long_or_too_deep_are_problems(repo: Repo, reader: GitReader) -> None:
    long = "/".join(["n" * 200] * 6) + ".yaml"
    deep = "/".join(["d"] * 80) + "/a.yaml"
    repo.commit({long: "x", deep: "x", "a.yaml": "x"})
    paths, problems = listed(reader)
    assert paths == ["a.yaml"]
    assert len(problems) == 2
    assert any("nested too deep" in message for message in problems.values())


def test_a_symlink_inside_the_path_is_listed_with_its_targets_content(repo: Repo, reader: GitReader) -> None:
    links(
        repo,
        {
            "l.yaml": "real/a.yaml",
            "sub/up.yaml": "../real/a.yaml",
            "two.yaml": "l.yaml",
            "via.yaml": "way/a.yaml",
            "way": "real",
        },
        {"real/a.yaml": "content"},
    )
    found = reader.read_tree()
    assert found.problems == ()
    assert [e.path for e in found.entries] == ["l.yaml", "real/a.yaml", "sub/up.yaml", "two.yaml", "via.yaml"]
    assert {data for _, data in reader.read_blobs(found.entries)} == {b"content"}
    assert {e.mode for e in found.entries} == {"100644"}


def test_the_way_a_configmap_is_mounted_is_read(repo: Repo, reader: GitReader) -> None:
    links(repo, {"a.yaml": "..data/a.yaml", "..data": "..2026_11_21"}, {"..2026_11_21/a.yaml": "mounted"})
    found = reader.read_tree()
    assert [data for _, data in reader.read_blobs(found.entries)] == [b"mounted"]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", "absolute"),
        ("../outside.yaml", "leaves the source path"),
        ("real/../../outside.yaml", "leaves the source path"),
        ("../../../../../../etc/passwd", "leaves the source path"),
        ("nothing.yaml", "points at nothing"),
        ("real/a.yaml/x", "not a folder"),
        ("real", "a folder, not at a file"),
        ("evil.yaml", "more than 8 symlinks"),
        (".", "a folder, not at a file"),
        ("", "not a path"),
        ("a\nb", "not a path"),
        (b"\xff", "not a path"),
        ("x" * 5000, "not a path"),
    ],
)
def test_a_symlink_that_leads_elsewhere_is_a_problem_and_not_followed(
    repo: Repo, target: str | bytes, message: str
) -> None:
    files = {"specs/real/a.yaml": "content", "outside.yaml": "secret"}
    links(repo, {"specs/evil.yaml": target}, files)
    reader = GitReader(str(repo.path), path="specs")
    paths, problems = listed(reader)
    reader.close()
    assert paths == ["real/a.yaml"]
    assert set(problems) == {"evil.yaml"}
    assert message in problems["evil.yaml"]


def test_a_folder_that_became_a_link_to_elsewhere_is_a_problem_not_an_absence(repo: Repo) -> None:
    links(
        repo,
        {"specs/team": "../elsewhere", "specs/here": "real", "specs/hidden": ".h"},
        {"elsewhere/a.yaml": "x", "specs/real/b.yaml": "x", "specs/.h/c.yaml": "x"},
    )
    reader = GitReader(str(repo.path), path="specs")
    paths, problems = listed(reader)
    reader.close()
    assert paths == ["real/b.yaml"]
    assert set(problems) == {"team", "hidden"}


def test_a_link_through_many_hops_ends(repo: Repo, reader: GitReader) -> None:
    links(repo, {f"l{n}.yaml": f"l{n + 1}.yaml" for n in range(12)}, {"l12.yaml": "x"})
    paths, problems = listed(reader)
    assert paths == [f"l{n}.yaml" for n in (10, 11, 12, 4, 5, 6, 7, 8, 9)]
    assert set(problems) == {"l0.yaml", "l1.yaml", "l2.yaml", "l3.yaml"}


def test_rows_that_git_would_never_write_are_problems_or_hidden(repo: Repo, reader: GitReader) -> None:
    blob = repo.store("blob", b"x: 1\n")
    folder = repo.store("tree", b"100644 a.yaml\0" + bytes.fromhex(blob))
    repo.commit_tree(
        [
            *(("100644", b"..", blob), ("40000", b".", folder), ("40000", b".git", folder)),
            *(("100600", b"odd.yaml", blob), ("040000", b"padded", folder)),
            *(("100755", b"run.yaml", blob), ("100664", b"shared.yaml", blob)),
        ]
    )
    found = reader.read_tree()
    assert [(e.path, e.mode) for e in found.entries] == [
        ("padded/a.yaml", "100644"),
        ("run.yaml", "100755"),
        ("shared.yaml", "100644"),
    ]
    assert [d.path for d in found.problems] == ["odd.yaml"]
