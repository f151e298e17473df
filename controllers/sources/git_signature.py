"""Whether a commit or tag is signed by somebody who is trusted, and who that is.

The rule for a commit: ``git verify-commit`` ends with 0, *and* ``%G?`` is ``G``, *and* the principal is allowed. Each
alone lies: with a key that is merely known, GPG lets the first pass and the second says ``U``; what ssh-keygen prints
about a stranger's key begins with "Good". So exit codes, ``%G?`` and status lines are read, and no text for people.
A tag has no ``%G?``; there ``git verify-tag`` and ssh-keygen or gpg's status lines have to agree.

When a key counts is git's own rule. SSH: the validity in the allowed signers file must cover the time that the commit
carries, which its signer chose; a stolen key is therefore taken out of the file, not given an end. GPG: the key must
not have expired by now, whatever it signed before.

The check runs in a throw-away repository that holds the one object, whose bytes were hashed before: no configuration,
replacement or attribute of the governed repository takes part, and what is checked is what is read.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import tempfile
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from controllers.sources import git_environment, git_keyring, git_objects, git_process, git_signed, git_ssh, tree
from controllers.sources.git_signed import ON_TOP, Form, Parts, Refusal, Signed
from controllers.sources.git_trust import Trust
from schemas.errors import SourceUnreadable
from schemas.source import SourceReason

_MAX_VERDICTS: Final = 512
_WILD = re.compile(r"[*?!,\s\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a check. ``problem`` is None when the signature counts; ``message`` says what is wrong, ``advice``
    what makes the object acceptable. ``principal`` is who signed, "" when that is not known; ``person`` says whether
    that is somebody's name rather than a machine or a pattern of names."""

    oid: str
    problem: SourceReason | None
    message: str
    advice: str = ""
    principal: str = ""
    person: bool = False


class Judge:
    """Judges signatures, remembering each verdict by object and trusted keys. Thread-safe."""

    def __init__(self, *, deadline_s: float = git_process.DEFAULT_DEADLINE_S, remember_s: float = 600.0) -> None:
        self._deadline_s = deadline_s
        self._remember_s = remember_s
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], tuple[float, Verdict]] = OrderedDict()

    def judge(self, signed: Signed, trust: Trust, now: datetime) -> Verdict:
        """The verdict on one object. One that is due to a missing program is not remembered, and none for longer than
        ten minutes: a GPG key expires without anybody touching a file."""
        key = (signed.oid, trust.digest)
        moment = now.timestamp()
        with self._lock:
            since, verdict = self._known.get(key, (0.0, None))
        if verdict is not None and 0 <= moment - since < self._remember_s:
            return verdict
        verdict = check(signed, trust, deadline_s=self._deadline_s)
        if verdict.problem is not SourceReason.SIGNATURE_UNCHECKED:
            with self._lock:
                self._known[key] = (moment, verdict)
                self._known.move_to_end(key)
                while len(self._known) > _MAX_VERDICTS:
                    self._known.popitem(last=False)
        return verdict


def check(signed: Signed, trust: Trust, *, deadline_s: float = git_process.DEFAULT_DEADLINE_S) -> Verdict:
    """Check one signature. Raises SourceUnreadable with AllowedSignersRefused when the trusted keys cannot be used."""
    try:
        parts = git_signed.take_apart(signed)
        form = git_signed.form_of(parts.signature)
        with tempfile.TemporaryDirectory(prefix="remit-verify-") as folder:
            if form is Form.SSH:
                return _check_ssh(signed, parts, trust, Path(folder), deadline_s)
            return _check_gpg(signed, trust, Path(folder), deadline_s)
    except Refusal as refusal:
        return Verdict(signed.oid, refusal.reason, f"{signed.where} {refusal}", refusal.advice, refusal.principal)
    except SourceUnreadable as error:
        if error.reason != SourceReason.SIGNATURE_UNCHECKED:
            raise
        return Verdict(signed.oid, SourceReason.SIGNATURE_UNCHECKED, f"{signed.where} could not be checked: {error}")
    except git_process.GitSilent:
        text = f"{signed.where} could not be checked: git gave no answer within {deadline_s:g} s"
        return Verdict(signed.oid, SourceReason.SIGNATURE_UNCHECKED, text)


# SSH.


