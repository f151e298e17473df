"""The ``markers`` agent: what is left unfinished in a repository, and under which licence it stands.

Input: ``root`` (directory, default the project), ``paths`` and ``exclude`` (patterns), ``requireHeader`` (default
false: source files without a licence mark are a finding), ``failOn`` (Never, Fail or Warning, default Never: which
severity fails the mission), ``timeLimitSeconds``. Severities are those of requirement A3: a stub, a placeholder or a
bare marker is Fail, a marker that names an owner or an issue is Warning.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from remit_client.agents import program
from remit_client.agents.globs import Globs
from remit_client.agents.licences import LicenceFile, header, is_licence_file, read_licence
from remit_client.agents.markdown import code, count, document, passed_over, plain, table
from remit_client.agents.marker_scan import SOURCE_SUFFIXES, Severity, scan
from remit_client.agents.tree import Entry, Tree, is_binary, read_bytes, show, to_text, walk
from remit_client.errors import Failure

PLAN = (
    "Read every text file, note markers and stubs with file and line, judge each by whether somebody or something "
    "stands behind it, look for the licence, and report."
)
MAX_FILE_BYTES = 1024 * 1024
MAX_SHOWN = 200
MAX_KEPT = 5000


@dataclass(frozen=True, slots=True)
class Place:
    """A finding with its file. ``line`` 0 is the file as a whole, an empty ``file`` the repository."""

    file: str
    line: int
    word: str
    severity: Severity
    text: str


@dataclass(slots=True)
class Audit:
    """What an audit found. ``places`` holds the first 5,000 by file and line, ``counts`` all by severity and word."""

    files: int = 0
    lines: int = 0
    places: list[Place] = field(default_factory=list)
    counts: Counter[tuple[Severity, str]] = field(default_factory=Counter)
    licences: list[LicenceFile] = field(default_factory=list)
    headers: Counter[str] = field(default_factory=Counter)
    sources: int = 0

    def add(self, place: Place) -> None:
        """Count a finding, and keep it while there is room."""
        self.counts[place.severity, place.word] += 1
        if len(self.places) < MAX_KEPT:
            self.places.append(place)

    def total(self, severity: Severity) -> int:
        """How many findings of a severity there are."""
        return sum(number for (found, _), number in self.counts.items() if found is severity)


def audit_tree(
    root: Path,
    *,
    paths: Globs,
    exclude: Globs,
    require_header: bool,
    check: Callable[[], None],
    late: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Audit, Tree]:
    """Audit every text file below ``root`` that ``paths`` matches. The tree's notes say what was passed over."""
    tree = walk(root, check=check, late=late, exclude=exclude)
    audit = Audit()
    for number, entry in enumerate(tree.files):
        if late():
            tree.incomplete = tree.incomplete or "the time limit was reached"
            break
        progress(number, len(tree.files))
        if is_licence_file(entry.path) or paths.matches(entry.path):
            _audit_file(audit, tree, entry, require_header)
    if not audit.licences and not tree.incomplete:
        audit.add(Place("", 0, "licence", Severity.FAIL, "there is no licence file at the top of the repository"))
    return audit, tree


def _audit_file(audit: Audit, tree: Tree, entry: Entry, require_header: bool) -> None:
    if entry.size > MAX_FILE_BYTES:
        tree.notes[f"files larger than {MAX_FILE_BYTES // 1024 // 1024} MB"] += 1
        return
    try:
        data = read_bytes(os.path.join(tree.root, entry.path), MAX_FILE_BYTES)
    except OSError:
        tree.notes["unreadable files"] += 1
        return
    if is_binary(data):
        tree.notes["binary files"] += 1
        return
    text = to_text(data)
    audit.files += 1
    audit.lines += text.count("\n")
    if is_licence_file(entry.path):
        licence = read_licence(entry.path, text)
        audit.licences.append(licence)
        if licence.empty:
            audit.add(Place(entry.path, 0, "licence", Severity.FAIL, "the licence file is empty"))
        elif not licence.name:
            audit.add(Place(entry.path, 0, "licence", Severity.WARNING, "the licence is none of the well-known ones"))
        return
    for finding in scan(entry.path, text):
        audit.add(Place(entry.path, finding.line, finding.word, finding.severity, finding.excerpt))
    if entry.path.rpartition(".")[2].lower() in SOURCE_SUFFIXES and text.strip():
        audit.sources += 1
        mark = header(text)
        if mark is not None:
            audit.headers[mark] += 1
        elif require_header:
            audit.add(Place(entry.path, 0, "header", Severity.FAIL, "no licence mark in the head of the file"))


