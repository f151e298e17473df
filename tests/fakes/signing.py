"""Keys and signatures for tests: real ssh-keygen, gpg and git, and homes that nobody else uses."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.repos import ENVIRONMENT, Repo

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen (openssh-client)")
needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="needs gpg and gpg-agent (gnupg)")


@dataclass(frozen=True)
class Signer:
    """Somebody who can sign: settings of git, and what stands for them in a file of trusted keys. ``public`` is
    ``type key`` for SSH and the exported key for GPG; ``name`` is the fingerprint that messages show."""

    settings: Mapping[str, str]
    public: str
    name: str

    @property
    def options(self) -> list[str]:
        """For one git command."""
        return [word for key, value in self.settings.items() for word in ("-c", f"{key}={value}")]


def ssh_signer(folder: Path, name: str) -> Signer:
    """A new SSH key without passphrase."""
    path = folder / name
    made = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path))
    subprocess.run(made, check=True, capture_output=True)
    public = " ".join((path.with_suffix(".pub")).read_text().split()[:2])
    shown = subprocess.run(("ssh-keygen", "-l", "-f", str(path)), check=True, capture_output=True, text=True)
    return Signer({"gpg.format": "ssh", "user.signingKey": str(path)}, public, shown.stdout.split()[1])


def allowed(*people: tuple[str, Signer] | tuple[str, Signer, str]) -> str:
    """An allowed signers file: (principal, signer) or (principal, signer, options)."""
    lines = []
    for person in people:
        options = "".join(f" {each}" for each in person[2:])
        lines.append(f"{person[0]}{options} {person[1].public}\n")  # type: ignore[attr-defined]
    return "".join(lines)


@dataclass
class GpgHome:
    """A GPG home with secret keys. Its path is short: the agent's socket has room for some 100 characters."""

    folder: Path
    _count: int = field(default=0)

    def gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run gpg there; its stdout."""
        command = ["gpg", "--homedir", str(self.folder), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        done = subprocess.run(
            [*command, *arguments], input=stdin, capture_output=True, check=False, env={**ENVIRONMENT, "HOME": "/tmp"}
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
        return done.stdout

    def signer(self, user: str, *, at: str = "", lives: str = "never") -> Signer:
        """A new key for ``Name <mail>``. ``at`` (20200101T000000) is when it was made and when it signs."""
        past = ("--faked-system-time", at) if at else ()
        known = set(self._fingerprints())
        self.gpg(*past, "--quick-gen-key", user, "ed25519", "sign", lives)
        (made,) = set(self._fingerprints()) - known
        self._count += 1
        program = self.folder / f"sign-{self._count}"
        program.write_text(f'#!/bin/sh\nexec gpg --homedir {self.folder} {" ".join(past)} "$@"\n')
        program.chmod(0o700)
        public = self.gpg("--armor", "--export", made).decode()
        settings = {"gpg.format": "openpgp", "gpg.program": str(program), "user.signingKey": made}
        return Signer(settings, public, made)

    def revoked(self, signer: Signer) -> str:
        """The exported key of a signer, revoked; the key here stays as it is."""
        certificate = (self.folder / "openpgp-revocs.d" / f"{signer.name}.rev").read_text()
        with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as other:
            apart = GpgHome(Path(other))
            apart.gpg("--no-autostart", "--import", stdin=signer.public.encode())
            apart.gpg("--no-autostart", "--import", stdin=certificate.replace("\n:---", "\n---").encode())
            return apart.gpg("--no-autostart", "--armor", "--export", signer.name).decode()

    def _fingerprints(self) -> list[str]:
        rows = [line.split(":") for line in self.gpg("--with-colons", "--list-keys").decode().splitlines()]
        return [row[9] for row in rows if row[0] == "fpr"]


@contextmanager
def gpg_home() -> Iterator[GpgHome]:
    """A GPG home whose agent ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    try:
        yield GpgHome(folder)
    finally:
        subprocess.run(("gpgconf", "--homedir", str(folder), "--kill", "all"), check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def sign_with(repo: Repo, signer: Signer | None) -> None:
    """From now on, commits and tags of ``repo`` are signed like that; None: not at all."""
    for key in ("gpg.format", "gpg.program", "user.signingKey"):
        value = signer.settings.get(key) if signer is not None else None
        if value is not None:
            repo.git("config", key, value)
    repo.git("config", "commit.gpgSign", "true" if signer is not None else "false")


def commit(
    repo: Repo, files: Mapping[str, str], signer: Signer | None, *, message: str = "change", author: str = ""
) -> str:
    """Commit files of the work tree, signed or not; the commit's id. ``author`` is ``Name <mail>``, whoever signs."""
    for name, text in files.items():
        repo.write(name, text)
    repo.git("add", "-A")
    options = signer.options if signer is not None else []
    sign = "-S" if signer is not None else "--no-gpg-sign"
    who = [f"--author={author}"] if author else []
    repo.git(*options, "commit", "-q", "--allow-empty", sign, "-m", message, *who)
    return repo.head


def rewritten(repo: Repo, oid: str, change: Callable[[bytes], bytes]) -> str:
    """Store a commit or tag with its bytes changed, signature and all; its new id."""
    kind = repo.git("cat-file", "-t", oid).strip()
    data = repo.git("cat-file", kind, oid).encode("utf-8", "surrogateescape")
    return repo.git("hash-object", "-t", kind, "-w", "--stdin", "--literally", stdin=change(data)).strip()
