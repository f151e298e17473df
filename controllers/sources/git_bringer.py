"""Which commit brought a file as it is, and the objects that vouch for a revision.

The identity behind a file is that of the commit that brought it, not of whoever committed last: else a signed commit on
top would lend its name to everything below it.
"""

from __future__ import annotations

from controllers.sources import git_address, git_objects, git_repository, git_tree, tree
from controllers.sources.git_signature import Verdict
from controllers.sources.git_signed import Signed
from schemas.errors import SourceUnreadable
from schemas.source import SourceReason

_FILES = (b"100644", b"100664", b"100755")


def signed_commit(repository: git_repository.Repository, commit: str) -> Signed:
    """A commit, to be judged."""
    where = f"the commit {commit[:12]}"
    wanted = git_objects.Wanted(commit, "commit", where, git_objects.MAX_COMMIT_BYTES)
    return Signed("commit", commit, repository.objects.content(wanted), where)


def signed_tag(repository: git_repository.Repository, oid: str, ref: str) -> Signed:
    """The annotated tag that a ref holds, to be judged.

    Raises SourceUnreadable with SignatureInvalid when it is another tag that was put under this name: a signed old
    release would pass for a new one.
    """
    name = ref.removeprefix("refs/tags/")
    where = f"the tag {name} ({oid[:12]})"
    data = repository.objects.content(git_objects.Wanted(oid, "tag", where, git_objects.MAX_COMMIT_BYTES))
    head = data.partition(b"\n\n")[0].split(b"\n")
    names = [line.partition(b" ")[2] for line in head if line.startswith(b"tag ")]
    named = git_address.is_commit(ref) or (ref.startswith("refs/") and not ref.startswith("refs/tags/"))
    if not named and names != [name.encode("utf-8", "surrogateescape")]:
        shown = tree.printable(b", ".join(names)) or "nothing"
        raise SourceUnreadable(
            f"{where} is signed as {shown}: somebody put that tag under another name; tag the release anew",
            reason=SourceReason.SIGNATURE_INVALID,
        )
    return Signed("tag", oid, data, where)


def find(repository: git_repository.Repository, head: str, path: str, blob: str) -> Signed | Verdict:
    """The commit that brought the file ``path`` with the content ``blob`` to the history of ``head``, to be judged; a
    verdict with a problem when nobody can tell.

    What git says is checked against the trees: the commit holds the file as it is, and none of its parents does.
    """
    commit = repository.bringer(head, path)
    shown = tree.printable(path)
    if commit is None or not git_address.is_commit(commit):
        return _unknown(head, f"no commit brought {shown} by itself: is it a symlink?")
    signed = signed_commit(repository, commit)
    if _blob(repository, commit, path) != blob:
        return _unknown(commit, f"no commit brought {shown} by itself: is it a symlink?")
    for parent in parents_of(signed.data):
        if not repository.objects.exists(parent):
            return _unknown(
                commit,
                f"who brought {shown} cannot be told: the clone is shallow, and ends at {commit[:12]};"
                " run 'git fetch --unshallow' there",
            )
        if _blob(repository, parent, path) == blob:
            return _unknown(commit, f"who brought {shown} cannot be told: its history is ambiguous")
    return signed


def parents_of(commit: bytes) -> list[str]:
    """The ids of a commit's parents, from its bytes."""
    head = commit.partition(b"\n\n")[0].split(b"\n")
    return [line[7:].decode("ascii", "replace") for line in head[1:] if line.startswith(b"parent ")]


def _blob(repository: git_repository.Repository, commit: str, path: str) -> str | None:
    root = repository.objects.commit_tree(commit, f"commit {commit[:12]}")
    row = git_tree.Place(repository.objects, root).row(path)
    return row.oid if row is not None and row.mode in _FILES else None


def _unknown(commit: str, message: str) -> Verdict:
    return Verdict(commit, SourceReason.SIGNATURE_UNCHECKED, message)
