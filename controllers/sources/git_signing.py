"""How the user signs commits, from git's configuration: which key may be said by the repository, which program runs by
the user's own files only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controllers.sources import git_environment, git_process

# What gpg, its agent and ssh-keygen need to find keys and to ask for a passphrase.
_KEPT: Final = (
    *("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "GNUPGHOME", "GPG_TTY", "SSH_AUTH_SOCK", "TERM"),
    *("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"),
)
_PROGRAMS: Final = {
    "gpg.program": "gpg",
    "gpg.openpgp.program": "gpg",
    "gpg.ssh.program": "ssh-keygen",
    "gpg.ssh.defaultkeycommand": "",
}


@dataclass(frozen=True, slots=True)
class Signing:
    """What ``git commit-tree -S`` needs: options that stand before the command, and variables beside the usual."""

    options: tuple[str, ...]
    environment: dict[str, str]


def configured(git_dir: Path) -> Signing | None:
    """How this user signs in a repository; None when git has no key for that."""
    said = settings(git_dir, r"^(user\.signingkey|gpg\.format|commit\.gpgsign)$")
    own = settings(git_dir, r"^gpg\.((openpgp\.|ssh\.)?program|ssh\.defaultkeycommand)$", ("--global", "--includes"))
    form, key = said.get("gpg.format", "openpgp"), said.get("user.signingkey", "")
    wanted = said.get("commit.gpgsign", "false").lower() in ("", "true", "yes", "on", "1")
    if form not in ("openpgp", "ssh") or not (key or wanted):
        return None
    values = {**_PROGRAMS, **own, "gpg.format": form}
    if "gpg.openpgp.program" not in own and "gpg.program" in own:
        values["gpg.openpgp.program"] = own["gpg.program"]
    if key:
        values["user.signingkey"] = key
    options = tuple(word for name, value in values.items() for word in ("-c", f"{name}={value}"))
    return Signing(options, {name: os.environ[name] for name in _KEPT if name in os.environ})


def settings(git_dir: Path, pattern: str, which: Sequence[str] = ()) -> dict[str, str]:
    """Values of git's configuration as the user has it, by lower-case name; of several the last. ``which`` narrows it
    to some of its files."""
    environment = git_environment.local()
    del environment["GIT_CONFIG_GLOBAL"]
    environment["HOME"] = os.environ.get("HOME", "/dev/null")
    if "XDG_CONFIG_HOME" in os.environ:
        environment["XDG_CONFIG_HOME"] = os.environ["XDG_CONFIG_HOME"]
    found = git_process.run(("config", *which, "-z", "--get-regexp", pattern), git_dir=git_dir, environment=environment)
    entries = found.stdout.decode("utf-8", "replace").split("\0")
    return dict(entry.partition("\n")[::2] for entry in entries if entry)
