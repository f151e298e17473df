"""What `remit doctor` looks at on a machine: programs, files that hold secrets, ports."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.config import Config
    from schemas.source import Verify

MIN_PYTHON = (3, 11)
MIN_GIT = (2, 30)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``advice`` says what to do where it is not ``ok``."""

    ok: bool
    what: str
    advice: str = ""


def python(version: tuple[int, int, int] = sys.version_info[:3]) -> Finding:
    """The interpreter that runs this."""
    text = ".".join(str(part) for part in version)
    return Finding(version >= MIN_PYTHON, f"Python {text}", "install Python 3.11 or newer, and Remit with it")


def git() -> Finding:
    """The git program."""
    path = shutil.which("git")
    if path is None:
        return Finding(False, "git", "install it (Debian: apt-get install git)")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(False, f"git at {path}", f"it does not answer ({type(error).__name__}): install it anew")
    text = done.stdout.strip() or f"git at {path}"
    digits = [int(part) for part in text.rpartition("version ")[2].split()[0].split(".")[:2] if part.isdigit()]
    ok = done.returncode == 0 and tuple(digits) >= MIN_GIT
    return Finding(ok, text, f"install git {MIN_GIT[0]}.{MIN_GIT[1]} or newer")


def signatures(verify: Verify | None, root: Path) -> list[Finding]:
    """The programs and files that the source's ``verify`` needs; nothing without one."""
    if verify is None:
        return []
    found = []
    for name, program, package, wanted in (
        ("allowedSigners", "ssh-keygen", "openssh-client", verify.allowed_signers),
        ("gpgKeyring", "gpg", "gnupg", verify.gpg_keyring),
    ):
        if wanted is None:
            continue
        there = shutil.which(program) is not None
        found.append(Finding(there, f"{program} (verify)", f"install it (Debian: apt-get install {package})"))
        found.append(_trusted(name, root / wanted))
    return found


def _trusted(name: str, path: Path) -> Finding:
    what = f"verify.{name} {path}"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return Finding(False, what, f"{(error.strerror or '').lower()}: write the keys that are trusted there")
    if not stat.S_ISREG(mode) or not os.access(path, os.R_OK):
        return Finding(False, what, "it is no file that this user can read")
    if mode & 0o022:
        return Finding(False, what, f"others can write to it: chmod go-w {path}")
    return Finding(True, what)


def keys(state: Path) -> list[Finding]:
    """The files below ``state`` that only this user may reach. None are there before the first start."""
    folder = state / "keys"
    try:
        if not folder.is_dir():
            return []
        return [_private(path) for path in (folder, *sorted(folder.iterdir()))]
    except OSError as error:
        why = f"{error.filename or folder}: {(error.strerror or str(error)).lower()}"
        return [Finding(False, "folder of keys", f"{why}: run the engine and this command as one user")]


def _private(path: Path) -> Finding:
    what = f"key {path.name}" if not path.is_dir() else "folder of keys"
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return Finding(False, what, f"{path} is a symbolic link: remove it, and a new one is made")
    if facts.st_uid != os.geteuid():
        return Finding(False, what, f"it belongs to uid {facts.st_uid}: run the engine and this command as one user")
    if facts.st_mode & 0o077:
        return Finding(False, what, f"others can reach it: chmod {'700' if path.is_dir() else '600'} {path}")
    return Finding(True, what)


def ports(config: Config) -> list[Finding]:
    """The ports that an engine listens on: answered by somebody, free, or not to be had."""
    return [port("agentListen", config.agent_listen), port("listen", config.listen)]


def port(setting: str, address: str) -> Finding:
    """One address, ``host:port``."""
    host, _, number = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    what = f"port {address} ({setting})"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not 0 <= int(number) <= 65535:
        return Finding(False, what, f"set {setting} to a port from 0 to 65535")
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(number)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return Finding(True, f"{what} is taken: by this engine, or else set another one")
            return Finding(False, what, f"{(error.strerror or str(error)).lower()}: set another one in remit.yaml")
    return Finding(True, f"{what} is free: no engine runs")
