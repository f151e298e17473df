"""What the engine hands to a program that it starts: where to report, as which run, with which token, and the work."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from remit_client.errors import NotConfigured

MAX_MISSION_BYTES = 64 * 1024 * 1024
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_HINT = "start this program through an Executor of type Command, or set the variable by hand for a trial"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run as handed over. ``url`` has no trailing slash. ``mission`` is the mission's JSON: title, description,
    input, workPlan, feedback, attempt, dependencies and more; treat it as read-only."""

    url: str
    run: str
    token: str = field(repr=False)
    mission: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_url(self.url)
        if not self.run.strip():
            raise NotConfigured(f"REMIT_RUN is empty: {_HINT}")
        # A token with a line break would forge headers. Its text must not show up in the message.
        if not self.token or not all("!" <= c <= "~" for c in self.token):
            raise NotConfigured("REMIT_TOKEN is empty or has characters that a token cannot have")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], stdin: BinaryIO | None) -> Assignment:
        """Read REMIT_URL, REMIT_RUN, REMIT_TOKEN and the mission from REMIT_MISSION_FILE, else from ``stdin``.

        Raises NotConfigured naming what is missing. ``stdin`` is read to its end, and not at all when it is a
        terminal or the file is named.
        """
        values = {}
        for name in ("REMIT_URL", "REMIT_RUN", "REMIT_TOKEN"):
            value = environ.get(name, "")
            if not value:
                raise NotConfigured(f"{name} is not set: {_HINT}")
            values[name] = value
        mission = _read_mission(environ.get("REMIT_MISSION_FILE", ""), stdin)
        return cls(values["REMIT_URL"].rstrip("/"), values["REMIT_RUN"], values["REMIT_TOKEN"], mission)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") is not None and parts.port != 0
        )
    except ValueError:
        good = False
    if not good:
        raise NotConfigured("REMIT_URL is not an address such as http://127.0.0.1:8421")
    if parts.username is not None or parts.password is not None:
        raise NotConfigured("REMIT_URL must not hold a user name or password; the token goes to REMIT_TOKEN")
    if parts.query or parts.fragment:
        raise NotConfigured("REMIT_URL must not have a query or fragment")


def _read_mission(path: str, stdin: BinaryIO | None) -> dict[str, Any]:
    if path:
        where = "the file of REMIT_MISSION_FILE"
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_MISSION_BYTES + 1)
        except OSError as error:
            raise NotConfigured(f"{where} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise NotConfigured(f"REMIT_MISSION_FILE is not a path: {error}") from error
    else:
        where = "standard input"
        if stdin is None or _is_terminal(stdin):
            raise NotConfigured(f"no mission: REMIT_MISSION_FILE is not set and standard input is a terminal: {_HINT}")
        try:
            data = stdin.read(MAX_MISSION_BYTES + 1)
        except OSError as error:
            raise NotConfigured(f"{where} cannot be read: {error.strerror}") from error
    if len(data) > MAX_MISSION_BYTES:
        raise NotConfigured(f"the mission in {where} is larger than {MAX_MISSION_BYTES // 1024 // 1024} MB")
    try:
        mission = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotConfigured(f"the mission in {where} is not JSON") from error
    if not isinstance(mission, dict):
        raise NotConfigured(f"the mission in {where} is not a JSON object")
    return mission


def _is_terminal(stdin: BinaryIO) -> bool:
    try:
        return os.isatty(stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False
