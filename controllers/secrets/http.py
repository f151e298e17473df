"""Services that hold secrets, and one request to them: no redirect, a deadline over all of it, an answer of bounded
size."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from controllers.secrets.source import LARGEST, SecretMissing, SecretUnavailable
from schemas.secret import ValueFrom


class Service(Protocol):
    """Where secrets lie elsewhere."""

    def fetch(self, reference: ValueFrom) -> str:
        """The value as it is now. Blocks. Raises SecretMissing, SecretUnavailable."""
        ...


STEP_S = 5.0
"""Longest wait for any one thing: the connection, the next bytes."""
WHOLE_S = 10.0
_LARGEST_ANSWER = 4 * LARGEST


def ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    what: str,
    monotonic: Callable[[], float],
    ca_file: Path | None = None,
) -> tuple[int, bytes]:
    """Status and body. ``what`` names the reference in errors. Raises SecretUnavailable when nobody answers in time,
    SecretMissing for an answer that is too large or for a certificate file that cannot be used."""
    import httpx2  # takes long to load, and most engines ask no service

    until = monotonic() + WHOLE_S
    try:
        verify: ssl.SSLContext | bool = True if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SecretMissing(f"cannot look up {what}: caFile {ca_file} cannot be read") from error
    try:
        with (
            # Neither proxies nor credentials of the surroundings: the token goes to the configured address only.
            httpx2.Client(timeout=STEP_S, follow_redirects=False, trust_env=False, verify=verify) as client,
            client.stream(method, url, headers=dict(headers), content=body) as answer,
        ):
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > _LARGEST_ANSWER:
                    raise SecretMissing(f"cannot look up {what}: the answer is larger than {_LARGEST_ANSWER} bytes")
                if monotonic() > until:
                    raise SecretUnavailable(f"cannot look up {what}: no whole answer within {WHOLE_S:g} s")
            return answer.status_code, bytes(data)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # Its text may hold the address and what was sent: the kind of fault is enough.
        raise SecretUnavailable(f"cannot look up {what}: {type(error).__name__}") from None


def as_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that ``data`` is; None when it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def credential(text: str) -> bool:
    """Whether ``text`` may stand in a header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
