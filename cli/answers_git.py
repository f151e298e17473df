"""An answer as a commit in the specs: the decision's file, signed with the user's key. The engine takes it up at its
next look, and the signature says whose answer it is."""

from __future__ import annotations

import contextlib
import posixpath
from typing import TYPE_CHECKING, cast

import typer

from cli import answers, common
from cli.failures import Exit, Failure
from cli.output import dump_yaml, safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.project import Project
    from controllers.sources.git import GitReader
    from controllers.sources.git_signing import Signing
    from schemas.resource import Resource
    from schemas.source import SourceSpec
    from store.contract import Snapshot, Store

FOLDER = "approvals"
_WAIT_S = 90.0


def answer(context: typer.Context, reply: answers.Reply, namespace: str) -> None:
    """Commit the decision, and say what became of it."""
    project = common.project_of(context)
    spec = _source(project)
    with common.store_of(context) as store, _reading(project, spec) as reader:
        with store.snapshot() as snapshot:
            request = answers.request_named(snapshot, reply, namespace)
            name = _free_name(snapshot, reader, request, reply)
            text = _document(request, reply, name)
            path = posixpath.normpath(posixpath.join(spec.path, _folder(snapshot, request), f"{name}.yaml"))
        signing = _signing(reader)
        why = f"{reply.verdict} {request.name}" + (f"\n\n{reply.reason.strip()}" if reply.reason.strip() else "")
        commit = _commit(reader, spec, path, text, why, signing, reply.push)
        print(safe(f"{reply.verdict}: {request.spec['title']}"))
        where = reply.push if reply.push is not None else spec.ref
        print(safe(f"committed {path} on {where}: {commit[:12]}, signed"))
        if reply.push is not None and reply.push != spec.ref:
            print(safe(f"it counts once {reply.push} is merged into {spec.ref} (no squash: your commit is the proof)"))
            return
        if not reply.no_wait:
            _wait(store, request, name)


def _source(project: Project) -> SourceSpec:
    from schemas.source import SourceType

    spec = project.config.source.to_spec()
    if spec is None or spec.type is not SourceType.GIT:
        raise Failure("the source of this project is no git repository: leave --via out", code=Exit.REFUSED)
    if spec.verify is None:
        raise Failure(
            "an answer by commit is proven by its signature, and this source checks none: it would count for nobody",
            "declare source.git.verify in remit.yaml, or leave --via out: then the answer is that of your local user",
            code=Exit.REFUSED,
        )
    return spec


@contextlib.contextmanager
def _reading(project: Project, spec: SourceSpec) -> Iterator[GitReader]:
    from controllers.sources.readers import make_reader

    reader = cast("GitReader", make_reader(spec, project.root, project.state / "mirrors"))
    try:
        reader.fetch()
        yield reader
    finally:
        reader.close()


def _signing(reader: GitReader) -> Signing:
    from controllers.sources import git_repository, git_signing

    found = git_signing.configured(git_repository.find_layout(reader.folder).git_dir)
    if found is None:
        raise Failure(
            "the commit would not be signed, and an unsigned answer proves nobody: git has no key to sign with",
            "set user.signingKey (and gpg.format, for SSH) in your git configuration",
            code=Exit.REFUSED,
        )
    return found


def _free_name(snapshot: Snapshot, reader: GitReader, request: Resource, reply: answers.Reply) -> str:
    """A name that neither the store nor the newest commit knows."""
    name = answers.free_name(snapshot, request, reply)
    taken = {posixpath.basename(entry.path) for entry in reader.read_tree().entries}
    number, free = 1, name
    while f"{free}.yaml" in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _folder(snapshot: Snapshot, request: Resource) -> str:
    """Beside what it is about: a decision belongs to the unit of its tenant."""
    subject = snapshot.get_by_uid(str(request.spec["subjectUid"]))
    origin = subject.provenance if subject is not None else None
    unit = origin.unit.rpartition(":")[2] if origin is not None else "."
    return posixpath.join(unit, FOLDER)


def _document(request: Resource, reply: answers.Reply, name: str) -> str:
    from schemas.base import API_VERSION, DEFAULT_NAMESPACE

    meta = {"name": name} | ({"namespace": request.namespace} if request.namespace != DEFAULT_NAMESPACE else {})
    spec = answers.decision_spec(request, reply).to_wire()
    return dump_yaml({"apiVersion": API_VERSION, "kind": "ApprovalDecision", "metadata": meta, "spec": spec}) + "\n"


def _commit(
    reader: GitReader, spec: SourceSpec, path: str, text: str, why: str, signing: Signing, push: str | None
) -> str:
    from controllers.sources import git_add, git_edit, git_revert
    from controllers.sources.git_address import parse_address

    local = reader.address.local is not None
    if push is None:
        if not local:
            raise Failure(
                f"{reader.address} is not on this machine: the commit goes to a branch there",
                hint=f"add --push {spec.ref}, or the name of a new branch",
                code=Exit.REFUSED,
            )
        return git_edit.commit_file(reader.folder, spec.ref, path, text, why, signing=signing)
    head = reader.head().rpartition(":")[2]
    address, expected = reader.address, head if push in (spec.ref, f"refs/heads/{spec.ref}") else ""
    if local:
        if expected:
            raise Failure(f"{push} is the branch of the source; leave --push out to commit to it", code=Exit.REFUSED)
        url = git_revert.push_url(reader.folder, spec.ref)
        if url:
            address = parse_address(url)
            if address.local is not None:
                address = parse_address(str((reader.folder / url).absolute()))
    return git_add.add_and_push(reader.folder, head, push, address, path, text, why, signing=signing, expected=expected)


def _wait(store: Store, request: Resource, name: str) -> None:
    from cli.project import me
    from cli.verbs.sync import ask_for_a_look
    from schemas.base import Key

    ask_for_a_look(store, me())
    key = Key("ApprovalDecision", request.namespace, name)
    judged = common.wait_until(store, _WAIT_S, lambda s: answers.judged_as(s, key))
    if judged is None:
        print("the engine has not taken it up: remit sync says why")
        return
    answers.say_judged(judged, request)