def render(audit: Audit, tree: Tree) -> str:
    """The report."""
    fails, warnings = audit.total(Severity.FAIL), audit.total(Severity.WARNING)
    if fails or warnings:
        first = f"**{count(fails, 'finding')} of severity Fail, {warnings:,} of severity Warning.**"
    else:
        first = "**Nothing unfinished was found.**"
    lines = ["# Marker and licence audit", "", first, ""]
    lines.append(f"Looked at {count(audit.files, 'text file')} with {count(audit.lines, 'line')}.")
    if audit.counts:
        lines.append("")
        rows = sorted(audit.counts.items(), key=lambda item: (item[0][0] is not Severity.FAIL, item[0][1]))
        lines += table(("Severity", "What", "Number"), [(str(s), plain(w), f"{n:,}") for (s, w), n in rows], right=(2,))
    for severity in (Severity.FAIL, Severity.WARNING):
        found = [place for place in audit.places if place.severity is severity]
        if found:
            lines += ["", f"## {severity}", ""]
            lines += [_line(place) for place in found[:MAX_SHOWN]]
            more = audit.total(severity) - MAX_SHOWN
            if more > 0:
                lines.append(f"- and {more:,} more; findings.json lists up to {MAX_KEPT:,}")
    lines += ["", "## Licence", ""]
    lines += [f"- {code(file.path)}: {_licence_words(file)}" for file in audit.licences] or ["- no licence file"]
    marked = sum(audit.headers.values())
    lines.append(f"- {marked:,} of {audit.sources:,} source files carry a licence mark")
    for name, number in sorted(audit.headers.items(), key=lambda item: (-item[1], item[0]))[:20]:
        lines.append(f"  - {code(name) if name else 'a copyright line only'}: {number:,}")
    lines += passed_over(tree.notes.items(), tree.incomplete)
    return document(lines)


def _line(place: Place) -> str:
    if not place.file:
        return f"- {place.text}"
    where = f"{place.file}:{place.line}" if place.line else place.file
    text = code(place.text) if place.line else place.text
    return f"- {code(where)} {plain(place.word)}: {text}"


def _licence_words(file: LicenceFile) -> str:
    if file.empty:
        return "empty"
    return file.name or "not recognised"


def work(task: program.Work) -> program.Outcome:
    """See the module."""
    root = task.root()
    paths = Globs(task.options.texts("paths", ["**"]), "paths")
    exclude = Globs(task.options.texts("exclude", []), "exclude")
    require_header = task.options.flag("requireHeader", False)
    fail_on = task.options.choice("failOn", "Never", ("Never", "Fail", "Warning"))
    task.options.finish()
    audit, tree = audit_tree(
        root,
        paths=paths,
        exclude=exclude,
        require_header=require_header,
        check=task.check,
        late=lambda: task.late,
        progress=lambda done, total: task.tick(lambda: f"read {done} of {total} files", 90 * done / max(1, total)),
    )
    fails, warnings = audit.total(Severity.FAIL), audit.total(Severity.WARNING)
    task.say(f"read {count(audit.files, 'text file')}: {fails} Fail, {warnings} Warning", 90)
    evidence = {
        "files": audit.files,
        "fail": fails,
        "warning": warnings,
        "incomplete": tree.incomplete,
        "licences": [{"file": show(file.path), "name": file.name, "empty": file.empty} for file in audit.licences],
        "findings": [
            {"file": show(p.file), "line": p.line, "word": p.word, "severity": str(p.severity), "text": show(p.text)}
            for p in audit.places
        ],
    }
    failure = None
    if fail_on != "Never" and (fails or (fail_on == "Warning" and warnings)):
        failure = Failure("UnfinishedWork", f"{fails} findings of severity Fail, {warnings} of severity Warning")
    elif fail_on != "Never" and tree.incomplete:
        failure = Failure("Incomplete", f"not every file could be read: {tree.incomplete}")
    return program.Outcome(
        "markers.md",
        render(audit, tree),
        f"{count(audit.files, 'text file')} were read line by line; a marker counts in a comment or at the beginning "
        "of a line, a stub where the language has one; what was passed over is listed.",
        (program.Artifact("findings.json", json.dumps(evidence, indent=1, sort_keys=True) + "\n"),),
        failure,
    )


if __name__ == "__main__":
    sys.exit(program.main(PLAN, work))
