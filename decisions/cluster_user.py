"""Users of a cluster as subjects of ours."""

from __future__ import annotations

import re

from schemas.base import SUBJECT_PATTERN

_SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")
_FREE = re.compile(r"[A-Za-z0-9._@|/-]")
_ESCAPE = re.compile(r"[0-9A-F]{2}")
_SUBJECT = re.compile(SUBJECT_PATTERN)


def subject_of(username: str) -> str:
    """``user:alice`` for the user alice, ``service:team/deployer`` for a service account; "" where the name cannot be a
    subject: it is empty, too long, or begins with a sign.

    What a subject cannot hold stands as ``+`` and two digits for each byte (``oidc:alice`` is ``user:oidc+3Aalice``),
    and so does a ``+`` that could be mistaken for that: two users are never one subject.
    """
    kind, name = "user", username
    account = _SERVICE_ACCOUNT.fullmatch(username)
    if account is not None:
        kind, name = "service", f"{account[1]}/{account[2]}"
    if len(name) > 300:
        return ""
    found = f"{kind}:{''.join(_written(name, at) for at in range(len(name)))}"
    return found if _SUBJECT.fullmatch(found) else ""


def _written(name: str, at: int) -> str:
    sign = name[at]
    if _FREE.fullmatch(sign) or (sign == "+" and not _ESCAPE.match(name, at + 1)):
        return sign
    return "".join(f"+{byte:02X}" for byte in sign.encode("utf-8", "surrogatepass"))
