"""Rolling back: revert. It makes a commit; the engine follows it like any other."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common
from cli.failures import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.project import Project
    from controllers.sources.git import GitReader
    from controllers.sources.git_revert import Order, Reverted
    from controllers.sources.git_signed import Signed
    from controllers.sources.git_signing import Signing
    from schemas.source import SourceSpec

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("revert")(revert)


def revert(
    context: typer.Context,
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMIT", help="Commit to undo: its id, or the start of it; the one applied last by default."
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="BRANCH", help="Put it on this new branch and push that, for a pull request."),
    ] = None,
    mainline: Annotated[
        int | None, typer.Option("--mainline", "-m", help="Of a merge: which parent stays, counted from 1.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the message of the commit.")] = "",
) -> None:
    """Undo one commit of the specs by another commit: on the branch where the repository is on this machine, on a new
    branch with --push. Nothing else changes, and what later commits did stays.

    Without COMMIT it undoes the commit applied last, but never an undoing: a second call would bring back what the
    first one took away. It then says which commit to name, to go further back or to do that all the same.

    Examples:
      remit revert
      remit revert 3f1c2a9 --reason "the limit was a typo"
      remit revert 3f1c2a9 --push undo-3f1c2a9
    """
    project = common.project_of(context)
    spec = _git_spec(project)
    with _reading(project, spec) as source:
        if revision is not None:
            commit = source.commit(revision)
        else:
            commit = source.commit(_applied(context))
            source.refuse_undoing(commit)
        order = source.order(commit, reason, mainline, must_sign=push is None)
        done = source.push(push, order) if push is not None else source.commit_in_place(order)
    if done is None:
        print(f"{commit[:12]} is undone already: nothing to commit")
        return
    _say(done, spec, push, signed=order.signing is not None)


def _git_spec(project: Project) -> SourceSpec:
    from schemas.source import SourceType

    spec = project.config.source.to_spec()
    if spec is None or spec.type is not SourceType.GIT:
        raise Failure("the source of this project is no git repository: it has no commits to undo")
    return spec


def _applied(context: typer.Context) -> str:
    """The revision that was applied last."""
    from controllers.wiring import DEFAULT_SOURCE
    from schemas.errors import StoreUnavailable
    from schemas.source import SourceStatus

    try:
        with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
            source = snapshot.get(DEFAULT_SOURCE)
    except StoreUnavailable as error:
        raise Failure(f"which commit was applied last is not known: {error}", hint="remit revert COMMIT") from None
    status = SourceStatus.model_validate(source.status) if source is not None else SourceStatus()
    applied = {unit.applied_revision for unit in status.units if unit.applied_revision}
    if status.revision in applied and status.revision is not None:
        return status.revision
    if len(applied) == 1:
        return applied.pop()
    if applied:
        raise Failure("the units stand at different commits; name the one to undo", *sorted(applied))
    raise Failure("nothing was applied yet; name the commit to undo", hint="remit revert COMMIT")


@dataclass
class _Source:
    """The repository of the source, ready to be committed to. ``head`` is its newest commit."""

    reader: GitReader
    spec: SourceSpec
    head: str

    @property
    def _path(self) -> Path:
        return self.reader.folder

    @property
    def _is_local(self) -> bool:
        return self.reader.address.local is not None

    def commit(self, text: str) -> str:
        """The id of a commit that a person named."""
        from controllers.sources import git_repository, git_revert

        with contextlib.closing(git_repository.Repository(self._path)) as repository:
            return git_revert.find_commit(repository, text)

    def refuse_undoing(self, commit: str) -> None:
        """Raises Failure for a commit that undoes another one."""
        from controllers.sources import git_repository, git_revert

        with contextlib.closing(git_repository.Repository(self._path)) as repository:
            undone = git_revert.undone_by(repository, commit)
        if undone is not None:
            raise Failure(
                f"the commit applied last, {commit[:12]}, undid {undone[:12]} already",
                f"to go further back, name the older commit: git log {undone[:12]}~1",
                f"to bring {undone[:12]} back: remit revert {commit[:12]}",
                hint="remit revert COMMIT",
                code=Exit.REFUSED,
            )

    def order(self, commit: str, reason: str, mainline: int | None, *, must_sign: bool) -> Order:
        """What to do. Where the source asks for signatures, the commit is signed with the user's key, and the engine's
        own rule is applied to it before anything moves."""
        from controllers.sources.git_revert import Order

        signing = self._signing() if self.spec.verify is not None else None
        if self.spec.verify is not None and must_sign:
            if signing is None:
                raise Failure(
                    "the source applies signed commits only, and git has no key to sign with",
                    "set user.signingKey (and gpg.format, for SSH) in your git configuration,"
                    " or put it on a branch with --push and let the merge be signed",
                    code=Exit.REFUSED,
                )
            return Order(commit, reason, mainline, signing, self._accept)
        return Order(commit, reason, mainline, signing)

    def _signing(self) -> Signing | None:
        from controllers.sources import git_repository, git_signing

        return git_signing.configured(git_repository.find_layout(self._path).git_dir)

    def _accept(self, signed: Signed) -> None:
        from controllers.sources import git_signature
        from schemas.errors import Refused

        trust = self.reader.trust()
        assert trust is not None
        verdict = git_signature.check(signed, trust)
        if verdict.problem is not None:
            raise Refused(f"the engine would not apply the new commit: {verdict.message}", reason=verdict.problem)

    def commit_in_place(self, order: Order) -> Reverted | None:
        """On the branch itself."""
        from controllers.sources import git_revert

        if not self._is_local:
            raise Failure(
                f"{self.reader.address} is not on this machine: the commit goes to a branch there",
                hint=f"remit revert {order.commit[:12]} --push revert-{order.commit[:12]}",
                code=Exit.REFUSED,
            )
        return git_revert.revert(self._path, self.spec.ref, order)

    def push(self, name: str, order: Order) -> Reverted | None:
        """On a new branch: of the remote, of what a local repository pushes to, or of that repository itself."""
        from controllers.sources import git_address, git_revert

        if not self._is_local:
            expected = self.head if name in (self.spec.ref, f"refs/heads/{self.spec.ref}") else ""
            return git_revert.revert_and_push(
                self._path, self.head, name, self.reader.address, order, expected=expected
            )
        if name == self.spec.ref:
            raise Failure(f"{name} is the branch of the source; leave --push out to commit to it", code=Exit.REFUSED)
        url = git_revert.push_url(self._path, self.spec.ref)
        if not url:
            return git_revert.revert_beside(self._path, self.spec.ref, name, order)
        address = git_address.parse_address(url)
        if address.local is not None:
            address = git_address.parse_address(str((self._path / url).absolute()))
        return git_revert.revert_and_push(self._path, self.head, name, address, order)


@contextlib.contextmanager
def _reading(project: Project, spec: SourceSpec) -> Iterator[_Source]:
    """The source's repository; the mirror of a remote one is brought up to date."""
    from typing import cast

    from controllers.sources.readers import make_reader

    reader = cast("GitReader", make_reader(spec, project.root, project.state / "mirrors"))
    try:
        reader.fetch()
        yield _Source(reader, spec, reader.head().rpartition(":")[2])
    finally:
        reader.close()


def _say(done: Reverted, spec: SourceSpec, push: str | None, *, signed: bool) -> None:
    from cli.output import safe

    branch = done.branch.removeprefix("refs/heads/")
    print(safe(f'reverted {done.undone[:12]} "{done.subject}" on {branch}: {done.commit}'))
    for change in done.changes[:_SHOWN]:
        sign = "+" if not change.old else "-" if not change.new else "~"
        print(safe(f"  {sign} {change.path}"))
    if len(done.changes) > _SHOWN:
        print(f"  ... and {len(done.changes) - _SHOWN} more")
    if push is None:
        print("the engine takes it up at its next look: remit sync")
        return
    if done.pushed_to:
        print(safe(f"pushed to {done.pushed_to}; open a pull request from {branch} to {spec.ref}"))
    else:
        print(f"merge {branch} into {spec.ref} to put it in force")
    if not done.pushed_to:
        print(f"see what it would change: remit diff --head {branch}")
    if spec.verify is not None and not signed:
        print("it is not signed: the source applies it only through a signed merge")
