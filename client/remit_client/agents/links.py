"""The ``links`` agent: every relative link and anchor in the Markdown files of a repository.

Input: ``root`` (directory, default the project), ``paths`` (patterns of the files to check, default every Markdown
file), ``exclude`` (patterns to leave out), ``failOnBroken`` (default true: a broken link fails the mission; else the
report is handed in all the same), ``timeLimitSeconds``. Links to other sites are counted, never followed.
"""

from __future__ import annotations

import difflib
import json
import os
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from remit_client.agents import program
from remit_client.agents.globs import Globs
from remit_client.agents.markdown import code, count, cut, document, passed_over, table
from remit_client.agents.page import Page, read_page
from remit_client.agents.tree import Tree, read_bytes, show, to_text, walk
from remit_client.errors import Failure

PLAN = (
    "Find the Markdown files, collect the anchors that each offers, check every relative link and anchor against the "
    "files, and report what is broken with its file and line."
)
MAX_PAGE_BYTES = 1024 * 1024
MAX_PAGES = 20_000
MAX_SHOWN = 300
MAX_KEPT = 5000
MAX_HINTS = 50
_MAX_CANDIDATES = 500
_MAX_CACHED_ANCHORS = 1_000_000
_SUFFIXES = (".md", ".markdown", ".mdown", ".mkd")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LINES = re.compile(r"L\d+(C\d+)?(-L?\d+(C\d+)?)?")


@dataclass(frozen=True, slots=True, order=True)
class Broken:
    """A link that leads nowhere."""

    file: str
    line: int
    target: str
    reason: str


@dataclass(slots=True)
class Findings:
    """What a check found. ``counts`` has ``links``, ``relative``, ``anchors``, ``external``, ``broken`` and
    ``brokenPages``. ``broken`` holds the first 5,000, by file and line."""

    pages: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)


class Checker:
    """Checks pages of one tree against each other and the files around them."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._root = str(tree.root)
        self._files = {entry.path for entry in tree.files}
        self._by_name: dict[str, list[str]] = {}
        for path in self._files:
            self._by_name.setdefault(posixpath.basename(path).lower(), []).append(path)
        self._anchors: dict[str, set[str]] = {}
        self._cached = 0
        self._hints = 0
        self.findings = Findings()

    def check(self, path: str) -> str:
        """Check one page. Returns why it could not be, or ""."""
        page = self._read(path)
        if isinstance(page, str):
            return page
        self._keep(path, page.anchors)
        found = self.findings
        found.pages += 1
        broken = [
            Broken(path, missing.line, f"[{missing.label[:500]}]", "no such reference is defined on the page")
            for missing in page.undefined
        ]
        for link in page.links:
            found.counts["links"] += 1
            reason = self._judge(path, link.target)
            if reason:
                broken.append(Broken(path, link.line, link.target[:500], reason))
        found.counts["broken"] += len(broken)
        found.counts["brokenPages"] += bool(broken)
        found.broken += sorted(broken)[: MAX_KEPT - len(found.broken)]
        return ""

    def _keep(self, path: str, anchors: set[str]) -> None:
        if path not in self._anchors and self._cached < _MAX_CACHED_ANCHORS:
            self._anchors[path] = anchors
            self._cached += len(anchors) + 1

    def _judge(self, page: str, target: str) -> str:
        """Why the target is broken; "" when it is good or not ours to judge."""
        counts = self.findings.counts
        if "{{" in target or "{%" in target or "${" in target:
            counts["templates"] += 1
            return ""
        scheme = _SCHEME.match(target)
        if target.startswith("//") or scheme is not None:
            if scheme is not None and (scheme.group(1).lower() == "file" or len(scheme.group(1)) == 1):
                return "it names a file on the writer's machine"
            counts["external"] += 1
            return ""
        counts["relative"] += 1
        rest, _, fragment = target.partition("#")
        rest = rest.partition("?")[0]
        path = page
        if rest:
            wanted = unquote(rest, errors="surrogateescape")
            if "\x00" in wanted:
                return "it is not a path"
            folder = "" if wanted.startswith("/") else posixpath.dirname(page)
            path = posixpath.normpath(posixpath.join(folder, wanted.lstrip("/"))) if wanted.strip("/") else "."
            reason = self._judge_path(path, wanted)
            if reason:
                return reason
        if not fragment:
            return ""
        counts["anchors"] += 1
        return self._judge_anchor(page, path, unquote(fragment))

    def _judge_path(self, path: str, wanted: str) -> str:
        if path == ".." or path.startswith("../"):
            return "it leads out of the directory that is checked"
        if path in self._files:
            return "it is a file, but the link ends with a slash" if wanted.endswith("/") else ""
        # What the walk passed over (links, other people's directories) may still be linked to.
        try:
            real = os.path.realpath(os.path.join(self._root, path))
            inside = real == self._root or real.startswith(self._root.rstrip("/") + "/")
            if not inside:
                return "it leads out of the directory that is checked, through a symbolic link"
            if os.path.isdir(real) or (os.path.exists(real) and not wanted.endswith("/")):
                return ""
        except (OSError, ValueError):
            return "it is not a path that this system can name"
        return "there is no such file" + self._elsewhere(path)

    def _elsewhere(self, path: str) -> str:
        others = sorted(self._by_name.get(posixpath.basename(path).lower(), ()))
        return f"; {show(others[0])} exists" if len(others) == 1 else ""

    def _judge_anchor(self, page: str, path: str, fragment: str) -> str:
        if path in self._files and not path.lower().endswith(_SUFFIXES):
            return ""  # lines of source files, ids of HTML pages: nothing that could be told from the file
        if path not in self._files:
            path = posixpath.join(path, "README.md") if path != "." else "README.md"
            if path not in self._files:
                return ""
        anchors = self._anchors_of(path)
        if anchors is None or fragment.lower() == "top" or _LINES.fullmatch(fragment):
            return ""
        if fragment in anchors or fragment.removeprefix("user-content-") in anchors:
            return ""
        where = "the page has" if path == page else f"{show(path)} has"
        reason = f"{where} no heading or anchor #{show(fragment[:100])}"
        if self._hints < MAX_HINTS:
            self._hints += 1
            candidates = sorted(anchor for anchor in anchors if len(anchor) <= 100)[:_MAX_CANDIDATES]
            close = difflib.get_close_matches(fragment[:100].lower(), candidates, n=1)
            if close:
                reason += f"; did you mean #{show(close[0])}?"
        return reason

    def _anchors_of(self, path: str) -> set[str] | None:
        if path in self._anchors:
            return self._anchors[path]
        page = self._read(path)
        if isinstance(page, str):
            return None
        self._keep(path, page.anchors)
        return page.anchors

    def _read(self, path: str) -> Page | str:
        try:
            data = read_bytes(os.path.join(self._root, path), MAX_PAGE_BYTES + 1)
        except OSError as error:
            return f"unreadable ({error.strerror or error})"
        if len(data) > MAX_PAGE_BYTES:
            return f"larger than {MAX_PAGE_BYTES // 1024 // 1024} MB"
        return read_page(to_text(data))


def check_tree(
    root: Path,
    *,
    paths: Globs,
    exclude: Globs,
    check: Callable[[], None],
    late: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Findings, Tree]:
    """Check every Markdown file below ``root`` that ``paths`` matches. The tree's notes say what was passed over."""
    tree = walk(root, check=check, late=late, exclude=exclude)
    pages = [e.path for e in tree.files if e.path.lower().endswith(_SUFFIXES) and paths.matches(e.path)]
    if len(pages) > MAX_PAGES:
        tree.incomplete = tree.incomplete or f"there are more than {MAX_PAGES:,} Markdown files"
        del pages[MAX_PAGES:]
    checker = Checker(tree)
    for number, path in enumerate(pages):
        if late():
            tree.incomplete = tree.incomplete or "the time limit was reached"
            break
        progress(number, len(pages))
        reason = checker.check(path)
        if reason:
            tree.notes[f"Markdown files {reason}"] += 1
    return checker.findings, tree


