"""Compiling files and folders for `validate`, `apply` and `diff`: the engine's compiler, without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli.failures import Failure
from controllers.sources import yaml
from controllers.sources.compile import CompiledUnit, NoCache, compile_blob, compile_unit, field_text
from decisions.cross_check import Fault, check
from schemas.base import DEFAULT_NAMESPACE
from schemas.errors import Diagnostic
from schemas.resource import Provenance

if TYPE_CHECKING:
    from controllers.sources.tree import SourceReader

LARGEST = 4 * 1024 * 1024


def compile_paths(paths: Sequence[Path], *, namespace: str = DEFAULT_NAMESPACE) -> list[CompiledUnit]:
    """Compile files and folders; the places of errors begin with the path as it was given. ``namespace`` is that of
    documents without one."""
    units: list[CompiledUnit] = []
    for path in paths:
        if path.is_dir():
            units += [_named(unit, str(path)) for unit in compile_folder(path, namespace=namespace)]
        elif path.is_file():
            if path.stat().st_size > LARGEST:
                text = f"{path.stat().st_size} bytes are more than the {LARGEST} that a spec file may have"
                units.append(CompiledUnit(str(path), (), (Diagnostic(str(path), 0, 0, "", text),)))
            else:
                units.append(compile_text(path.read_bytes(), str(path), namespace=namespace))
        else:
            raise Failure(f"there is no file or folder {path}")
    return units


def compile_folder(folder: Path, *, namespace: str = DEFAULT_NAMESPACE) -> list[CompiledUnit]:
    """The units of a folder."""
    from controllers.sources.directory import DirectoryReader

    reader = DirectoryReader(folder)
    try:
        return compile_tree(reader, None, namespace=namespace)
    finally:
        reader.close()


def compile_tree(
    reader: SourceReader, revision: str | None, *, namespace: str = DEFAULT_NAMESPACE
) -> list[CompiledUnit]:
    """The units of one revision of a source."""
    from controllers.sources.units import split

    tree = reader.read_tree(revision)
    units = [
        compile_unit("default", files, tree, reader, NoCache(), default_namespace=namespace) for files in split(tree)
    ]
    return _without_twins(units)


def compile_text(data: bytes, name: str, *, namespace: str = DEFAULT_NAMESPACE) -> CompiledUnit:
    """One file, or standard input."""
    blob = compile_blob(data, name, default_namespace=namespace)
    declared = tuple(
        replace(item, provenance=Provenance("file", "file", "", name, line, "")) for item, line in blob.declared
    )
    faults = check(declared)
    documents = {d.line: d for d in yaml.load(data, path=name).documents} if faults else {}
    found = [*blob.diagnostics, *(_located(fault, documents) for fault in faults)]
    return CompiledUnit(name, declared, tuple(sorted(found)))


def _located(fault: Fault, documents: Mapping[int, yaml.Document]) -> Diagnostic:
    origin = fault.declared.provenance
    path, line = (origin.path, origin.line) if origin is not None else ("", 0)
    document = documents.get(line)
    position = document.nearest(fault.field) if document is not None else yaml.Position(line, 1)
    return Diagnostic(
        path, position.line, position.column, field_text(fault.field), fault.message, fault.expected, fault.hint
    )


def _named(unit: CompiledUnit, prefix: str) -> CompiledUnit:
    moved = tuple(replace(d, path=f"{prefix.rstrip('/')}/{d.path}") for d in unit.diagnostics)
    return replace(unit, diagnostics=moved)


def _without_twins(units: list[CompiledUnit]) -> list[CompiledUnit]:
    """Say of each identity that two units declare so."""
    owner: dict[object, CompiledUnit] = {}
    result = []
    for unit in units:
        found = list(unit.diagnostics)
        for item in unit.declared:
            first = owner.setdefault(item.key, unit)
            if first is not unit and item.provenance is not None:
                text = f"{item.key.short} is declared by the unit {first.path!r} too"
                found.append(Diagnostic(item.provenance.path, item.provenance.line, 1, "metadata.name", text))
        result.append(replace(unit, diagnostics=tuple(sorted(found))))
    return result
