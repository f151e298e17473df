"""What a worker remembers over its death: which requests for a run are out, and which claims it holds. No secrets.

``asks/<key>`` is there before a request leaves: its answer may be lost with the worker, and the same key gets the same
claim again. ``claims/<run uid>.json`` is there before the program of a run is started. Blocks; one worker at a time,
which a lock on the folder sees to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from controllers.dispatch.supervision.records import check_run_id, read_record, replace_record, sync_directory
from schemas.errors import Stalled


@dataclass(frozen=True, slots=True)
class HeldClaim:
    """A claim that this worker holds. ``grace_s`` is the time that its program gets to stop."""

    run: str
    name: str
    fence: int
    lease_s: float
    grace_s: float


class Desk:
    """See the module. ``folder`` is made, private to this user. Raises Stalled when another worker uses it."""

    def __init__(self, folder: Path) -> None:
        self._asks = folder / "asks"
        self._claims = folder / "claims"
        try:
            for path in (folder, self._asks, self._claims):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(
                folder / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
            )
        except OSError as error:
            text = f"the folder of the worker {folder} cannot be used: {error.strerror}. Give another one: --state DIR"
            raise Stalled(text, reason="StateUnusable") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            text = f"another worker uses {folder}. End it, or give this one a name of its own: --name NAME"
            raise Stalled(text, reason="StateInUse") from None

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)

    def asking(self, key: str) -> None:
        """A request with this key is about to leave."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._asks / check_run_id(key), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            sync_directory(self._asks)

    def asked(self, key: str) -> None:
        """What it brought is kept, or it brought nothing."""
        (self._asks / check_run_id(key)).unlink(missing_ok=True)

    def open_asks(self) -> list[str]:
        """Keys of requests whose answer was not taken in."""
        return sorted(path.name for path in self._asks.iterdir())

    def hold(self, claim: HeldClaim) -> None:
        """Remember a claim, durably."""
        replace_record(self._path(claim.run), asdict(claim))

    def drop(self, run: str) -> None:
        """Forget a claim: its run has ended, or is another's."""
        self._path(run).unlink(missing_ok=True)

    def held(self) -> list[HeldClaim]:
        """Every claim that is remembered."""
        found = []
        for path in sorted(self._claims.glob("*.json")):
            wire = read_record(path)
            if wire is not None:
                found.append(HeldClaim(**json.loads(json.dumps(wire))))
        return found

    def _path(self, run: str) -> Path:
        return self._claims / f"{check_run_id(run)}.json"
