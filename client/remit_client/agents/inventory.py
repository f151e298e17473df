"""The ``inventory`` agent: what a repository consists of, from an index that it keeps between its attempts.

Input: ``root`` (directory, default the project), ``exclude`` (patterns), ``stateDir`` (where the index is kept, below
the project; default ``.remit/agents/inventory``, in a project without ``.remit`` and with XDG_CACHE_HOME in there),
``failWhenCold`` (default true), ``timeLimitSeconds``.

The index belongs to one mission. While it is cold the agent builds it and then gives up with a retryable failure and
exit code 75: the next attempt finds it warm, reads again only what changed meanwhile, and hands in. With
``failWhenCold: false`` one attempt does both.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from remit_client.agents import program
from remit_client.agents.file_index import FileIndex, Known
from remit_client.agents.globs import Globs
from remit_client.agents.languages import language
from remit_client.agents.markdown import code, count, document, passed_over, plain, table
from remit_client.agents.tree import Entry, Tree, is_binary, read_bytes, resolve_inside, show, walk
from remit_client.errors import Failure

PLAN = (
    "Load the index of this mission; while it is cold, build it and ask for another attempt; then compare it with the "
    "files, count anew what changed, and write the inventory."
)
MAX_KEPT = 20_000
MAX_COUNTED_BYTES = 32 * 1024 * 1024
_LARGEST = 10
_FOLDERS = 20


@dataclass(frozen=True, slots=True)
class Reading:
    """Files as they are now, by path in order, and how many of them the index knew already."""

    files: dict[str, Known]
    reused: int


def read_files(
    tree: Tree,
    known: Mapping[str, Known],
    *,
    check: Callable[[], None],
    late: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reading:
    """Count the lines of every file that ``known`` does not hold in its present size and time."""
    files: dict[str, Known] = {}
    reused = 0
    for number, entry in enumerate(tree.files):
        check()
        before = known.get(entry.path)
        if before is not None and (before.size, before.mtime_ns) == (entry.size, entry.mtime_ns):
            files[entry.path] = before
            reused += 1
            continue
        if late():
            tree.incomplete = tree.incomplete or "the time limit was reached"
            break
        progress(number, len(tree.files))
        try:
            files[entry.path] = Known(entry.size, entry.mtime_ns, _count_lines(tree.root, entry))
        except OSError:
            tree.notes["unreadable files"] += 1
    return Reading(files, reused)


def _count_lines(root: Path, entry: Entry) -> int | None:
    if entry.size > MAX_COUNTED_BYTES:
        return None
    data = read_bytes(os.path.join(root, entry.path), MAX_COUNTED_BYTES)
    if is_binary(data):
        return None
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def render(tree: Tree, files: Mapping[str, Known]) -> str:
    """The inventory."""
    total_lines = sum(k.lines or 0 for k in files.values())
    total_bytes = sum(k.size for k in files.values())
    lines = ["# Inventory", ""]
    lines += [f"**{count(len(files), 'file')}, {count(total_lines, 'line')} of text, {_bytes(total_bytes)}.**", ""]
    by_language = _sums(files, language)
    lines += table(
        ("Language", "Files", "Lines", "Size"),
        [(plain(name), f"{n:,}", f"{ln:,}", _bytes(size)) for name, n, ln, size in by_language],
        right=(1, 2, 3),
    )
    folders = _sums(files, lambda path: path.partition("/")[0] + "/" if "/" in path else "(top level)")
    lines += ["", "## Folders", ""]
    lines += table(
        ("Folder", "Files", "Lines", "Size"),
        [(code(n, cell=True), f"{f:,}", f"{ln:,}", _bytes(s)) for n, f, ln, s in folders[:_FOLDERS]],
        right=(1, 2, 3),
    )
    if len(folders) > _FOLDERS:
        lines += ["", f"And {count(len(folders) - _FOLDERS, 'more folder', 'more folders')}."]
    largest = sorted(files.items(), key=lambda item: (-item[1].size, os.fsencode(item[0])))[:_LARGEST]
    if largest:
        lines += ["", "## Largest files", ""]
        lines += [f"- {code(path)}: {_bytes(known.size)}" for path, known in largest]
    lines += passed_over(tree.notes.items(), tree.incomplete)
    return document(lines)


def _sums(files: Mapping[str, Known], key: Callable[[str], str]) -> list[tuple[str, int, int, int]]:
    """(name, files, lines, bytes), most lines first."""
    sums: dict[str, tuple[int, int, int]] = {}
    for path, known in files.items():
        number, lines, size = sums.get(name := key(path), (0, 0, 0))
        sums[name] = (number + 1, lines + (known.lines or 0), size + known.size)
    return sorted(((name, *values) for name, values in sums.items()), key=lambda s: (-s[2], -s[1], s[0]))


def _bytes(number: int) -> str:
    if number < 1000:
        return f"{number} B"
    value = float(number)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def state_folder(project: Path, given: str, environ: Mapping[str, str], agent: str = "inventory") -> Path:
    """Where an agent keeps what outlives its attempts. Raises Failure when there is no such place, or it would leave
    the project through a symbolic link."""
    if given:
        if posixpath.isabs(given) or ".." in given.split("/"):
            raise Failure("OutsideProject", f"input.stateDir {show(given)} must be a path below the project")
        return _inside(project, given)
    cache = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(cache) and not os.path.isdir(project / ".remit"):
        return Path(cache) / "remit" / agent
    # Not the home directory: a run's program has one of its own, which the next attempt does not see.
    return _inside(project, f".remit/agents/{agent}")


def _inside(project: Path, path: str) -> Path:
    # The deepest part that exists already is what a symbolic link could have moved elsewhere.
    existing = path
    while existing and not os.path.lexists(project / existing):
        existing = posixpath.dirname(existing)
    return resolve_inside(project, existing or ".", "input.stateDir") / posixpath.relpath(path, existing or ".")


def mission_uid(mission: Mapping[str, Any]) -> str:
    """What tells this mission from others and is the same for all its attempts: its uid; where its JSON has none, its
    name; else a digest of what is asked."""
    metadata = mission.get("metadata")
    for name in ("uid", "missionUid", "name"):
        for holder in (mission, metadata if isinstance(metadata, Mapping) else {}):
            value = holder.get(name)
            if isinstance(value, str) and value:
                return value
    asked = json.dumps([mission.get("title"), mission.get("description"), mission.get("input")], sort_keys=True)
    return "sha256:" + hashlib.sha256(asked.encode("ascii")).hexdigest()


def work(task: program.Work) -> program.Outcome:
    """See the module."""
    root = task.root()
    exclude = list(task.options.texts("exclude", []))
    folder = state_folder(task.project, task.options.text("stateDir", ""), os.environ)
    fail_when_cold = task.options.flag("failWhenCold", True)
    task.options.finish()
    if folder.is_relative_to(root):
        exclude.append(f"{folder.relative_to(root).as_posix()}/")  # the index does not count itself
    index = FileIndex(folder, mission_uid(task.mission), root.relative_to(task.project).as_posix())
    before = index.load()
    cold = before is None
    task.say("the index is cold: building it" if cold else "the index is warm: comparing it with the files", 5)
    tree = walk(root, check=task.check, late=lambda: task.late, exclude=Globs(exclude, "exclude"))
    reading = read_files(
        tree,
        before or {},
        check=task.check,
        late=lambda: task.late,
        progress=lambda done, total: task.tick(lambda: f"counted {done} of {total} files", 90 * done / max(1, total)),
    )
    index.store(reading.files)
    known = count(len(reading.files), "file")
    if cold and fail_when_cold:
        failure = Failure("IndexCold", f"the index was cold; it is built now ({known})", retryable=True)
        return program.Outcome("inventory.md", "", "", failure=failure)
    task.say(f"the index holds {known}, {reading.reused} of them unchanged", 90)
    evidence = {
        "incomplete": tree.incomplete,
        "total": len(reading.files),
        "files": [[show(path), k.size, k.lines] for path, k in islice(reading.files.items(), MAX_KEPT)],
    }
    return program.Outcome(
        "inventory.md",
        render(tree, reading.files),
        f"{known} are listed once each; {reading.reused} stood unchanged in the index, the others were counted anew.",
        (program.Artifact("inventory.json", json.dumps(evidence, sort_keys=True) + "\n"),),
    )


if __name__ == "__main__":
    sys.exit(program.main(PLAN, work))
