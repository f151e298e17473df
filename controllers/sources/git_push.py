"""The status branch of a remote repository: a bare repository of our own holds it, and is pushed from.

A push only ever adds commits on top of what the remote has, under a lease on exactly that, so it can destroy nothing.
When somebody else wrote to the branch, what they wrote is fetched to THEIRS and the next commit goes on top of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from controllers.sources import git_address, git_commit, git_environment, git_process, git_refs, git_repository, tree
from schemas.errors import Refused, SourceUnreadable
from schemas.source import SourceReason

THEIRS: Final = "refs/remit/theirs"
"""What the remote held when it was last found to be elsewhere."""
PUSHED: Final = "refs/remit/pushed"
"""What the remote is known to hold."""
DEADLINE_S: Final = 120.0

_AUTHENTICATION = re.compile(
    r"authentication failed|could not read (username|password)|terminal prompts disabled|permission denied"
    r"|requested url returned error: 40[13]|access denied|authorization failed|permission to .* denied",
    re.IGNORECASE,
)
_OVERTAKEN = re.compile(r"stale info|fetch first|non-fast-forward|already exists|cannot lock ref", re.IGNORECASE)


class Overtaken(Exception):
    """Somebody else moved the remote branch; THEIRS holds what it is now, if anything."""


class StatusRemote:
    """One branch of one remote, with its bare repository below ``cache``. Pushes of one remote must not overlap."""

    def __init__(self, url: str, branch: str, cache: Path) -> None:
        self.address = git_address.parse_address(url)
        self.ref = git_commit.branch_name(branch)
        key = hashlib.sha256(f"{url}\0{branch}".encode()).hexdigest()[:24]
        self.path = cache.absolute() / f"{key}.git"

    def prepare(self, algorithm: str = "sha1") -> Path:
        """Make the bare repository unless it is there; its folder. A half-made one is made again."""
        if not (self.path / "HEAD").is_file() or not (self.path / "objects").is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
            fresh = self.path.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            options = ("--quiet", "--bare", "--template=", f"--object-format={algorithm}")
            try:
                git_commit.must(("init", *options), fresh)
            except git_process.GitSilent as error:
                raise git_commit.silent(fresh) from error
            fresh.rename(self.path)
        return self.path

    def tip(self) -> str:
        """The commit that is to be pushed; "" for none."""
        return self._read(self.ref)

    def is_behind(self) -> bool:
        """Whether the remote is not known to hold the tip."""
        return self.tip() != self._read(PUSHED)

    def push(self) -> str:
        """Bring the remote to the tip; the commit that it holds now. Nothing is sent when it is there already.

        Raises Overtaken; Refused with PushRefused; SourceUnreadable (AuthenticationFailed, FetchTimeout,
        RepositoryUnreachable).
        """
        tip = self.tip()
        held = self._listed()
        if tip and held == tip:
            return self._note(tip)
        if held and not self._is_below(held, tip):
            if len(held) != len(tip or held):
                shutil.rmtree(self.path, ignore_errors=True)
                self.prepare("sha1" if len(held) == 40 else "sha256")
            self._fetch()
            raise Overtaken
        if not tip:
            return ""
        self._send(tip, held)
        self._tidy()
        return self._note(tip)

    def _listed(self) -> str:
        done = self._git(("ls-remote", "--quiet", "--", self.address.url, self.ref), local=False)
        if done.status:
            raise self._failed(done)
        for line in done.stdout.splitlines():
            oid, _, name = line.partition(b"\t")
            if name.decode("utf-8", "replace") == self.ref and git_address.is_commit(oid.decode("ascii", "replace")):
                return oid.decode()
        return ""

    def _is_below(self, held: str, tip: str) -> bool:
        """Whether the remote's commit is one that the tip stands on."""
        if not tip or len(tip) != len(held):
            return False
        with contextlib.closing(git_repository.Repository(self.path)) as repository:
            return repository.is_ancestor(held, tip)

    def _fetch(self) -> None:
        options = ("--quiet", "--force", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        done = self._git(("fetch", *options, "--no-auto-gc", "--", self.address.url, f"+{self.ref}:{THEIRS}"))
        if done.status:
            raise self._failed(done)

    def _send(self, tip: str, held: str) -> None:
        config = ("-c", "push.gpgSign=false", "-c", "push.followTags=false", "-c", "push.recurseSubmodules=no")
        lease = f"--force-with-lease={self.ref}:{held}"
        command = (*config, "push", "--porcelain", "--no-verify", lease, "--", self.address.url, f"{tip}:{self.ref}")
        done = self._git(command)
        refused = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith("!")]
        if refused:
            why = tree.printable(refused[0].rpartition("\t")[2])[:200]
            if _OVERTAKEN.search(why):
                raise Overtaken
            raise Refused(
                f"{self.address} did not take {self.ref}: {why}; is the branch protected?",
                reason=SourceReason.PUSH_REFUSED,
            )
        if done.status:
            raise self._failed(done)

    def _note(self, tip: str) -> str:
        git_commit.must(("update-ref", PUSHED, tip), self.path)
        return tip

    def _tidy(self) -> None:
        """Let git pack what many small commits left; a failure costs only space."""
        command = ("-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")
        with contextlib.suppress(SourceUnreadable, git_process.GitSilent):
            git_process.run(command, git_dir=self.path, deadline_s=DEADLINE_S)

    def _read(self, ref: str) -> str:
        return git_refs.RefReader(self.path, self.path).read(ref) or ""

    def _git(self, command: Sequence[str], *, local: bool = True) -> git_process.Finished:
        slow = ("-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={DEADLINE_S:.0f}")
        try:
            return git_process.run(
                (*slow, *command),
                git_dir=self.path if local else None,
                environment=git_environment.remote(self.address.protocols),
                deadline_s=DEADLINE_S,
            )
        except git_process.GitSilent as error:
            raise SourceUnreadable(
                f"{self.address} did not answer within {DEADLINE_S:g} s; status goes out later",
                reason=tree.FETCH_TIMEOUT,
            ) from error

    def _failed(self, done: git_process.Finished) -> Exception:
        words = git_address.redact(done.last_words)
        if _AUTHENTICATION.search(done.stderr):
            return SourceUnreadable(
                f"{self.address} does not let this engine push: {words}; give it a key or a credential that may, or"
                " set statusWriteback.mode to Never",
                reason=tree.AUTHENTICATION_FAILED,
            )
        return SourceUnreadable(f"{self.address} cannot be reached: {words}", reason=tree.REPOSITORY_UNREACHABLE)