def render(findings: Findings, tree: Tree) -> str:
    """The report."""
    broken, counts = findings.broken, findings.counts
    if broken:
        first = f"**{count(counts['broken'], 'broken link')} in {count(counts['brokenPages'], 'file')}.**"
    elif findings.pages:
        first = "**No broken link.**"
    else:
        first = "**There is no Markdown file to check.**"
    lines = ["# Link check", "", first, ""]
    lines += table(
        ("Looked at", "Number"),
        [
            ("Markdown files", f"{findings.pages:,}"),
            ("links in all", f"{counts['links']:,}"),
            ("relative links, checked", f"{counts['relative']:,}"),
            ("of these with an anchor", f"{counts['anchors']:,}"),
            ("links to other places, not followed", f"{counts['external']:,}"),
        ],
        right=(1,),
    )
    if broken:
        lines += ["", "## Broken", ""]
        lines += [f"- {code(f'{b.file}:{b.line}')} {code(b.target)}: {cut(b.reason, 300)}" for b in broken[:MAX_SHOWN]]
        if counts["broken"] > MAX_SHOWN:
            lines.append(f"- and {counts['broken'] - MAX_SHOWN:,} more; links.json lists up to {MAX_KEPT:,}")
    lines += passed_over(_notes(tree), tree.incomplete)
    return document(lines)


def _notes(tree: Tree) -> list[tuple[str, int]]:
    return list(tree.notes.items())


def work(task: program.Work) -> program.Outcome:
    """See the module."""
    root = task.root()
    paths = Globs(task.options.texts("paths", ["**"]), "paths")
    exclude = Globs(task.options.texts("exclude", []), "exclude")
    fail_on_broken = task.options.flag("failOnBroken", True)
    task.options.finish()
    findings, tree = check_tree(
        root,
        paths=paths,
        exclude=exclude,
        check=task.check,
        late=lambda: task.late,
        progress=lambda done, total: task.tick(
            lambda: f"checked {done} of {total} Markdown files", 90 * done / max(1, total)
        ),
    )
    broken = findings.broken
    total = findings.counts["broken"]
    task.say(f"checked {count(findings.pages, 'Markdown file')}, {count(total, 'broken link')}", 90)
    evidence = {
        "pages": findings.pages,
        "counts": dict(sorted(findings.counts.items())),
        "incomplete": tree.incomplete,
        "broken": [
            {"file": show(b.file), "line": b.line, "target": show(b.target), "reason": b.reason} for b in broken
        ],
    }
    failure = None
    if fail_on_broken and broken:
        b = broken[0]
        failure = Failure(
            "BrokenLinks",
            f"{count(total, 'broken link')}; the first is {show(b.file)}:{b.line} {show(b.target)}: {b.reason}",
        )
    elif fail_on_broken and tree.incomplete:
        failure = Failure("Incomplete", f"not every file could be checked: {tree.incomplete}")
    return program.Outcome(
        "links.md",
        render(findings, tree),
        f"Every relative link of {count(findings.pages, 'Markdown file')} was looked up on disk, every anchor among "
        "the headings and ids of its page. Links to other sites were not followed.",
        (program.Artifact("links.json", json.dumps(evidence, indent=1, sort_keys=True) + "\n"),),
        failure,
    )


if __name__ == "__main__":
    sys.exit(program.main(PLAN, work))
