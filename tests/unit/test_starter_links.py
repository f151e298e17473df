"""The links agent: what it judges broken, and how it fares in a hostile repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from remit_client.agents import links
from remit_client.agents.globs import Globs
from remit_client.agents.links import Findings, check_tree, render
from remit_client.agents.tree import Tree


def check(root: Path, paths: tuple[str, ...] = ("**",), exclude: tuple[str, ...] = ()) -> tuple[Findings, Tree]:
    return check_tree(root, paths=Globs(paths, "paths"), exclude=Globs(exclude, "exclude"), check=lambda: None)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def reason(root: Path, target: str, files: dict[str, str] | None = None) -> str:
    """Why a link to ``target`` on docs/page.md is broken; "" when it is good."""
    write(root, {"docs/other.md": "# Other\n\n## Part one\n", "docs/img.png": "x", "src/a.py": "x", **(files or {})})
    write(root, {"README.md": "# Top\n", "docs/page.md": f"# Page\n\n[x](<{target}>)\n"})
    findings, _ = check(root)
    (link,) = findings.broken or [None]
    assert link is None or (link.file, link.line) == ("docs/page.md", 3)
    return link.reason if link else ""


@pytest.mark.parametrize(
    "target",
    [
        "other.md", "./other.md", "../README.md", "/README.md", "/docs/other.md", "img.png", "../src", "../src/", ".",
        "/", "", "#", "#page", "#top", "other.md#part-one", "other.md#user-content-part-one", "other.md?plain=1#L3",
        "../src/a.py#L10-L12", "other%2Emd", "https://example.org/gone", "//example.org/x", "mailto:a@example.org",
        "tel:1", "../#top", "{{ base }}/x.md", "${BASE}/x.md", "..//README.md",
    ],
)  # fmt: skip
def test_good_links_are_good(tmp_path: Path, target: str) -> None:
    assert reason(tmp_path, target) == ""


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("gone.md", "no such file"),
        ("a.py", "no such file; src/a.py exists"),
        ("other.md#part-two", "docs/other.md has no heading or anchor #part-two; did you mean #part-one?"),
        ("#Page", "the page has no heading or anchor #Page; did you mean #page?"),
        ("../#gone", "README.md has no heading"),
        ("../../x.md", "leads out of the directory"),
        ("/../x.md", "leads out of the directory"),
        ("..", ""),
        ("../..", "leads out"),
        ("other.md/", "ends with a slash"),
        ("other.md/x", "no such file"),
        ("a%00b", "it is not a path"),
        ("x" * 3000, "no such file"),
        ("file:///etc/passwd", "the writer's machine"),
        ("C:\\x.md", "the writer's machine"),
        ("OTHER.md", "no such file; docs/other.md exists"),
    ],
)
def test_broken_links_are_told_with_the_reason(tmp_path: Path, target: str, words: str) -> None:
    assert words in reason(tmp_path, target)


def test_a_link_through_a_symbolic_link_is_good_inside_and_broken_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {"a/real.md": "x"})
    (tmp_path / "secret.md").write_text("x")
    (root / "docs").mkdir()
    (root / "docs/in.md").symlink_to("../a/real.md")
    (root / "docs/out.md").symlink_to("../../secret.md")
    (root / "docs/etc").symlink_to("/etc")
    (root / "docs/loop").symlink_to("loop")
    write(root, {"docs/page.md": "[1](in.md) [2](out.md) [3](etc/hostname) [4](loop) [5](loop/x)\n"})
    findings, _ = check(root)
    assert [b.target for b in findings.broken] == ["etc/hostname", "loop", "loop/x", "out.md"]


def test_links_into_directories_that_are_left_out_are_looked_up(tmp_path: Path) -> None:
    write(tmp_path, {"vendor/x/README.md": "# X\n", "a.md": "[1](vendor/x/README.md) [2](vendor/y)\n"})
    findings, _ = check(tmp_path)
    assert [b.target for b in findings.broken] == ["vendor/y"]
    assert findings.pages == 1


def test_only_the_wanted_pages_are_checked_but_all_can_be_linked_to(tmp_path: Path) -> None:
    write(tmp_path, {"docs/a.md": "[1](../notes/b.md#x)", "notes/b.md": "# x\n[2](gone.md)", "drafts/c.md": "[3](no)"})
    assert [b.target for b in check(tmp_path, ("docs/**",))[0].broken] == []
    assert [b.target for b in check(tmp_path, exclude=("drafts/",))[0].broken] == ["gone.md"]


def test_findings_are_sorted_by_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, {"b.md": "[1](x)\n[0](w)\n[z][zz]\n", "a.md": "[9](y)"})
    assert [(b.file, b.line) for b in check(tmp_path)[0].broken] == [("a.md", 1), ("b.md", 1), ("b.md", 2), ("b.md", 3)]


def test_a_file_name_that_is_not_utf8_is_shown_escaped(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.md", "w") as file:
        file.write("[1](gone)")
    findings, tree = check(tmp_path)
    text = render(findings, tree)
    text.encode()
    assert "`caf\\xe9.md:1`" in text


def test_names_and_targets_cannot_forge_the_report(tmp_path: Path) -> None:
    write(tmp_path, {"a`b\n# X|.md": "[1](<go`ne|\t.md>)"})
    text = render(*check(tmp_path))
    assert "\n# X" not in text
    assert "``a`b\\n# X|.md:1``" in text


def test_many_broken_links_are_counted_in_full_and_listed_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "MAX_SHOWN", 3)
    monkeypatch.setattr(links, "MAX_KEPT", 4)
    write(tmp_path, {f"{n}.md": "[1](x)\n[2](y)\n" for n in range(5)})
    findings, tree = check(tmp_path)
    assert (len(findings.broken), findings.counts["broken"]) == (4, 10)
    assert "and 7 more" in render(findings, tree)


def test_a_page_that_is_too_large_or_not_readable_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_PAGE_BYTES", 10)
    write(tmp_path, {"a.md": "x" * 11, "b.md": "x" * 10})
    findings, tree = check(tmp_path)
    assert findings.pages == 1
    assert any("larger than" in reason for reason in tree.notes)


def test_when_time_is_up_the_report_says_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "[1](x)"})
    findings, tree = check_tree(
        tmp_path, paths=Globs(["**"], "p"), exclude=Globs([], "e"), check=lambda: None, late=lambda: True
    )
    assert "**Not everything was looked at: the time limit was reached.**" in render(findings, tree)


def test_an_empty_repository_has_nothing_to_check(tmp_path: Path) -> None:
    assert "There is no Markdown file to check" in render(*check(tmp_path))
