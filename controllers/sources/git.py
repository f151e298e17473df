"""Reads specs from a git repository: a local one in place, a remote one through a mirror in the cache folder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from controllers.sources import (
    git_address,
    git_bringer,
    git_delta,
    git_mirror,
    git_objects,
    git_process,
    git_repository,
    git_signature,
    git_signed,
    git_tree,
    git_trust,
    tree,
)
from schemas.errors import SourceUnreadable

DEFAULT_FETCH_S = 120.0
_MAX_SCOPES = 64
_DAMAGE = (tree.OBJECT_DAMAGED, tree.REF_DAMAGED)
_FAULTS = (*_DAMAGE, tree.OBJECT_MISSING, tree.REPOSITORY_UNREACHABLE)


class GitReader:
    """A `tree.SourceReader` over one ref and folder of a git repository.

    ``url``, ``ref`` and ``path`` come from a spec and are judged here (AddressRefused); nothing else happens before
    the first call. ``cache`` is the folder for mirrors and is needed for a remote only. ``wanted`` tells which paths
    are listed. ``deadline_s`` bounds each answer of a local git process, ``fetch_s`` a whole fetch. ``trusted`` names
    the files of those whose signatures count, None where none are asked for.

    A remote that was fetched before can be read without network, also after a restart. When a mirror is damaged, the
    error says so and the next ``fetch`` rebuilds it.
    """

    def __init__(
        self,
        url: str,
        *,
        ref: str = "main",
        path: str = ".",
        cache: Path | None = None,
        wanted: Callable[[str], bool] = tree.is_manifest,
        limits: tree.Limits = tree.DEFAULT_LIMITS,
        deadline_s: float = git_process.DEFAULT_DEADLINE_S,
        fetch_s: float = DEFAULT_FETCH_S,
        trusted: git_trust.TrustFiles | None = None,
    ) -> None:
        self.address = git_address.parse_address(url)
        self.ref = git_address.parse_ref(ref)
        self.path = git_address.parse_path(path)
        self._wanted = wanted
        self._limits = limits
        self._deadline_s = deadline_s
        self._trusted = trusted
        self._judge = git_signature.Judge(deadline_s=deadline_s)
        self._lock = threading.RLock()
        self._repository: git_repository.Repository | None = None
        self._lister: git_tree.TreeLister | None = None
        self._comparer: git_delta.Comparer | None = None
        self._scopes: dict[str, str | None] = {}
        self._mirror: git_mirror.Mirror | None = None
        if self.address.local is None:
            if cache is None:
                raise SourceUnreadable(
                    f"no cache folder is configured for the remote repository {self.address}",
                    reason=tree.ADDRESS_REFUSED,
                )
            self._mirror = git_mirror.Mirror(self.address, self.ref, cache.absolute(), fetch_s=fetch_s)

    @property
    def folder(self) -> Path:
        """The repository on this machine that is read: the local one, or the mirror (which may not exist yet)."""
        return self._mirror.path if self._mirror is not None else self._local

    @property
    def pids(self) -> tuple[int, ...]:
        """Ids of the git processes that are kept open."""
        repository = self._repository
        return repository.pids if repository is not None else ()

    def fetch(self) -> None:
        """See `tree.SourceReader.fetch`. Reads go on meanwhile, from what was fetched before."""
        if self._mirror is not None:
            self._mirror.fetch()

    def head(self) -> str:
        """See `tree.SourceReader.head`. For a local repository this reads a file or two and starts no process."""
        with self._opened() as repository:
            return self._revision(repository, self._head(repository))

    def read_tree(self, revision: str | None = None) -> tree.Tree:
        """See `tree.SourceReader.read_tree`. ``revision`` may also be a bare commit id."""
        with self._opened() as repository:
            found = self._version(repository, revision)
            listing = self._listing(repository).listing(found.tree_id)
            return tree.Tree(
                found.revision, found.commit, found.tree_id, listing.entries, listing.problems, listing.extent
            )

    def version(self, revision: str) -> tree.Version | None:
        """The name of what ``read_tree`` would list; None when a listing is remembered, so that it costs little."""
        with self._opened() as repository:
            return None if self._listing(repository).remembers else self._version(repository, revision)

    def delta(self, old: str, new: str, extent: tree.Extent) -> tree.Delta | None:
        """What the revision ``new`` brings against ``old``, whose listing has that extent: what a comparison of both
        listings would find, at the cost of the change. None where that cannot be told, for whatever reason; what is
        wrong with the source is for ``read_tree`` to say."""
        commits = [git_address.parse_revision(revision) for revision in (old, new)]
        with self._opened() as repository:
            try:
                scopes = [self._scope(repository, commit) for commit in commits]
                if scopes[0] is None or scopes[1] is None:
                    return None
                if self._comparer is None:
                    self._comparer = git_delta.Comparer(repository.objects, self._wanted, self._limits)
                found = self._comparer.compare(scopes[0], scopes[1], extent)
            except SourceUnreadable:
                return None
            if found is None:
                return None
            version = tree.Version(self._revision(repository, commits[1]), commits[1], scopes[1])
            return tree.Delta(version, *found)

    def read_blobs(self, entries: Iterable[tree.Entry]) -> Iterator[tuple[tree.Entry, bytes]]:
        """See `tree.SourceReader.read_blobs`. Reads ahead a bounded batch; other calls may come in between."""
        asked = iter(entries)
        while batch := _next_batch(asked):
            with self._opened() as repository:
                limit = self._limits.max_blob_bytes
                wanted = [git_objects.Wanted(e.blob, "blob", e.path, limit, e.size) for e in batch]
                contents = list(repository.objects.contents(wanted))
            yield from zip(batch, contents, strict=True)

    def find(self, listed: tree.Version, path: str) -> tree.Entry | None:
        """See `tree.SourceReader.find`."""
        with self._opened() as repository:
            return self._listing(repository).find(listed.tree_id, path)

    def changed(self, old: str, new: str) -> list[tree.Change]:
        """The files below the path that differ between two revisions, sorted by path, listed ones and others.

        Fast, because git compares the trees and does not verify them; what is applied comes from ``read_tree``. A
        commit without the folder counts as one with an empty folder.
        """
        commits = (git_address.parse_revision(old), git_address.parse_revision(new))
        with self._opened() as repository:
            old_tree, new_tree = (self._scope(repository, commit) for commit in commits)
            return repository.changed(old_tree, new_tree)

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether the revision ``old`` comes before ``new``, or is it: false when history was rewritten."""
        commits = (git_address.parse_revision(old), git_address.parse_revision(new))
        with self._opened() as repository:
            return repository.is_ancestor(*commits)

    def require_common_history(self, old: str, new: str) -> None:
        """Raise SourceUnreadable with HistoryRewritten when ``new`` shares no ancestor with the applied ``old``."""
        commits = (git_address.parse_revision(old), git_address.parse_revision(new))
        with self._opened() as repository:
            if not repository.has_common_history(*commits):
                raise SourceUnreadable(
                    f"{self.ref} of {self.address} was replaced by the unrelated history of {commits[1][:12]};"
                    f" push a history that contains {commits[0][:12]}, or make a new Source",
                    reason=tree.HISTORY_REWRITTEN,
                )

    def trust(self) -> git_trust.Trust | None:
        """Whose signatures count now, None where none are asked for. Reads the declared files anew.

        Raises SourceUnreadable with AllowedSignersRefused when one cannot be read or lies in the repository.
        """
        if self._trusted is None:
            return None
        with self._opened() as repository:
            places = repository.places()
        return self._trusted.load([*places, *((self.folder,) if self._mirror is not None else ())])

    def verdict(self, revision: str, trust: git_trust.Trust, now: datetime) -> git_signature.Verdict:
        """Who signed a revision that is the current one: the annotated tag where the ref is one, else the commit."""
        commit = git_address.parse_revision(revision)
        with self._opened() as repository:
            signed = self._signed(repository, commit)
        return self._judge.judge(signed, trust, now)

    def bringer(self, listed: tree.Version, entry: tree.Entry, trust: git_trust.Trust, now: datetime
    ) -> git_signature.Verdict:  # fmt: skip
        """Who signed the commit that brought a listed file as it is; a problem where that cannot be told."""
        path = f"{self.path}/{entry.path}" if self.path else entry.path
        with self._opened() as repository:
            found = git_bringer.find(repository, listed.commit, path, entry.blob)
        if isinstance(found, git_signature.Verdict):
            return found
        return self._judge.judge(found, trust, now)

    def close(self) -> None:
        """See `tree.SourceReader.close`."""
        with self._lock:
            self._drop()

    @property
    def _local(self) -> Path:
        assert self.address.local is not None
        return self.address.local

    @contextlib.contextmanager
    def _opened(self) -> Iterator[git_repository.Repository]:
        """The repository for one call. After a fault nothing that was opened before is trusted any more."""
        with self._lock:
            try:
                yield self._open()
            except SourceUnreadable as error:
                if error.reason in _FAULTS:
                    self._drop()
                    if self._mirror is not None:
                        self._mirror.distrust(damaged=error.reason in _DAMAGE)
                raise

    def _open(self) -> git_repository.Repository:
        if self._repository is not None and not self._repository.is_current:
            self._drop()
        if self._repository is None:
            if self._mirror is not None and not self._mirror.path.exists():
                raise SourceUnreadable(
                    f"the repository {self.address} was not fetched yet", reason=tree.REPOSITORY_UNREACHABLE
                )
            self._repository = git_repository.Repository(self.folder, deadline_s=self._deadline_s)
        return self._repository

    def _drop(self) -> None:
        repository, self._repository, self._lister, self._comparer = self._repository, None, None, None
        self._scopes.clear()
        if repository is not None:
            repository.close()

    def _listing(self, repository: git_repository.Repository) -> git_tree.TreeLister:
        if self._lister is None:
            self._lister = git_tree.TreeLister(repository.objects, self._wanted, self._limits)
        return self._lister

    def _head(self, repository: git_repository.Repository) -> str:
        names = (git_mirror.REF,) if self._mirror is not None else git_address.candidates(self.ref)
        return repository.commit_of(names, self.ref)

    def _version(self, repository: git_repository.Repository, revision: str | None) -> tree.Version:
        commit = self._head(repository) if revision is None else git_address.parse_revision(revision)
        scope = self._scope(repository, commit)
        if scope is None:
            raise SourceUnreadable(
                f"the commit {commit[:12]} of {self.address} has no folder {self.path};"
                " restore it, or correct the source's path",
                reason=tree.PATH_NOT_FOUND,
            )
        return tree.Version(self._revision(repository, commit), commit, scope)

    def _signed(self, repository: git_repository.Repository, commit: str) -> git_signed.Signed:
        """What vouches for a commit: the annotated tag where the ref holds one, else the commit itself."""
        names = (git_mirror.REF,) if self._mirror is not None else git_address.candidates(self.ref)
        held = repository.object_of(names, self.ref)
        leads_to = None if held is None else repository.objects.peel(held, f"ref {self.ref}")
        if held is None or held == leads_to:
            return git_bringer.signed_commit(repository, commit)
        if leads_to != commit:
            raise SourceUnreadable(f"{self.ref} of {self.address} moved while it was read", reason=tree.SOURCE_CHANGING)
        return git_bringer.signed_tag(repository, held, self.ref)

    def _scope(self, repository: git_repository.Repository, commit: str) -> str | None:
        """The id of the tree at the source path in a commit; None when it has no such folder."""
        if commit not in self._scopes:
            root = repository.objects.commit_tree(commit, f"commit {commit[:12]} of {self.address}")
            if len(self._scopes) >= _MAX_SCOPES:
                self._scopes.clear()
            self._scopes[commit] = self._listing(repository).folder(root, self.path)
        return self._scopes[commit]

    def _revision(self, repository: git_repository.Repository, commit: str) -> str:
        return f"{self.ref}@{repository.layout.algorithm}:{commit}"


def _next_batch(entries: Iterator[tree.Entry]) -> list[tree.Entry]:
    batch: list[tree.Entry] = []
    weight = 0
    for entry in entries:
        batch.append(entry)
        weight += entry.size
        if len(batch) >= 1000 or weight >= 8 * 1024 * 1024:
            break
    return batch
