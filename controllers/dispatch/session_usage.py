"""What a session of a coding agent had used by the end of its latest run: some programs report the whole session each
time, and each run is to pay for its own part only.

One small file for each session, beside the runs, so that it outlives them. It also holds what was known before the
latest run: that one's end may be read again, until the engine has taken it in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageScope, UsageSource

LARGEST = 64 * 1024
"""Bytes of a file that are read: a report names fifty models at most."""


class SessionUsage:
    """The files in ``folder``. All of this blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def before(self, session: str, run: str) -> UsageReport | None:
        """What the session had reported in all before this run; None where nothing is known."""
        known = self._read(session)
        return _report(known.get("before" if known.get("run") == run else "usage"))

    def keep(self, session: str, run: str, report: UsageReport) -> None:
        """The run ended, and its program reported this for the whole session. Repeating it changes nothing. What cannot
        be written is left out: then all of the session counts as new once more, never as nothing."""
        known = self._read(session)
        if known.get("run") == run:
            return
        text = json.dumps({"run": run, "usage": _wire(report), "before": known.get("usage")})
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=self._folder, prefix=".session.")
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(self._path(session))

    def prune(self, before: datetime) -> None:
        """Delete what was last written before that time."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()

    def _path(self, session: str) -> Path:
        """Programs name their sessions as they like: no name becomes a path."""
        return self._folder / f"{hashlib.sha256(session.encode()).hexdigest()[:40]}.json"

    def _read(self, session: str) -> dict[str, Any]:
        try:
            with self._path(session).open("rb") as file:
                found = json.loads(file.read(LARGEST))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _wire(report: UsageReport) -> dict[str, Any]:
    return {
        "usd": None if report.usd is None else str(report.usd),
        "tokens": asdict(report.tokens),
        "models": [
            {"model": m.model, "tokens": asdict(m.tokens), "usd": None if m.usd is None else str(m.usd)}
            for m in report.models
        ],
    }


def _report(wire: object) -> UsageReport | None:
    """Agents run as the same user and may have written what is read here: what has another form is unknown."""
    try:
        if not isinstance(wire, dict):
            return None
        models = tuple(ModelUsage(str(m["model"]), _tokens(m["tokens"]), _usd(m["usd"])) for m in wire["models"])
        return UsageReport(_usd(wire["usd"]), _tokens(wire["tokens"]), UsageSource.UNKNOWN, UsageScope.SESSION, models)
    except (LookupError, TypeError, ValueError, AttributeError, InvalidOperation):
        return None


def _tokens(wire: dict[str, Any]) -> Tokens:
    made = Tokens(**{name: int(value) for name, value in wire.items()})
    if min(asdict(made).values()) < 0:
        raise ValueError("tokens below 0")
    return made


def _usd(text: str | None) -> Decimal | None:
    if text is None:
        return None
    usd = Decimal(text)
    if not usd.is_finite() or usd < 0:
        raise ValueError("no amount")
    return usd
