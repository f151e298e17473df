"""ExportTenant: everything of a tenant as a file, made by the engine, read back to prove it whole, gone after a time.

The file and what is known of the work lie in ``exports/`` of the state directory, readable by their owner only. A file
appears under its name when it is complete and was verified. A repeat after a crash makes it anew.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from controllers.effects.runner import Commit
from controllers.runtime.blocking import Blocking
from schemas.base import Key
from schemas.errors import Refused, Terminal
from schemas.event import EventType
from schemas.quantities import format_time, parse_time
from store import archive, open_store
from store.contract import Effect, Store, Transaction

EXPORT = "ExportTenant"
FOLDER = "exports"
KEEP = timedelta(hours=24)
LONGEST_KEEP = timedelta(days=30)


def request(tx: Transaction, tenant: str, job: str, keep: timedelta = KEEP) -> bool:
    """Ask for it; False when that job was asked for before."""
    subject = Key("Tenant", "", tenant)
    if not tx.enqueue(EXPORT, f"export/{job}", subject, {"job": job, "keepS": int(keep.total_seconds())}):
        return False
    tx.event(
        EventType.EXPORT_REQUESTED, subject, reason="Requested", message=f"everything of {tenant}", data={"job": job}
    )
    return True


def paths(state: Path, job: str) -> tuple[Path, Path]:
    """(the archive, what is known of the job)."""
    folder = state / FOLDER
    return folder / f"{job}.jsonl.gz", folder / f"{job}.json"


def read_lines(path: Path) -> Iterator[str]:
    """The lines of an archive, compressed or not."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        lines: Iterable[bytes] = gzip.GzipFile(fileobj=file) if packed else file
        for line in lines:
            yield line.decode("utf-8", "surrogatepass")


def write_archive(
    store: Store, tenant: str, path: Path, *, at: datetime, progress: Callable[[str, int], None] = lambda _, __: None
) -> None:
    """Write the archive to ``path``, mode 0600, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed, store.snapshot() as snapshot:
                for line in archive.lines(snapshot, tenant, at=at, progress=progress):
                    packed.write(line.encode("utf-8", "surrogatepass") + b"\n")
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def verified(path: Path, *, now: Callable[[], datetime], new_id: Callable[[], str]) -> archive.Contents:
    """Read the archive back into an empty store of its own, which is thrown away. Raises Refused."""
    with tempfile.TemporaryDirectory(prefix="remit-verify-") as folder:
        empty = open_store(f"sqlite:///{folder}/state.db", now=now, new_id=new_id, create=True)
        try:
            return archive.verify(lambda: read_lines(path), empty, at=now())
        finally:
            empty.close()


class ExportEffects:
    """Handler of ExportTenant, and the end of what expired."""

    def __init__(
        self, store: Store, state: Path, *, now: Callable[[], datetime], new_id: Callable[[], str], blocking: Blocking
    ) -> None:
        self._store = store
        self._state = state
        self._now = now
        self._new_id = new_id
        self._blocking = blocking

    async def export(self, effect: Effect) -> Commit | None:
        """Make the file."""
        return await self._blocking.run(self._export, effect)

    def _export(self, effect: Effect) -> Commit:
        job, tenant = str(effect.payload["job"]), effect.subject.name
        expires = effect.created_at + timedelta(seconds=int(effect.payload["keepS"]))
        path, note = paths(self._state, job)
        known: dict[str, Any] = {"job": job, "tenant": tenant, "expiresAt": format_time(expires), "progress": {}}

        def tell(state: str) -> None:
            note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            note.write_text(json.dumps({**known, "state": state, "at": format_time(self._now())}))

        def progress(what: str, count: int) -> None:
            known["progress"][what] = count
            tell("Running")

        tell("Running")
        write_archive(self._store, tenant, path, at=self._now(), progress=progress)
        tell("Verifying")
        try:
            contents = verified(path, now=self._now, new_id=self._new_id)
        except Refused as error:
            raise Terminal(f"the export {job} could not be read back: {error}") from error
        known["counts"], known["size"] = contents.counts, path.stat().st_size
        known["problems"] = list(contents.problems)
        tell("Done" if not contents.problems else "Incomplete")
        total = sum(contents.counts.values())
        reason = "Verified" if not contents.problems else "Incomplete"
        message = f"{total} lines in {path.name}; {'; '.join(contents.problems) or 'read back whole'}"

        def say(tx: Transaction) -> None:
            data = {"job": job, "counts": contents.counts}
            tx.event(EventType.EXPORT_FINISHED, effect.subject, reason=reason, message=message, data=data)

        return say

    def prune(self) -> int:
        """Remove what expired; returns how many archives went."""
        return prune(self._state, self._now())


def prune(state: Path, now: datetime) -> int:
    """Remove the files of jobs that expired."""
    gone = 0
    for known in jobs(state):
        if parse_time(known["expiresAt"]) <= now:
            for path in paths(state, known["job"]):
                path.unlink(missing_ok=True)
            gone += 1
    return gone


def jobs(state: Path) -> list[dict[str, Any]]:
    """What is known of every job that has not expired, the newest first."""
    found = []
    for note in sorted((state / FOLDER).glob("*.json"), reverse=True):
        with contextlib.suppress(ValueError, OSError):  # just being written
            found.append(json.loads(note.read_text()))
    return found
