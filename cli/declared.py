"""Changing what is declared, for verbs that do (cancel, retry, assign): where a source declares the object, its file
is edited and committed, so that git stays the only place that says what is wanted; else the stored spec is changed."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.failures import Exit, Failure
from cli.project import Project, me

if TYPE_CHECKING:
    from controllers.sources.tree import SourceReader
    from schemas.resource import Declared, Resource
    from store.contract import Store

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """What was done: ``where`` is for people (file and commit, or the store)."""

    where: str
    commit: str = ""


def change(
    project: Project, store: Store, resource: Resource, edits: Sequence[tuple[FieldPath, Any]], why: str
) -> Changed:
    """Set fields of an object (paths from the document, such as ("spec", "desiredState")); ``None`` removes one."""
    if resource.unit:
        return _in_source(project, resource, edits, why)
    return _in_store(store, resource, edits, why)


def _in_store(store: Store, resource: Resource, edits: Sequence[tuple[FieldPath, Any]], why: str) -> Changed:
    from schemas.event import EventType
    from schemas.resource import Declared

    with store.transaction(me()) as tx:
        current = tx.get_by_uid(resource.uid)
        if current is None:
            raise Failure(f"{resource.key.short} is gone")
        document = {"metadata": {"annotations": dict(current.annotations)}, "spec": current.spec}
        for path, value in edits:
            document = _with(document, path, value)
        checked = _checked(current, document)
        changed = tx.put_spec(
            current,
            Declared(
                current.kind, current.namespace, current.name, checked.spec, current.labels,
                checked.annotations, current.provenance,
            ),
        )  # fmt: skip
        tx.event(EventType.UPDATED, changed, reason="Operator", message=why)
    return Changed("the store (no source declares it)")


def _checked(current: Resource, document: dict[str, Any]) -> Declared:
    """The edited object through the same checks as a file."""
    from schemas import registry
    from schemas.base import API_VERSION, DEFAULT_NAMESPACE
    from schemas.resource import Declared

    meta: dict[str, Any] = {"name": current.name, "labels": current.labels, **document["metadata"]}
    if current.namespace:
        meta["namespace"] = current.namespace
    whole = {"apiVersion": API_VERSION, "kind": current.kind, "metadata": meta, "spec": document["spec"]}
    checked = registry.check_document(whole, default_namespace=current.namespace or DEFAULT_NAMESPACE)
    if isinstance(checked, Declared):
        return checked
    raise Failure(f"the change does not fit {current.key.short}", *(str(p) for p in checked))


def _with(value: Any, path: FieldPath, new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``path``; parents are made, None removes."""
    if not path:
        return new
    head, rest = path[0], path[1:]
    copy = dict(value) if isinstance(value, dict) else {}
    if not rest and new is None:
        copy.pop(head, None)
    else:
        copy[head] = _with(copy.get(head), rest, new)
    return copy


def _in_source(project: Project, resource: Resource, edits: Sequence[tuple[FieldPath, Any]], why: str) -> Changed:
    from schemas.source import SourceType

    spec = project.config.source.to_spec()
    origin = resource.provenance
    if spec is None or origin is None:
        raise Failure(f"{resource.key.short} is declared where this command cannot edit it", code=Exit.REFUSED)
    if spec.type is SourceType.DIRECTORY:
        return _in_directory(project.root / spec.url, origin.path, origin.line, edits)
    return _in_git(project, resource, edits, why)


def _in_git(project: Project, resource: Resource, edits: Sequence[tuple[FieldPath, Any]], why: str) -> Changed:
    from controllers.sources import git_edit, git_repository, git_signing
    from controllers.sources.git import GitReader
    from controllers.sources.git_address import parse_address
    from controllers.sources.readers import local_url

    spec, origin = project.config.source.to_spec(), resource.provenance
    assert spec is not None
    assert origin is not None
    if parse_address(spec.url).local is None:
        raise Failure(
            f"{resource.key.short} is declared at {origin.place} in {spec.url}: change it there",
            *(f"set {_dotted(path)} to {value!r}" for path, value in edits),
            "commit and push; the engine takes it up at its next look",
            hint="remit sync",
            code=Exit.REFUSED,
        )
    url = local_url(spec.url, project.root)
    signing = git_signing.configured(git_repository.find_layout(Path(url)).git_dir) if spec.verify is not None else None
    if spec.verify is not None and signing is None:
        raise Failure(
            f"{resource.key.short} is declared in a source that applies signed commits only, and git has no key to sign"
            " with",
            "set user.signingKey (and gpg.format, for SSH) in your git configuration",
            f"or set {', '.join(_dotted(path) for path, _ in edits)} in {origin.path} yourself, by a signed commit",
            hint="remit doctor",
            code=Exit.REFUSED,
        )
    reader = GitReader(url, ref=spec.ref, path=spec.path)
    try:
        old = _text_of(reader, origin.path)
    finally:
        reader.close()
    new = _edited(old, origin.path, resource, edits)
    path = posixpath.normpath(posixpath.join(spec.path, origin.path))
    commit = git_edit.commit_file(Path(url), spec.ref, path, new, why, expected_text=old, signing=signing)
    return Changed(f"{origin.path} (commit {commit[:10]} on {spec.ref})", commit)


def _text_of(reader: SourceReader, path: str) -> str:
    tree = reader.read_tree()
    entry = reader.find(tree, path)
    if entry is None:
        raise Failure(f"{path} is not in {tree.revision} any more: look again", hint="remit sync")
    return b"".join(content for _, content in reader.read_blobs([entry])).decode()


def _in_directory(folder: Path, path: str, line: int, edits: Sequence[tuple[FieldPath, Any]]) -> Changed:
    import os
    import tempfile

    file = folder / path
    old = file.read_bytes().decode()
    new = _apply(old, _document_at(old, path, line), edits)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".remit-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(new.encode())
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(file.stat().st_mode & 0o7777)
        if file.read_bytes().decode() != old:
            raise Failure(f"{file} was changed meanwhile: look again and repeat", code=Exit.REFUSED)
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return Changed(str(file))


def _edited(text: str, path: str, resource: Resource, edits: Sequence[tuple[FieldPath, Any]]) -> str:
    """The file with the object's document changed. The document is found by identity: lines may have moved."""
    from controllers.sources import yaml

    loaded = yaml.load(text.encode(), path=path)
    for document in loaded.documents:
        value = document.value if isinstance(document.value, dict) else {}
        meta = value.get("metadata") or {}
        if value.get("kind") == resource.kind and meta.get("name") == resource.name:
            namespace = meta.get("namespace")
            if namespace in (None, resource.namespace):
                return _apply(text, document.index, edits)
    raise Failure(f"{path} no longer declares {resource.key.short}: look again", hint="remit sync")


def _document_at(text: str, path: str, line: int) -> int:
    from controllers.sources import yaml

    loaded = yaml.load(text.encode(), path=path)
    found = next((d.index for d in loaded.documents if d.line == line), None)
    if found is None:
        raise Failure(f"{path} was changed since the last sync: look again", hint="remit sync")
    return found


def _apply(text: str, document: int, edits: Sequence[tuple[FieldPath, Any]]) -> str:
    from controllers.sources import edit

    for path, value in edits:
        remove = value is None
        text = edit.delete_value(text, document, path) if remove else edit.set_value(text, document, path, value)
    return text


def _dotted(path: FieldPath) -> str:
    return ".".join(str(p) for p in path)