def _check_ssh(signed: Signed, parts: Parts, trust: Trust, folder: Path, deadline_s: float) -> Verdict:
    key = git_ssh.key_of(parts.signature)
    if key is None:
        raise Refusal(SourceReason.SIGNATURE_INVALID, "carries a damaged SSH signature", "sign it anew")
    if trust.allowed_signers is None:
        raise Refusal(
            SourceReason.SIGNATURE_UNTRUSTED,
            f"is signed with the SSH key {key.fingerprint}, and spec.verify has no allowedSigners",
            "declare the SSH keys that are trusted",
        )
    program = _program("ssh-keygen", "openssh-client")
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        raise Refusal(
            SourceReason.SIGNATURE_UNCHECKED,
            f"could not be checked: ssh-keygen refuses to work for the user id {os.getuid()}, which has no name here",
            "add it to /etc/passwd",
        ) from None
    signers = folder / "allowed_signers"
    signers.write_bytes(trust.allowed_signers)
    options = (
        *("-c", f"gpg.ssh.program={program}", "-c", f"gpg.ssh.allowedSignersFile={signers}"),
        *("-c", "gpg.ssh.revocationFile=/dev/null", "-c", "gpg.program=false", "-c", "gpg.x509.program=false"),
    )
    environment = {**git_environment.local(), "TZ": "UTC"}
    asked = _ask_git(signed, options, environment, folder, deadline_s)
    tool = git_ssh.Keygen(program, signers, parts.signature, parts.payload, parts.time, folder)
    principal = asked.signer if signed.kind == "commit" else tool.principal()
    if asked.status != 0 or asked.letter not in ("G", "") or not principal:
        raise _ssh_refusal(tool, key, trust.allowed_signers)
    if not trust.admits(principal):
        raise _not_admitted(principal, key.fingerprint)
    return _good(signed, trust, principal)


def _ssh_refusal(tool: git_ssh.Keygen, key: git_ssh.Key, signers: bytes) -> Refusal:
    """Why ssh-keygen said no. It was refused already: this only finds the words."""
    if not tool.is_sound():
        return Refusal(
            SourceReason.SIGNATURE_INVALID,
            f"was changed after it was signed with {key.fingerprint}: the signature does not fit",
            "sign it anew",
        )
    line = git_ssh.line_of(key, signers)
    if line is None:
        return Refusal(
            SourceReason.SIGNATURE_UNTRUSTED,
            f"is signed with the SSH key {key.fingerprint}, which is not in spec.verify.allowedSigners",
            ON_TOP,
        )
    if line.limited:
        return Refusal(
            SourceReason.SIGNATURE_EXPIRED,
            f"is signed with a key of {line.principals} that was not valid at the time it carries (line {line.number}"
            " of spec.verify.allowedSigners)",
            ON_TOP,
            principal=line.principals,
        )
    return Refusal(
        SourceReason.SIGNATURE_UNTRUSTED,
        f"is signed with a key of {line.principals} that line {line.number} of spec.verify.allowedSigners does not"
        " allow for git",
        'add namespaces="git" there',
        principal=line.principals,
    )


# GPG.


def _check_gpg(signed: Signed, trust: Trust, folder: Path, deadline_s: float) -> Verdict:
    if trust.keyring is None:
        raise Refusal(
            SourceReason.SIGNATURE_UNTRUSTED,
            "is signed with GPG, and spec.verify has no gpgKeyring",
            "declare the GPG keys that are trusted",
        )
    program = _program("gpg", "gnupg")
    home = folder / "gpg"
    people = git_keyring.make_home(home, trust.keyring, program)
    options = (
        *("-c", f"gpg.program={program}", "-c", f"gpg.openpgp.program={program}", "-c", "gpg.minTrustLevel=fully"),
        *("-c", "gpg.ssh.program=false", "-c", "gpg.x509.program=false"),
    )
    environment = {**git_environment.local(), "GNUPGHOME": str(home)}
    asked = _ask_git(signed, options, environment, folder, deadline_s)
    said = git_keyring.said(asked.raw)
    principal = people.get(said.primary, "")
    if said.verdict != "GOODSIG":
        raise _gpg_refusal(said, principal)
    # The two readings of gpg's answer have to agree on the key, and it has to be one that was declared.
    agreed = signed.kind == "tag" or (asked.letter == "G" and asked.primary == said.primary)
    if asked.status != 0 or not agreed or not said.trusted or not principal:
        raise Refusal(
            SourceReason.SIGNATURE_UNTRUSTED,
            f"is signed with the GPG key {said.primary or said.key}, which is not trusted",
            "put it into spec.verify.gpgKeyring",
        )
    if not trust.admits(principal, said.primary):
        raise _not_admitted(principal, said.primary)
    return _good(signed, trust, principal, said.primary)


