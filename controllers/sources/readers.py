"""One reader per source and spec: opened when first asked for, kept while the spec stays the same."""

from __future__ import annotations

import threading
from pathlib import Path

from controllers.sources import git_address, git_trust
from controllers.sources.directory import DirectoryReader
from controllers.sources.git import GitReader
from controllers.sources.tree import SourceReader
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import SourceUnreadable
from schemas.resource import Resource
from schemas.source import SourceReason, SourceSpec, SourceType

CONFIGURED = Key("Source", DEFAULT_NAMESPACE, "default")
"""The source of ``remit.yaml``."""


class Readers:
    """Readers of this process. ``project`` is where relative paths start; remote repositories are mirrored below
    ``cache``. Thread-safe."""

    def __init__(self, project: Path, cache: Path, cluster: SourceReader | None = None) -> None:
        """``cluster`` reads the one source of type Kubernetes, where the engine has it."""
        self._project = project
        self._cache = cache
        self._cluster = cluster
        self._lock = threading.Lock()
        self._open: dict[str, tuple[SourceSpec, SourceReader]] = {}

    def __call__(self, source: Resource, spec: SourceSpec) -> SourceReader:
        """The reader of a source. Raises SourceUnreadable when its address is refused."""
        with self._lock:
            known = self._open.get(source.uid)
            if known is not None and known[0] == spec:
                return known[1]
            require_remote(source.key, spec)
            if spec.type is SourceType.KUBERNETES and self._cluster is not None and source.key == CONFIGURED:
                reader = self._cluster
            else:
                reader = make_reader(spec, self._project, self._cache)
            self._open[source.uid] = (spec, reader)
        if known is not None:
            known[1].close()
        return reader

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            readers = [reader for _, reader in self._open.values()]
            self._open.clear()
        for reader in readers:
            reader.close()


def require_remote(source: Key, spec: SourceSpec) -> None:
    """The source of a tenant comes from elsewhere: files of this machine are the operator's to share. Raises
    SourceUnreadable with AddressRefused."""
    if source.namespace == DEFAULT_NAMESPACE:
        return
    if spec.type is SourceType.KUBERNETES:
        return  # refused by name below: there is one cluster
    protocols = git_address.parse_address(spec.url).protocols.split(":")
    if spec.type is SourceType.DIRECTORY or not {"https", "ssh"}.issuperset(protocols):
        raise SourceUnreadable(
            f"{source.short} would read from this machine, as only a source of the namespace default may. Give an"
            " https:// or ssh:// URL",
            reason=SourceReason.ADDRESS_REFUSED,
        )


def make_reader(spec: SourceSpec, project: Path, cache: Path) -> SourceReader:
    """A new reader for a spec. Raises SourceUnreadable when its address is refused."""
    if spec.type is SourceType.KUBERNETES:
        raise SourceUnreadable(
            "a cluster is read by the source of remit.yaml only: source: {kubernetes: {}}",
            reason=SourceReason.ADDRESS_REFUSED,
        )
    if spec.type is SourceType.DIRECTORY:
        return DirectoryReader(project / spec.url)
    trusted = None if spec.verify is None else git_trust.files(spec.verify, project)
    return GitReader(local_url(spec.url, project), ref=spec.ref, path=spec.path, cache=cache, trusted=trusted)


def local_url(url: str, project: Path) -> str:
    """A relative path as seen from the project; anything else as it is."""
    address = git_address.parse_address(url)
    return str((project / url).absolute()) if address.local is not None else url
