"""A signed commit or tag taken apart: what is signed, the signature, and the time that its signer claims.

This is git's own reading of the objects, but for one thing: git leaves every header that is called a signature out of
what is signed, so anybody can make a stranger's twin of a signed commit, under another id. Such a twin is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from schemas.source import SourceReason

ON_TOP: Final = "have an allowed signer sign a commit on top (or the tag anew), or undo it with 'remit revert'"
_HEADERS: Final = ("gpgsig", "gpgsig-sha256")
_TIME = re.compile(rb"(?:committer|tagger) .*> (?P<seconds>[0-9]{1,18}) [+-][0-9]{4}")


class Form(Enum):
    """How a signature begins."""

    SSH = b"-----BEGIN SSH SIGNATURE-----"
    PGP = b"-----BEGIN PGP SIGNATURE-----"
    PGP_MESSAGE = b"-----BEGIN PGP MESSAGE-----"
    X509 = b"-----BEGIN SIGNED MESSAGE-----"


@dataclass(frozen=True, slots=True)
class Signed:
    """What carries a signature: the bytes of a commit or tag object, whose hash was checked. ``where`` names it in
    messages."""

    kind: str
    oid: str
    data: bytes
    where: str


class Refusal(Exception):
    """A signature is no good. The message follows the name of the object; ``advice`` says what would make it good."""

    def __init__(self, reason: SourceReason, message: str, advice: str, *, principal: str = "") -> None:
        self.reason = reason
        self.advice = advice
        self.principal = principal
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Parts:
    """A signed object taken apart. ``time`` is what the signer says, in seconds since 1970; None when unreadable."""

    payload: bytes
    signature: bytes
    time: int | None


def take_apart(signed: Signed) -> Parts:
    """Split off the signature as git does. One that is there twice, or stands for another hash, is refused: git leaves
    all of them out of what is signed, so such a commit is a stranger's twin of a signed one, under another id."""
    if signed.kind == "tag":
        return _take_tag_apart(signed)
    head, separator, body = signed.data.partition(b"\n\n")
    own = _HEADERS[0] if len(signed.oid) == 40 else _HEADERS[1]
    kept: list[bytes] = []
    found: list[tuple[str, list[bytes]]] = []
    inside = False
    for line in head.split(b"\n"):
        word = line.partition(b" ")[0].decode("latin-1")
        if inside and line.startswith(b" "):
            found[-1][1].append(line[1:])
            continue
        inside = word in _HEADERS
        if inside:
            found.append((word, [line.partition(b" ")[2]]))
        else:
            kept.append(line)
    if not found:
        raise _unsigned(signed)
    if len(found) > 1 or found[0][0] != own:
        raise _strange()
    signature = b"\n".join(found[0][1]) + b"\n"
    return Parts(b"\n".join(kept) + separator + body, signature, _time(kept))


def _take_tag_apart(signed: Signed) -> Parts:
    """The signature of a tag stands behind its message, at the last line that begins one."""
    starts = [match.start() for form in Form for match in re.finditer(b"(?m)^" + re.escape(form.value), signed.data)]
    if not starts:
        raise _unsigned(signed)
    payload, signature = signed.data[: max(starts)], signed.data[max(starts) :]
    head = payload.partition(b"\n\n")[0].split(b"\n")
    if any(line.partition(b" ")[0].decode("latin-1") in _HEADERS for line in head):
        raise _strange()
    return Parts(payload, signature, _time(head))


def _time(lines: list[bytes]) -> int | None:
    found = [match for line in lines if (match := _TIME.fullmatch(line)) is not None]
    return int(found[0]["seconds"]) if len(found) == 1 else None


def form_of(signature: bytes) -> Form:
    """How it was made. Raises Refusal for a form that nothing here can check."""
    for form in Form:
        if signature.startswith(form.value):
            if form is Form.X509:
                break
            return form
    raise Refusal(
        SourceReason.SIGNATURE_UNTRUSTED, "is signed neither by SSH nor by GPG", "sign it with one of the two"
    )


def _strange() -> Refusal:
    return Refusal(SourceReason.SIGNATURE_INVALID, "carries signatures that do not belong to it", "make it anew")


def _unsigned(signed: Signed) -> Refusal:
    return Refusal(SourceReason.SIGNATURE_UNSIGNED, "is not signed", ON_TOP)