def _gpg_refusal(said: git_keyring.Said, principal: str) -> Refusal:
    whose = f"the GPG key {said.key}" + (f" of {principal}" if principal else "")
    if said.verdict in ("EXPKEYSIG", "EXPSIG"):
        return Refusal(
            SourceReason.SIGNATURE_EXPIRED,
            f"is signed with {whose}, which has expired",
            f"put the extended key into spec.verify.gpgKeyring, or {ON_TOP}",
            principal=principal,
        )
    if said.verdict == "REVKEYSIG":
        text = f"is signed with {whose}, which was revoked"
        return Refusal(SourceReason.SIGNATURE_REVOKED, text, ON_TOP, principal=principal)
    if said.verdict == "BADSIG":
        text = f"was changed after it was signed with {whose}: the signature does not fit"
        return Refusal(SourceReason.SIGNATURE_INVALID, text, "sign it anew")
    if said.verdict == "ERRSIG":
        return Refusal(
            SourceReason.SIGNATURE_UNTRUSTED,
            f"is signed with the GPG key {said.key}, which is not in spec.verify.gpgKeyring",
            ON_TOP,
        )
    return Refusal(SourceReason.SIGNATURE_INVALID, "carries a GPG signature that makes no sense to gpg", "sign it anew")


# Both.


@dataclass(frozen=True, slots=True)
class _Asked:
    """What git answered. ``letter``, ``signer`` and ``primary`` are "" for a tag."""

    status: int
    raw: str
    letter: str
    signer: str
    primary: str


def _ask_git(
    signed: Signed, options: tuple[str, ...], environment: dict[str, str], folder: Path, deadline_s: float
) -> _Asked:
    """Ask git in a repository that holds nothing but the object."""
    git_dir = folder / "repository"
    _make_repository(git_dir, signed)
    verb = f"verify-{signed.kind}"
    done = git_process.run(
        (*options, verb, "--raw", signed.oid), git_dir=git_dir, environment=environment, deadline_s=deadline_s
    )
    if signed.kind == "tag":
        return _Asked(done.status, done.stderr, "", "", "")
    shown = ("--no-walk", "--no-patch", "--no-show-signature", "--encoding=UTF-8", "--format=%G?%x00%GS%x00%GP%x00")
    told = git_process.run(
        (*options, "log", "-1", *shown, signed.oid, "--"),
        git_dir=git_dir,
        environment=environment,
        deadline_s=deadline_s,
    )
    fields = told.stdout.decode("utf-8", "replace").split("\0")
    if told.status or len(fields) != 4:
        return _Asked(1, done.stderr, "?", "", "")
    return _Asked(done.status, done.stderr, fields[0] or "?", fields[1], fields[2])


def _make_repository(git_dir: Path, signed: Signed) -> None:
    """A bare repository with one loose object. Written by hand: it is four files, and no process has to start."""
    if git_objects.object_id(signed.kind, signed.data, len(signed.oid)) != signed.oid:
        raise Refusal(SourceReason.SIGNATURE_INVALID, "holds other content than its id promises", "fetch it again")
    sha256 = len(signed.oid) == 64
    version = "1\n\tbare = true\n[extensions]\n\tobjectformat = sha256" if sha256 else "0\n\tbare = true"
    place = git_dir / "objects" / signed.oid[:2]
    place.mkdir(parents=True)
    (git_dir / "refs").mkdir()
    (git_dir / "HEAD").write_text("ref: refs/heads/none\n")
    (git_dir / "config").write_text(f"[core]\n\trepositoryformatversion = {version}\n")
    framed = f"{signed.kind} {len(signed.data)}\0".encode() + signed.data
    (place / signed.oid[2:]).write_bytes(zlib.compress(framed))


def _good(signed: Signed, trust: Trust, principal: str, fingerprint: str = "") -> Verdict:
    machine = principal in trust.forges or fingerprint in trust.forges
    person = not machine and _WILD.search(principal) is None
    return Verdict(signed.oid, None, "", principal=principal, person=person)


def _not_admitted(principal: str, fingerprint: str) -> Refusal:
    shown = tree.printable(principal)
    return Refusal(
        SourceReason.SIGNATURE_UNTRUSTED,
        f"is signed by {shown} ({fingerprint}), who is not in spec.verify.principals",
        ON_TOP,
        principal=shown,
    )


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Refusal(
            SourceReason.SIGNATURE_UNCHECKED,
            f"could not be checked: there is no {name} on this machine",
            f"install it (Debian: {package})",
        )
    return os.path.abspath(found)
