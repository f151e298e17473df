"""Change hints: tells that a local source may have changed, a few milliseconds after it did.

A hint says "look again" and nothing more. None may be missed without harm, since every source is polled as well, and
one too many costs a look that finds nothing. Where the system cannot watch (no inotify handles left, the folder is
gone for now), hints come at the pace of the poll instead, until it can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import watchfiles

from controllers.runtime.clock import Clock, wait_for_any
from controllers.sources import git_address, git_repository, ref_notice

_LOG = logging.getLogger(__name__)
_STEP_MS: Final = 10
# Where a move is noticed at once, the watcher is there for the rest.
_LATER_MS: Final = 100
_DEBOUNCE_MS: Final = 200
# How often a quiet watcher checks that its folders are still the ones it was started on.
_LOOK_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class Places:
    """What to watch. ``deep`` folders with all that is below them, but for ``ignored`` paths; ``flat`` folders for the
    files in ``names`` only. ``first`` are the files that matter most, noticed at once where the system can."""

    deep: tuple[Path, ...]
    flat: tuple[Path, ...] = ()
    names: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    first: tuple[Path, ...] = ()


def directory_places(path: Path) -> Places:
    """For a directory source."""
    return Places((path.absolute(),))


def repository_places(path: Path, *, ref: str = "", without: str = "") -> Places:
    """For a local git repository: where its refs live, and which ``ref`` is followed. ``without`` is a branch that is
    no news, as the engine writes it itself. Raises SourceUnreadable when it cannot be opened."""
    layout = git_repository.find_layout(path.absolute())
    reftable = layout.common_dir / "reftable"
    flat = tuple(dict.fromkeys((layout.git_dir, layout.common_dir)))
    deep = reftable if reftable.is_dir() else layout.common_dir / "refs"
    ignored: set[str] = set()
    if without:
        place = f"{deep}/heads"
        for part in without.split("/"):
            place = f"{place}/{part}"
            ignored |= {place, f"{place}.lock"}
    first: tuple[Path, ...] = ()
    if deep == reftable:
        first = (reftable / "tables.list",)
    elif ref and not git_address.is_commit(ref):
        first = tuple(layout.common_dir / name for name in git_address.candidates(git_address.parse_ref(ref)))
    return Places((deep,), flat, frozenset({"HEAD", "packed-refs"}), frozenset(ignored), first)


async def watch(
    places: Places,
    on_hint: Callable[[], None],
    *,
    clock: Clock,
    stop: asyncio.Event,
    poll_s: float = 60.0,
) -> None:
    """Call ``on_hint`` on this event loop after changes, until ``stop`` is set.

    Each time watching starts there is a hint, and another soon after, for what happened while nobody watched.
    ``on_hint`` must not block or raise.
    """
    complained = False
    while not stop.is_set():
        stamp = _identities(places)
        why: object = "it is not there"
        replaced = False
        on_hint()
        if None not in stamp:
            # A cancelled watcher sets the event it was given, so each round has its own.
            over = asyncio.Event()
            try:
                with ref_notice.noticing(places.first, on_hint) as at_once:
                    step_ms = _LATER_MS if at_once else _STEP_MS
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_relay(stop, over))
                        if places.flat:
                            group.create_task(_follow(places, places.flat, False, stamp, on_hint, over, step_ms))
                        group.create_task(_follow(places, places.deep, True, stamp, on_hint, over, step_ms))
            except* _Replaced:
                replaced = True
                complained = False
            except* (OSError, RuntimeError) as errors:
                why = errors.exceptions[0]
        if replaced or stop.is_set():
            continue
        if not complained:
            complained = True
            _LOG.warning("cannot watch %s, polling it instead: %s", places.deep[0], why)
        await wait_for_any(clock, poll_s, stop)


async def _relay(stop: asyncio.Event, over: asyncio.Event) -> None:
    await stop.wait()
    over.set()


class _Replaced(Exception):
    """A watched folder is another one now; the kernel still watches the old one."""


async def _follow(
    places: Places,
    folders: tuple[Path, ...],
    recursive: bool,
    stamp: tuple[tuple[int, int] | None, ...],
    on_hint: Callable[[], None],
    over: asyncio.Event,
    step_ms: int,
) -> None:
    roots = tuple(str(folder) for folder in folders)

    def matters(_: watchfiles.Change, path: str) -> bool:
        if not recursive:
            return Path(path).name in places.names
        root = next((root for root in roots if path.startswith(root)), None)
        if root is None:
            return True
        if path in places.ignored:
            return False
        # ".git" and ".remit" are no source; "..data" is how mounted ConfigMaps change.
        parts = path[len(root) :].split("/")
        return not any(part.startswith(".") and not part.startswith("..") for part in parts)

    first = True
    async for changes in watchfiles.awatch(
        *folders,
        watch_filter=matters,
        debounce=_DEBOUNCE_MS,
        step=step_ms,
        stop_event=over,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
        recursive=recursive,
        ignore_permission_denied=True,
    ):
        if changes or first:  # the first time also for what happened before the watcher was up
            on_hint()
        first = False
        if _identities(places) != stamp:
            raise _Replaced


def _identities(places: Places) -> tuple[tuple[int, int] | None, ...]:
    found: list[tuple[int, int] | None] = []
    for folder in (*places.deep, *places.flat):
        try:
            info = folder.stat()
            found.append((info.st_dev, info.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)
