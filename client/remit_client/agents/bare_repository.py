"""A bare git repository that an agent owns: one commit for each tag, made the same way wherever it is made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from remit_client.errors import Failure

COMMAND_TIMEOUT_S = 20.0
_MOMENT = "2026-01-01T00:00:00+00:00"
_WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "tags"), ("EMAIL", "tags@remit.invalid"), ("DATE", _MOMENT))
}


class BareRepository:
    """See the module. Every method raises Failure when git is missing or refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def prepare(self, tag: str) -> str:
        """The commit that the tag is to stand at; makes it, and the repository, unless they are there."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure("NoPlace", f"{self._path.parent.name} cannot be made: {error.strerror}") from error
        if not (self._path / "HEAD").is_file():
            self._git(
                "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(self._path), inside=False
            )
        blob = self._git("hash-object", "-w", "--stdin", given=f"{tag}\n")
        tree = self._git("mktree", given=f"100644 blob {blob}\tRELEASE\n")
        return self._git("commit-tree", tree, "-m", f"Release {tag}")

    def tagged(self, tag: str) -> str | None:
        """The commit that the tag stands at; None while there is no such tag."""
        found = self._git("for-each-ref", "--format=%(objectname)", f"refs/tags/{tag}")
        return found or None

    def push(self, tag: str, commit: str) -> None:
        """Put the tag there. One that stands already is not moved."""
        self._git("push", "--quiet", ".", f"{commit}:refs/tags/{tag}")

    def _git(self, *arguments: str, given: str = "", inside: bool = True) -> str:
        place = [f"--git-dir={self._path}"] if inside else []
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.devnull,
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            **_WHO,
        }
        try:
            done = subprocess.run(
                ["git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", *place, *arguments],
                cwd=self._path if inside else self._path.parent,
                env=environ,
                input=given,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise Failure("GitMissing", "there is no program git in PATH: install git") from error
        except subprocess.TimeoutExpired as error:
            raise Failure("GitTimeout", f"git {arguments[0]} took too long", retryable=True) from error
        if done.returncode != 0:
            words = " ".join(done.stderr.split())[:500]
            raise Failure("GitRefused", f"git {arguments[0]}: {words or done.returncode}")
        return done.stdout.strip()
