"""A GPG home of our own that holds exactly the declared keys, and what gpg says about a signature in its status lines.

The user's keyring never counts: a key that somebody once imported would be good enough there. Every key of the
declared file is trusted and nothing can add one, since no agent, key server or configuration of the user is reached.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controllers.sources import git_environment
from schemas.errors import SourceUnreadable
from schemas.source import SourceReason

_DEADLINE_S: Final = 30.0
_SETTINGS: Final = "no-autostart\nbatch\nno-tty\nno-auto-key-retrieve\ndisable-dirmngr\nno-greeting\n"
_MAIL = re.compile(r"(?:.*<)?(?P<mail>[^\s<>@\\,*?!]+@[^\s<>@\\,*?!]+?)>?")
_STATUS: Final = "[GNUPG:] "
_VERDICTS: Final = ("GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG")


@dataclass(frozen=True, slots=True)
class Said:
    """What the status lines of one check say. ``verdict`` is one of gpg's words, "" when it did not come to one, or to
    more than one. ``primary`` is the fingerprint of the signer's primary key, "" unless the signature is sound;
    ``key`` is the id of the key that the signature names. ``trusted`` tells whether gpg holds that key to be its
    owner's; git lets one pass of which gpg says nothing."""

    verdict: str
    primary: str
    key: str
    trusted: bool


def make_home(home: Path, keyring: bytes, program: str) -> dict[str, str]:
    """Fill the empty folder ``home`` for GNUPGHOME; the principal of each key by its primary fingerprint.

    Raises SourceUnreadable with AllowedSignersRefused when there is no key in the file, SignatureUnchecked when gpg
    does not work.
    """
    home.mkdir(mode=0o700)
    (home / "gpg.conf").write_text(_SETTINGS)
    _gpg(program, home, ("--import",), keyring)
    listed = _gpg(program, home, ("--with-colons", "--list-keys"))
    people = _people(listed.decode("utf-8", "replace"))
    if not people:
        raise SourceUnreadable(
            "spec.verify.gpgKeyring holds no GPG public key; fill it with: gpg --armor --export KEY",
            reason=SourceReason.ALLOWED_SIGNERS_REFUSED,
        )
    _gpg(program, home, ("--import-ownertrust",), "".join(f"{key}:6:\n" for key in people).encode())
    return people


def said(raw: str) -> Said:
    """Read the status lines that ``git verify-commit --raw`` hands on. Everything else in ``raw`` is for people."""
    rows = [line.removeprefix(_STATUS).split() for line in raw.splitlines() if line.startswith(_STATUS)]
    verdicts = [row for row in rows if row and row[0] in _VERDICTS]
    sound = [row for row in rows if row and row[0] == "VALIDSIG"]
    # Two signatures in one block could let a good one vouch for another's name.
    if len(verdicts) != 1 or len(sound) > 1 or sum(row[:1] == ["NEWSIG"] for row in rows) > 1:
        return Said("", "", "", trusted=False)
    primary = sound[0][-1] if sound and len(sound[0]) >= 11 else ""
    key = verdicts[0][-1] if verdicts[0][0] == "ERRSIG" and len(verdicts[0]) >= 8 else "".join(verdicts[0][1:2])
    trust = [row[0] for row in rows if row and row[0].startswith("TRUST_")]
    return Said(verdicts[0][0], primary, key, trusted=trust in (["TRUST_FULLY"], ["TRUST_ULTIMATE"]))


def _people(colons: str) -> dict[str, str]:
    """The principal of each listed key: the mail address of its first user id that stands, else its fingerprint."""
    people: dict[str, str] = {}
    primary = ""
    expected = False
    for line in colons.splitlines():
        row = line.split(":")
        if row[0] == "pub":
            primary, expected = "", True
        elif row[0] == "fpr" and expected and len(row) > 9:
            primary, expected = row[9], False
            people[primary] = primary
        elif row[0] == "uid" and len(row) > 9 and row[1] != "r" and people.get(primary) == primary != "":
            mail = _MAIL.fullmatch(row[9])
            people[primary] = mail["mail"] if mail is not None else primary
            primary = ""  # its first user id decides
    return people


def _gpg(program: str, home: Path, command: Sequence[str], stdin: bytes = b"") -> bytes:
    environment = {
        "PATH": git_environment.local()["PATH"],
        "HOME": "/dev/null",
        "LC_ALL": "C",
        "GNUPGHOME": str(home),
    }
    try:
        done = subprocess.run(
            [program, "--batch", "--no-tty", *command],
            cwd="/",
            env=environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=_DEADLINE_S,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceUnreadable(
            f"gpg does not work here ({error}); is the package gnupg installed whole?",
            reason=SourceReason.SIGNATURE_UNCHECKED,
        ) from error
    # An import that met nothing, or met secret keys too, ends with a status of its own: what counts is the listing.
    return done.stdout
