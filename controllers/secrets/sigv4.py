"""AWS Signature Version 4 for a request with a body and no query. Pure.

Source: "AWS Signature Version 4 for API requests" in the IAM User Guide; checked against AWS's own test suite.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs. ``session`` is "" for credentials that do not end."""

    access_key: str
    secret_key: str = field(repr=False)
    session: str = field(default="", repr=False)


def signed(
    method: str,
    host: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    credentials: Credentials,
    region: str,
    service: str,
    now: datetime,
) -> dict[str, str]:
    """All headers of the request, in lower case, with Authorization. ``path`` is in its canonical form already."""
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    day = moment[:8]
    every = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    every |= {"host": host, "x-amz-date": moment}
    if credentials.session:
        every["x-amz-security-token"] = credentials.session
    names = sorted(every)
    listed = ";".join(names)
    lines = [method, path, "", *(f"{name}:{every[name]}" for name in names), "", listed, _hash(body)]
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{_hash(chr(10).join(lines).encode())}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    proof = f"Credential={credentials.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
    return every | {"authorization": f"AWS4-HMAC-SHA256 {proof}"}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
