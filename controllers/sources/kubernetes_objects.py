"""One object of a cluster as one file of a source: what of it is a declaration, and under which path it stands.

What the API server and other tools keep in an object is no declaration: its status, its managed fields, annotations
with the prefix of another tool. The content is JSON, which is YAML, so one object is checked by the code that checks
files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controllers.sources.tree import Entry
from schemas import registry
from schemas.base import API_GROUP, API_VERSION, Key
from schemas.errors import UnknownName

CLUSTER: Final = "_cluster"
"""The folder of objects without a namespace; no namespace can have that name."""
MADE_BY: Final = f"{API_GROUP}/made-by"
"""The label of objects that the engine itself wrote into the cluster: they are no declarations."""
ENGINE: Final = "remit"
DECLARED: Final = f"{MADE_BY}!={ENGINE}"
"""The label selector of declarations."""
SHARD: Final = f"{API_GROUP}/shard"
"""The label of a namespace that says which engine minds it."""
# What libyaml would not take raw, or take for the end of a line.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Known:
    """One object as it was last read. ``blob`` names the uid, the generation and the content: equal blobs, equal
    content. ``version`` is its resourceVersion."""

    key: Key
    uid: str
    generation: int
    version: str
    blob: str
    content: bytes
    finalizers: tuple[str, ...] = ()
    deleting: bool = False

    @property
    def path(self) -> str:
        """Where it stands among the files of its source."""
        return path_of(self.key)

    @property
    def entry(self) -> Entry:
        """The listed file."""
        return Entry(self.path, self.blob, len(self.content), "100644")


def path_of(key: Key) -> str:
    """``<namespace>/<kind>/<name>``."""
    return f"{key.namespace or CLUSTER}/{key.kind.lower()}/{key.name}"


def key_of(path: str) -> Key | None:
    """The identity that a path stands for; None where it stands for none."""
    namespace, _, rest = path.partition("/")
    singular, _, name = rest.partition("/")
    try:
        kind = registry.find_name(singular).kind
    except UnknownName:
        return None
    return Key(kind, "" if namespace == CLUSTER else namespace, name)


def blob_parts(blob: str) -> tuple[str, int] | None:
    """(uid, generation) of the object that a blob was; None for one that is no object of a cluster."""
    uid, _, rest = blob.partition(".")
    generation, _, content = rest.partition(".")
    return (uid, int(generation)) if content and generation.isdecimal() else None


def is_made(document: Mapping[str, Any]) -> bool:
    """Whether the engine wrote an object itself."""
    labels = (document.get("metadata") or {}).get("labels") or {}
    return bool(labels.get(MADE_BY) == ENGINE)


def known(document: Mapping[str, Any], kind: str) -> Known:
    """An object of the API as it was answered."""
    meta: Mapping[str, Any] = document.get("metadata") or {}
    content = _content(document, kind, meta)
    uid, generation = str(meta.get("uid") or ""), int(meta.get("generation") or 0)
    return Known(
        Key(kind, str(meta.get("namespace") or ""), str(meta.get("name") or "")),
        uid,
        generation,
        str(meta.get("resourceVersion") or ""),
        f"{uid}.{generation}.{hashlib.sha256(content).hexdigest()[:32]}",
        content,
        tuple(str(each) for each in meta.get("finalizers") or ()),
        bool(meta.get("deletionTimestamp")),
    )


def _content(document: Mapping[str, Any], kind: str, meta: Mapping[str, Any]) -> bytes:
    written: dict[str, Any] = {"name": meta.get("name")}
    if meta.get("namespace"):
        written["namespace"] = meta["namespace"]
    if meta.get("labels"):
        written["labels"] = meta["labels"]
    notes = {name: text for name, text in (meta.get("annotations") or {}).items() if _is_ours(name)}
    if notes:
        written["annotations"] = notes
    whole: dict[str, Any] = {"apiVersion": document.get("apiVersion") or API_VERSION, "kind": kind, "metadata": written}
    if "spec" in document:
        whole["spec"] = document["spec"]
    text = json.dumps(whole, ensure_ascii=False, sort_keys=True, separators=(", ", ": "))
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _is_ours(annotation: str) -> bool:
    """Annotations with the prefix of another tool are that tool's."""
    prefix, slash, _ = annotation.rpartition("/")
    return not slash or prefix == API_GROUP
