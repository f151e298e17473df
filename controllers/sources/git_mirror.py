"""A local copy of one ref of a remote repository: a bare repository in the cache folder, kept up to date by fetching.

Crash rules. A mirror appears under its name only once it is complete. Whoever fetches holds a file lock that git's own
processes inherit, so a fetch that outlives a killed engine still holds it; once we have the lock, no process is at
work and every ``*.lock`` and half-received pack is a leftover to remove. A mirror that turns out damaged is rebuilt
beside the old one and swapped in. It is a cache: losing it costs a fetch.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from controllers.sources import git_address, git_environment, git_process, git_refs, tree
from schemas.errors import SourceUnreadable

REF: Final = "refs/remit/source"

_AUTHENTICATION = re.compile(
    r"authentication failed|could not read (username|password)|terminal prompts disabled|permission denied [(,]"
    r"|host key verification failed|requested url returned error: 40[13]|access denied|authorization failed",
    re.IGNORECASE,
)
_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded|file too large", re.IGNORECASE)
_DAMAGED = re.compile(
    r"bad object|is corrupt|unable to read|loose object|object file .* is empty|missing (blob|tree|commit|necessary)"
    r"|did not send all necessary objects|bad (packed )?(ref|object)|reference broken|inflate: |index-pack died"
    r"|unable to (parse|unpack|resolve reference)|not a git repository: '",
    re.IGNORECASE,
)


class Mirror:
    """The mirror of one ref of one remote. Threads and processes may share it: fetches wait for one another."""

    def __init__(
        self, address: git_address.Address, ref: str, cache: Path, *, fetch_s: float, connect_s: int = 20
    ) -> None:
        self._address = address
        self._ref = ref
        self._cache = cache
        self._fetch_s = fetch_s
        # Curl gives up on a connection that moves nothing, also when no engine is left to watch it.
        self._slow = ("-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={max(1, round(fetch_s))}")
        self._environment = git_environment.remote(address.protocols, connect_s=connect_s)
        key = hashlib.sha256(f"{address.url}\0{ref}".encode()).hexdigest()[:24]
        self.path = cache / f"{key}.git"
        self._damaged = False
        self._suspect = False

    def distrust(self, *, damaged: bool) -> None:
        """The mirror seemed incomplete, or was found ``damaged``: the next fetch checks it, or builds it anew."""
        if damaged:
            self._damaged = True
        else:
            self._suspect = True

    def fetch(self) -> None:
        """Make the mirror hold what the remote's ref holds now. Nothing is transferred when that did not change.

        Raises SourceUnreadable (FetchTimeout, AuthenticationFailed, RefNotFound, EmptyRepository, DiskFull,
        RepositoryUnreachable); the mirror then still holds what it held.
        """
        ends_at = time.monotonic() + self._fetch_s
        try:
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._lock(ends_at) as lock:
                self._fetch_locked(lock, ends_at)
        except OSError as error:
            reason = tree.DISK_FULL if _DISK_FULL.search(str(error)) else tree.REPOSITORY_UNREACHABLE
            raise SourceUnreadable(
                f"the mirror of {self._address} in {self._cache} cannot be written: {error.strerror or error}",
                reason=reason,
            ) from error

    def _fetch_locked(self, lock: int, ends_at: float) -> None:
        self._remove_leftovers()
        name, oid = self._advertised(lock, ends_at)
        if self._is_usable(oid, lock, ends_at):
            if self._held() == oid:
                return
            _remove_stale_locks(self.path)
            finished = self._transfer(self.path, name, lock, ends_at)
            if finished.status == 0:
                self._tidy(lock)
                return
            if not _DAMAGED.search(finished.stderr):
                raise self._failed(finished)
        self._rebuild(name, oid, lock, ends_at)

    def _rebuild(self, name: str, oid: str, lock: int, ends_at: float) -> None:
        """Fetch into an empty repository beside the mirror, then put it in its place."""
        fresh = self.path.with_suffix(".new")
        old = self.path.with_suffix(".old")
        algorithm = "sha1" if len(oid) == 40 else "sha256"
        created = self._git(
            ("init", "--quiet", "--bare", "--template=", f"--object-format={algorithm}"),
            fresh,
            lock,
            ends_at,
            local=True,
        )
        if created.status:
            raise self._failed(created)
        finished = self._transfer(fresh, name, lock, ends_at)
        if finished.status:
            shutil.rmtree(fresh, ignore_errors=True)
            raise self._failed(finished)
        if self.path.exists():
            self.path.rename(old)
        fresh.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)
        self._damaged = False
        self._suspect = False

    def _advertised(self, lock: int, ends_at: float) -> tuple[str, str]:
        """What to fetch: the remote's name for the ref, and the object id that the remote says it has."""
        if git_address.is_commit(self._ref):
            return self._ref, self._ref
        names = git_address.candidates(self._ref)
        listed = self._ls_remote(names, lock, ends_at)
        for name in names:
            if name in listed:
                return name, listed[name]
        if not self._ls_remote((), lock, ends_at):
            raise SourceUnreadable(
                f"the repository {self._address} has no commit yet; commit and push the specs first",
                reason=tree.EMPTY_REPOSITORY,
            )
        raise SourceUnreadable(
            f"the repository {self._address} has no branch or tag {self._ref}; name an existing one, or push it again",
            reason=tree.REF_NOT_FOUND,
        )

    def _ls_remote(self, names: Sequence[str], lock: int, ends_at: float) -> dict[str, str]:
        finished = self._git(("ls-remote", "--quiet", "--", self._address.url, *names), None, lock, ends_at)
        if finished.status:
            raise self._failed(finished)
        listed = {}
        for line in finished.stdout.splitlines():
            oid, _, name = line.partition(b"\t")
            if git_address.is_commit(oid.decode("ascii", "replace")):
                listed[name.decode("utf-8", "surrogateescape")] = oid.decode()
        return listed

    def _transfer(self, into: Path, name: str, lock: int, ends_at: float) -> git_process.Finished:
        options = ("--quiet", "--force", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        return self._git(
            ("fetch", *options, "--no-auto-gc", "--", self._address.url, f"+{name}:{REF}"), into, lock, ends_at
        )

    def _held(self) -> str | None:
        try:
            return git_refs.RefReader(self.path, self.path).read(REF)
        except SourceUnreadable:
            return None

    def _is_usable(self, oid: str, lock: int, ends_at: float) -> bool:
        """Whether the mirror can be fetched into: there, of the remote's object format, and whole where doubted."""
        held = self._held()
        if self._damaged or held is None or len(held) != len(oid):
            return False
        if self._suspect:
            command = ("rev-list", "--objects", "--quiet", "--max-count=1", REF, "--")
            checked = self._git(command, self.path, lock, ends_at, local=True)
            self._suspect = False
            return checked.status == 0
        return True

    def _tidy(self, lock: int) -> None:
        """Let git pack what many small fetches left, in the foreground; a failure costs only space."""
        with contextlib.suppress(SourceUnreadable, git_process.GitSilent):
            git_process.run(
                ("-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet"),
                git_dir=self.path,
                deadline_s=self._fetch_s,
                keep_open=(lock,),
            )

    def _git(
        self, command: Sequence[str], git_dir: Path | None, lock: int, ends_at: float, *, local: bool = False
    ) -> git_process.Finished:
        try:
            return git_process.run(
                (*self._slow, *command),
                git_dir=git_dir,
                environment=None if local else self._environment,
                deadline_s=max(0.1, ends_at - time.monotonic()),
                keep_open=(lock,),
            )
        except git_process.GitSilent as error:
            raise SourceUnreadable(
                f"the repository {self._address} did not answer within {self._fetch_s:g} s;"
                " is it reachable from this machine?",
                reason=tree.FETCH_TIMEOUT,
            ) from error

    def _failed(self, finished: git_process.Finished) -> SourceUnreadable:
        words = git_address.redact(finished.last_words)
        if _DISK_FULL.search(finished.stderr):
            return SourceUnreadable(
                f"there is no room for the mirror of {self._address} in {self._cache}: {words}; free some space",
                reason=tree.DISK_FULL,
            )
        if _AUTHENTICATION.search(finished.stderr):
            return SourceUnreadable(
                f"the repository {self._address} refuses us: {words};"
                " give the engine's user an ssh key, a ~/.netrc or a git credential helper",
                reason=tree.AUTHENTICATION_FAILED,
            )
        if re.search(r"couldn't find remote ref|not our ref|unadvertised object", finished.stderr):
            return SourceUnreadable(
                f"the repository {self._address} no longer offers {self._ref}: {words}", reason=tree.REF_NOT_FOUND
            )
        if re.search(r"timed out|timeout|operation too slow", finished.stderr, re.IGNORECASE):
            return SourceUnreadable(
                f"the repository {self._address} did not answer in time: {words}", reason=tree.FETCH_TIMEOUT
            )
        return SourceUnreadable(
            f"the repository {self._address} cannot be fetched: {words}", reason=tree.REPOSITORY_UNREACHABLE
        )

    @contextlib.contextmanager
    def _lock(self, ends_at: float) -> Iterator[int]:
        """The file lock of this mirror. The kernel frees it when the last process that has it open is gone."""
        fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            pause = threading.Event()
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= ends_at:
                        raise SourceUnreadable(
                            f"another process is still fetching {self._address}; it ends by itself",
                            reason=tree.FETCH_TIMEOUT,
                        ) from None
                    pause.wait(0.02)
            yield fd
        finally:
            os.close(fd)

    def _remove_leftovers(self) -> None:
        """Finish or undo a swap that a crash cut short."""
        old = self.path.with_suffix(".old")
        if old.exists() and not self.path.exists():
            old.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(self.path.with_suffix(".new"), ignore_errors=True)


def _remove_stale_locks(repository: Path) -> None:
    """Remove what a killed fetch left behind. Only while the mirror's lock is held."""
    leftovers = [*repository.glob("*.lock"), *(repository / "refs").rglob("*.lock")]
    leftovers += [*(repository / "objects").glob("info/*.lock"), *(repository / "objects").glob("pack/tmp_*")]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
