"""The listing of a source that was compared last, kept beside the compiled files: the next process that looks at
everything, over the same tree, does not ask git for every folder and the size of every file.

A tree's id tells its content, and its objects were verified when it was listed. Only listings without symlinks and
problems are kept.
"""

from __future__ import annotations

import json

from controllers.sources.compile import BlobCache, compiler_version
from controllers.sources.tree import Entry, Extent, Tree, Version


def record(uid: str, tree: Tree) -> dict[str, bytes]:
    """Rows for the cache: the listing of the source with that uid; none for one that is not to be kept."""
    if tree.extent is None:
        return {}
    entries = [[e.path, e.blob, e.size, e.mode] for e in tree.entries]
    form = [tree.tree_id, tree.extent.files, tree.extent.nodes, entries]
    return {_name(uid): json.dumps(form, separators=(",", ":")).encode()}


def recall(cache: BlobCache, uid: str, version: Version) -> Tree | None:
    """The listing of a version, if it is the one that was recorded last."""
    for _, data in cache.cached_blobs(compiler_version(), [_name(uid)]):
        tree_id, files, nodes, entries = json.loads(data)
        if tree_id == version.tree_id:
            found = tuple(Entry(*entry) for entry in entries)
            return Tree(version.revision, version.commit, tree_id, found, (), Extent(files, nodes))
    return None


def _name(uid: str) -> str:
    return f"listing:{uid}"  # no blob id of git has a colon
