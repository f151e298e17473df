"""Every relative link and anchor of the documents leads somewhere, and every page is reached."""

from __future__ import annotations

import re
from pathlib import Path

from remit_client.agents.globs import Globs
from remit_client.agents.links import check_tree

from tests.fakes.pages import ROOT, pages, written_pages

_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_no_link_and_no_anchor_is_broken() -> None:
    findings, tree = check_tree(
        ROOT, paths=Globs(["*.md", "docs/**"], "paths"), exclude=Globs([], "exclude"), check=lambda: None
    )
    assert not tree.incomplete
    assert findings.pages >= len(pages())
    assert findings.counts["relative"] > 100
    assert [f"{b.file}:{b.line} {b.target}: {b.reason}" for b in findings.broken] == []


def test_every_page_is_reached_from_the_readme() -> None:
    known = {page.path: page for page in pages()}
    reached, ahead = set(), ["README.md"]
    while ahead:
        path = ahead.pop()
        if path in reached or path not in known:
            continue
        reached.add(path)
        for target in _LINK.findall(known[path].text):
            if "://" not in target:
                resolved = (ROOT / Path(path).parent / target).resolve()
                ahead.append(resolved.relative_to(ROOT).as_posix())
    assert sorted(set(known) - reached) == []


def test_pages_name_no_machine_and_no_placeholder() -> None:
    bad = re.compile(r"/(?:root|home|work|farm|tmp|opt)/|index-url|\bTODO\b|\bFIXME\b|\bTBD\b")
    found = [
        f"{page.path}:{number}: {line}"
        for page in written_pages()
        for number, line in enumerate(page.text.splitlines(), 1)
        if bad.search(line)
    ]
    assert found == []


def test_words_that_the_house_style_leaves_out_are_not_there() -> None:
    bad = re.compile(r"\b(simply|just|robust|easily|seamless|powerful|blazing)\b", re.IGNORECASE)
    found = [
        f"{page.path}:{number}: {line}"
        for page in written_pages()
        for number, line in enumerate(page.text.splitlines(), 1)
        if bad.search(line)
    ]
    assert found == []


def test_every_decision_has_its_page_in_the_index_and_the_form() -> None:
    adrs = sorted(page.path for page in pages() if page.path.startswith("docs/adr/"))
    numbers = [Path(path).name[:4] for path in adrs]
    assert len(set(numbers)) == len(numbers), "a number is given once; a decision that never came leaves a gap"
    for path in adrs:
        text = (ROOT / path).read_text()
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings[0] == "Example", path
        assert headings[-1] == "Alternatives", path
        assert text.startswith(f"# {Path(path).name[:4]} "), path
