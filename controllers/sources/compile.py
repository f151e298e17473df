"""From files to declarations: parse, validate, default, cross-check. One blob is compiled once, whatever moves around
it; everything wrong with a unit is reported together."""

from __future__ import annotations

import functools
import json
import json.scanner
import marshal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from controllers.sources import yaml
from controllers.sources.yaml_document import SHIFT, below
from controllers.sources.yaml_document import Entry as Place
from decisions import cross_check
from schemas import registry
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import Diagnostic, InvalidSpec
from schemas.ownership import Ownership, leaves
from schemas.resource import Declared, Provenance, Written, canonical_json, quote

if TYPE_CHECKING:
    from controllers.sources.tree import Entry, SourceReader, Version
    from controllers.sources.units import UnitFiles

MAX_ERRORS = 200
MAX_PROMPT = 200_000


class BlobCache(Protocol):
    """Compiled forms by blob id (the store's; see its contract)."""

    def cached_blobs(self, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Those that are kept."""
        ...

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        """Keep them."""
        ...


class NoCache:
    """Keeps nothing: `validate` and offline `diff`."""

    def cached_blobs(self, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Nothing."""
        return iter(())

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class CompiledBlob:
    """What one file declares, without its name: (declaration, line of the document), and what is wrong with it."""

    declared: tuple[tuple[Declared, int], ...]
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class CompiledUnit:
    """A unit, compiled. It may be applied only when ``diagnostics`` is empty."""

    path: str
    declared: tuple[Declared, ...]
    diagnostics: tuple[Diagnostic, ...]
    prompts: tuple[str, ...] = ()
    """The files beside the listed ones that it draws in."""
    by_key: Mapping[Key, Declared] = field(init=False, repr=False, compare=False)
    """The declarations by identity."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", {d.key: d for d in self.declared})


@functools.cache
def compiler_version() -> str:
    """Changes with every change of the code that compiles: a cache of an older version never counts."""
    import hashlib
    from importlib import resources

    hasher = hashlib.sha256()
    for package, names in (("schemas", None), ("controllers.sources", ("yaml", "compile", "diagnose"))):
        for file in sorted(resources.files(package).iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py") and (names is None or file.name.startswith(names)):
                hasher.update(file.read_bytes())
    return hasher.hexdigest()[:32]


def compile_blob(data: bytes, path: str, *, default_namespace: str = DEFAULT_NAMESPACE) -> CompiledBlob:
    """Compile one file. Never raises for what the content is. Documents without a namespace are in
    ``default_namespace``."""
    loaded = yaml.load(data, path=path)
    declared: list[tuple[Declared, int]] = []
    diagnostics = list(loaded.diagnostics)
    for document in loaded.documents:
        checked = registry.check_document(document.value, default_namespace=default_namespace)
        if isinstance(checked, Declared):
            declared.append((_owned(checked, declared_fields(document)), document.line))
        else:
            diagnostics += [d for problem in checked for d in _located(problem, document, path)]
    return CompiledBlob(tuple(declared), tuple(sorted(diagnostics)))


def _located(problem: registry.Problem, document: yaml.Document, path: str) -> list[Diagnostic]:
    """One problem of a document, with its place in the file."""
    if isinstance(problem, registry.ModelProblem):
        # Imported here: only a file with a mistake in it needs the words for mistakes.
        from controllers.sources import diagnose

        return diagnose.from_validation(problem.error, document, path, problem.prefix, problem.model)
    position = document.nearest(problem.path)
    field = field_text(problem.path)
    return [Diagnostic(path, position.line, position.column, field, problem.message, problem.expected, problem.hint)]


def declared_fields(document: yaml.Document) -> dict[str, Any]:
    """The leaves below ``spec`` that a document writes down, before defaults, with their lines. A list is one leaf."""

    spec = document.value.get("spec") if isinstance(document.value, dict) else None
    return _lines(spec, below(document.root, "spec")) if isinstance(spec, dict) else {}


def _lines(value: dict[str, Any], place: Place) -> dict[str, Any]:
    inside = place[2]
    places: Mapping[Any, Place] = inside if isinstance(inside, dict) else {}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        at = places.get(name) or (place[0], place[1], None)
        found[name] = _lines(inner, at) if inner and isinstance(inner, dict) else (at[0] >> SHIFT) + 1
    return found


def _owned(declared: Declared, fields: dict[str, Any]) -> Declared:
    """A declaration that says which fields it owns, with its canonical texts."""
    d = declared
    # Files that are written alike own the same fields on the same lines. In this form equal bytes are equal fields.
    form = marshal.dumps(fields, 2)
    known = _owners.get(form)
    if known is None:
        if len(_owners) >= _MOST_OWNERS:
            _owners.clear()
        known = _owners[form] = (Ownership(fields), canonical_json(fields))
    ownership, fields_text = known
    written = Written(
        d.spec, canonical_json(d.spec), d.labels, _text(d.labels), d.annotations, _text(d.annotations),
        ownership, fields_text,
    )  # fmt: skip
    return Declared(d.kind, d.namespace, d.name, d.spec, d.labels, d.annotations, None, ownership, written)


_owners: dict[bytes, tuple[Ownership, str]] = {}
_MOST_OWNERS = 256


def _text(value: dict[str, str]) -> str:
    return canonical_json(value) if value else "{}"


def field_text(path: Iterable[str | int]) -> str:
    """A path as people write it: ``spec.dependsOn[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def compile_unit(
    source: str, files: UnitFiles, tree: Version, reader: SourceReader, cache: BlobCache, *, signer: str = "",
    default_namespace: str = DEFAULT_NAMESPACE,
) -> CompiledUnit:  # fmt: skip
    """Compile a unit of a tree. ``signer`` is who vouches for the tree's revision, as verified;
    ``default_namespace`` is that of documents without one, and a cache holds files of one such namespace only. Raises
    SourceUnreadable when a blob cannot be read."""
    from controllers.sources.units import unit_id  # a single file is compiled without trees and units

    blobs = _compile_blobs(files.entries, reader, cache, default_namespace)
    diagnostics = list(files.problems)
    declared: list[Declared] = []
    unit = unit_id(source, files.path)
    for entry in files.entries:
        blob = blobs[entry.blob]
        if blob.diagnostics:
            diagnostics += [d.at_path(entry.path) for d in blob.diagnostics]
        for item, line in blob.declared:
            provenance = Provenance(source, unit, tree.revision, entry.path, line, entry.blob, signer)
            declared.append(
                Declared(
                    item.kind, item.namespace, item.name, item.spec, item.labels, item.annotations, provenance,
                    item.ownership, item.written,
                )
            )  # fmt: skip
    prompts = tuple(str(d.spec["systemPromptFrom"]["path"]) for d in declared if d.spec.get("systemPromptFrom"))
    if not diagnostics:
        declared, found = _with_prompts(declared, tree, reader)
        diagnostics += found
    faults = cross_check.check(declared)
    if faults:
        diagnostics += locate(faults, files.entries, reader)
    return CompiledUnit(files.path, tuple(declared), tuple(sorted(set(diagnostics))[:MAX_ERRORS]), prompts)


def kept(cache: BlobCache, blobs: Iterable[str]) -> dict[str, CompiledBlob]:
    """What the cache knows of blobs that were compiled without a finding."""
    return {blob: _unpack(data) for blob, data in cache.cached_blobs(compiler_version(), blobs)}


def _compile_blobs(
    entries: Iterable[Entry], reader: SourceReader, cache: BlobCache, default_namespace: str
) -> dict[str, CompiledBlob]:
    wanted = {e.blob: e for e in entries}
    version = compiler_version()
    done = kept(cache, wanted)
    missing = [entry for blob, entry in wanted.items() if blob not in done]
    fresh: dict[str, bytes] = {}
    for entry, data in reader.read_blobs(missing):
        compiled = compile_blob(data, entry.path, default_namespace=default_namespace)
        done[entry.blob] = compiled
        if not compiled.diagnostics:
            fresh[entry.blob] = _pack(compiled)
    if fresh:
        cache.cache_blobs(version, fresh)
    return done


def _pack(compiled: CompiledBlob) -> bytes:
    # Canonical, as the store keeps specs: what is written alike is then read alike, and compared at a glance.
    return f"[{','.join(_packed(item, line) for item, line in compiled.declared)}]".encode("utf-8", "surrogatepass")


def _packed(item: Declared, line: int) -> str:
    spec, labels, annotations = item.texts
    fields = item.written.fields_text if item.written is not None else "{}"
    return (
        f"[{quote(item.kind)},{quote(item.namespace)},{quote(item.name)},{spec},{labels},{annotations},{fields},{line}]"
    )


# Without the look for spaces and encodings, which is half of a small value.
_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]


def _unpack(data: bytes) -> CompiledBlob:
    rows: list[list[Any]]
    rows, _ = _scan(data.decode("utf-8", "surrogatepass"), 0)
    return CompiledBlob(
        tuple(
            (Declared(k, ns, n, spec, labels, notes, None, Ownership(fields)), line)
            for k, ns, n, spec, labels, notes, fields, line in rows
        )
    )


def _with_prompts(
    declared: list[Declared], tree: Version, reader: SourceReader
) -> tuple[list[Declared], list[Diagnostic]]:
    """Put the text of ``systemPromptFrom`` files into the specs: the prompt is versioned with the spec."""
    result: list[Declared] = []
    diagnostics: list[Diagnostic] = []
    for item in declared:
        place = item.spec.get("systemPromptFrom") if item.kind == "Agent" else None
        if place is None:
            result.append(item)
            continue
        try:
            text = _prompt(tree, reader, str(place["path"]))
        except InvalidSpec as error:
            message = error.diagnostics[0].message
        else:
            spec = {k: v for k, v in item.spec.items() if k != "systemPromptFrom"}
            owned = dict(item.ownership.fields) if item.ownership is not None else {}
            owned["systemPrompt"] = item.provenance.line if item.provenance is not None else 0
            if "systemPromptFrom" in owned:
                owned["systemPrompt"] = next(n for p, n in leaves(owned) if p[0] == "systemPromptFrom")
                del owned["systemPromptFrom"]
            result.append(replace(item, spec={**spec, "systemPrompt": text}, ownership=Ownership(owned)))
            continue
        origin = item.provenance
        assert origin is not None
        field = "spec.systemPromptFrom.path"
        diagnostics.append(
            Diagnostic(origin.path, origin.line, 1, field, message, "a UTF-8 file below the source path")
        )
    return result, diagnostics


def _prompt(tree: Version, reader: SourceReader, path: str) -> str:
    entry = reader.find(tree, path)
    if entry is None:
        raise InvalidSpec([Diagnostic(path, 0, 0, "", f"there is no file {path!r}")])
    if entry.size > MAX_PROMPT:
        raise InvalidSpec([Diagnostic(path, 0, 0, "", f"{path!r} has {entry.size} bytes, more than {MAX_PROMPT}")])
    data = b"".join(content for _, content in reader.read_blobs([entry]))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidSpec([Diagnostic(path, 0, 0, "", f"{path!r} is not UTF-8")]) from None
    return text.replace("\x00", "")


def locate(faults: Iterable[cross_check.Fault], entries: Iterable[Entry], reader: SourceReader) -> list[Diagnostic]:
    """Give faults their line and column: the files they stand in are parsed once more."""
    by_path = {e.path: e for e in entries}
    documents: dict[str, tuple[yaml.Document, ...]] = {}
    result = []
    for fault in faults:
        origin = fault.declared.provenance
        assert origin is not None
        if origin.path not in documents:
            data = b"".join(content for _, content in reader.read_blobs([by_path[origin.path]]))
            documents[origin.path] = yaml.load(data, path=origin.path).documents
        document = next((d for d in documents[origin.path] if d.line == origin.line), None)
        position = document.nearest(fault.field) if document is not None else yaml.Position(origin.line, 1)
        result.append(
            Diagnostic(
                origin.path, position.line, position.column, field_text(fault.field), fault.message,
                fault.expected, fault.hint,
            )
        )  # fmt: skip
    return result
