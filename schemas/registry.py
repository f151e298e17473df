"""The kinds there are, by any name people type, and the check of one declared document.

Importing this module costs a millisecond: a kind's module, and pydantic with it, is imported when the kind is first
asked for. ``NAMES`` is the table to list and match kinds by; ``by_kind`` and ``KINDS`` give the full descriptions.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from schemas.errors import UnknownName
from schemas.kind import KindInfo, ObjectClass

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from schemas.base import SpecMeta
    from schemas.resource import Declared


@dataclass(frozen=True, slots=True)
class KindName:
    """What a kind is called, and where it is described. The same as in its KindInfo, without importing it."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    object_class: ObjectClass
    module: str
    namespaced: bool = True

    @property
    def singular(self) -> str:
        """Lower-case kind, as typed on the command line."""
        return self.kind.lower()

    @property
    def info(self) -> KindInfo:
        """The full description."""
        return by_kind(self.kind)


def _names(object_class: ObjectClass, *rows: tuple[str, str, tuple[str, ...], str]) -> tuple[KindName, ...]:
    return tuple(
        KindName(kind, plural, short, object_class, f"schemas.{module}", namespaced=kind != "Tenant")
        for kind, plural, short, module in rows
    )


NAMES: tuple[KindName, ...] = (
    *_names(
        ObjectClass.INTENT,
        ("Tenant", "tenants", ("tn",), "tenant"),
        ("Project", "projects", ("prj",), "project"),
        ("Agent", "agents", ("ag",), "agent"),
        ("Executor", "executors", ("ex",), "executor"),
        ("Provider", "providers", ("pv",), "provider"),
        ("Policy", "policies", ("pol",), "policy"),
        ("ToolServer", "toolservers", ("ts",), "tool_server"),
        ("Waiver", "waivers", ("wv",), "waiver"),
        ("Budget", "budgets", ("bud",), "budget"),
        ("Goal", "goals", ("gl",), "goal"),
        ("Todo", "todos", ("td",), "todo"),
        ("Mission", "missions", ("mi",), "mission"),
        ("Schedule", "schedules", ("sched",), "schedule"),
        ("Calendar", "calendars", ("cal",), "calendar"),
        ("Channel", "channels", ("ch",), "channel"),
        ("Source", "sources", ("src",), "source"),
    ),
    *_names(
        ObjectClass.ACT,
        ("ApprovalDecision", "approvaldecisions", ("decision",), "approval_decision"),
        ("Hold", "holds", (), "hold"),
        ("Confirmation", "confirmations", (), "confirmation"),
    ),
    *_names(
        ObjectClass.RECORD,
        ("Run", "runs", (), "run"),
        ("ToolCall", "toolcalls", ("tc",), "tool_call"),
        ("Session", "sessions", ("se",), "session"),
        ("Message", "messages", ("msg",), "message"),
        ("Thread", "threads", ("th",), "thread"),
        ("ApprovalRequest", "approvalrequests", ("approval", "approvals", "ar"), "approval_request"),
        ("Alert", "alerts", ("al",), "alert"),
        ("Notification", "notifications", ("nt",), "notification"),
        ("UsageRecord", "usagerecords", ("usage",), "usage_record"),
        ("Event", "events", ("ev",), "event"),
        ("Timer", "timers", (), "timer"),
        ("Effect", "effects", (), "effect"),
    ),
)
"""Every kind, in the order in which lists of kinds are shown."""

INTENTS = tuple(n.kind for n in NAMES if n.object_class is ObjectClass.INTENT)
ACTS = tuple(n.kind for n in NAMES if n.object_class is ObjectClass.ACT)
RECORDS = tuple(n.kind for n in NAMES if n.object_class is ObjectClass.RECORD)
DECLARABLE = (*INTENTS, *ACTS)
"""Kinds that may stand in a file of a source or be given to ``apply``."""

_BY_KIND = {n.kind: n for n in NAMES}
_BY_TEXT = {text: n for n in NAMES for text in (n.singular, n.plural, *n.short_names)}
_loaded: dict[str, KindInfo] = {}


def by_kind(kind: str) -> KindInfo:
    """The description of a kind by its exact name, such as "Mission". Raises UnknownName."""
    info = _loaded.get(kind)
    if info is None:
        name = _BY_KIND.get(kind)
        if name is None:
            raise UnknownName(f"there is no kind {kind[:80]!r}{_did_you_mean(kind)}", known=tuple(_BY_KIND))
        found: KindInfo = importlib.import_module(name.module).KIND
        info = _loaded[kind] = found
    return info


def find_name(text: str) -> KindName:
    """The kind that a person means by ``text``: kind, singular, plural or short name, in any case, words joined or
    parted by ``-`` or ``_`` ("Mission", "missions", "mi", "tool-calls"). Raises UnknownName with a suggestion."""
    name = _BY_TEXT.get(text.strip().lower().replace("-", "").replace("_", ""))
    if name is None:
        raise UnknownName(f"there is no kind {text[:80]!r}{_did_you_mean(text)}", known=[n.plural for n in NAMES])
    return name


def by_name(text: str) -> KindInfo:
    """As find_name, with the full description."""
    return by_kind(find_name(text).kind)


class _Kinds(Sequence[KindInfo]):
    """The descriptions of all kinds; each is imported when it is first touched."""

    def __len__(self) -> int:
        return len(NAMES)

    @overload
    def __getitem__(self, index: int) -> KindInfo: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[KindInfo, ...]: ...
    def __getitem__(self, index: int | slice) -> KindInfo | tuple[KindInfo, ...]:
        if isinstance(index, slice):
            return tuple(name.info for name in NAMES[index])
        return NAMES[index].info

    def __iter__(self) -> Iterator[KindInfo]:
        return (name.info for name in NAMES)


KINDS: Sequence[KindInfo] = _Kinds()
"""The descriptions of all kinds, in the order of NAMES."""


def _did_you_mean(text: str) -> str:
    near = _nearest(text.lower(), [*(n.singular for n in NAMES), *(n.plural for n in NAMES)])
    return f": did you mean {_BY_TEXT[near].kind}?" if near else ""


def _nearest(text: str, known: Sequence[str]) -> str:
    """The known word that ``text`` is most likely meant to be, "" when none is near."""
    # Imported here: only what is misspelt needs it.
    import difflib

    return next(iter(difflib.get_close_matches(text[:80], known, n=1)), "")


@dataclass(frozen=True, slots=True)
class DocumentProblem:
    """Something is wrong with a document outside of what a model checks.

    ``path`` leads from the document to the field; the last part of an unknown field is its key, and the place to show
    is then the key. ``expected`` and ``hint`` may be "".
    """

    path: tuple[str | int, ...]
    message: str
    expected: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """One line, for callers that have no file to point into."""
        text = f"{_dotted(self.path)}: {self.message}" if self.path else self.message
        text += f"; expected {self.expected}" if self.expected else ""
        return f"{text} ({self.hint})" if self.hint else text


@dataclass(frozen=True, slots=True)
class ModelProblem:
    """A part of a document does not fit its model: ``error`` as pydantic raised it, its locations relative to
    ``prefix``, which is ("metadata",) or ("spec",)."""

    prefix: tuple[str | int, ...]
    error: ValidationError
    model: type[BaseModel]

    def __str__(self) -> str:
        """One line for each fault, for callers that have no file to point into."""
        return "\n".join(
            f"{_dotted((*self.prefix, *fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in self.error.errors(include_url=False, include_context=False, include_input=False)
        )


Problem = DocumentProblem | ModelProblem

_FIELDS = ("apiVersion", "kind", "metadata", "spec")
_ENGINE_FIELDS = frozenset({"status", "provenance"})
_ENGINE_METADATA = (
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "ownerReferences",
    "managedFields",
)
_REMOVE = "remove it: the engine writes it"


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in path).lstrip(".")


def check_document(value: Any, *, default_namespace: str) -> Declared | list[Problem]:
    """Check one document as it was read (plain dicts, lists and scalars) and give what it declares: canonical spec with
    every default, namespace resolved ("" for cluster-scoped kinds), no provenance. Or everything that is wrong with it,
    never an empty list, in the order of the document's fields. Raises nothing for what the value is."""
    if not isinstance(value, dict):
        return [DocumentProblem((), "not an object", "a mapping with apiVersion, kind, metadata and spec")]
    problems: list[Problem] = _unknown_fields(value)
    problems += _check_api_version(value)
    name = _check_kind(value, problems)
    meta = _check_metadata(value, name, problems)
    spec = _check_spec(value, name, problems)
    if problems or name is None or meta is None or spec is None:
        return problems
    # Imported here, as this module must not cost pydantic before a document is checked.
    from schemas.resource import Declared

    namespace = (meta.namespace or default_namespace) if name.namespaced else ""
    return Declared(name.kind, namespace, meta.name, spec, dict(meta.labels), dict(meta.annotations))


def _unknown_fields(value: dict[Any, Any]) -> list[Problem]:
    problems: list[Problem] = []
    for field in value:
        if field in _FIELDS:
            continue
        if field in _ENGINE_FIELDS:
            problems.append(DocumentProblem((field,), f"{field} has no place in a declaration", hint=_REMOVE))
            continue
        text = field if isinstance(field, str) else str(field)
        near = _nearest(text, _FIELDS)
        hint = f"did you mean {near}?" if near else "what belongs to the object stands under spec"
        problems.append(DocumentProblem((text,), "unknown field", "apiVersion, kind, metadata and spec", hint))
    return problems


def _check_api_version(value: dict[Any, Any]) -> list[Problem]:
    from schemas.base import API_VERSION

    if "apiVersion" not in value:
        return [DocumentProblem(("apiVersion",), "missing", API_VERSION)]
    if value["apiVersion"] != API_VERSION:
        return [DocumentProblem(("apiVersion",), "not a version that this engine knows", API_VERSION)]
    return []


def _check_kind(value: dict[Any, Any], problems: list[Problem]) -> KindName | None:
    kind = value.get("kind")
    if not isinstance(kind, str):
        message = "not the name of a kind" if "kind" in value else "missing"
        problems.append(DocumentProblem(("kind",), message, "a kind such as Mission"))
        return None
    name = _BY_KIND.get(kind)
    if name is None:
        hint = _did_you_mean(kind).removeprefix(": ")
        expected = "" if hint else f"one of {', '.join(DECLARABLE)}"
        problems.append(DocumentProblem(("kind",), f"there is no kind {kind[:80]!r}", expected, hint))
        return None
    if name.object_class is ObjectClass.RECORD:
        problems.append(
            DocumentProblem(
                ("kind",),
                f"{kind} is a record: the engine writes it and nobody declares it",
                f"one of {', '.join(DECLARABLE)}",
            )
        )
        return None
    return name


def _check_metadata(value: dict[Any, Any], name: KindName | None, problems: list[Problem]) -> SpecMeta | None:
    from pydantic import ValidationError

    from schemas.base import SpecMeta

    raw = value.get("metadata")
    if not isinstance(raw, dict):
        message = "not a mapping" if "metadata" in value else "missing"
        problems.append(DocumentProblem(("metadata",), message, "a mapping with at least a name"))
        return None
    written = [field for field in _ENGINE_METADATA if field in raw]
    if written:
        problems += [
            DocumentProblem(("metadata", field), f"{field} has no place in a declaration", hint=_REMOVE)
            for field in written
        ]
        raw = {key: item for key, item in raw.items() if key not in written}
    try:
        meta = SpecMeta.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        problems.append(ModelProblem(("metadata",), error, SpecMeta))
        return None
    problems += _check_annotations(meta)
    if name is not None:
        problems += _check_identity(meta, name)
    return meta


def _check_annotations(meta: SpecMeta) -> list[Problem]:
    from schemas.base import API_GROUP
    from schemas.resource import KNOWN_ANNOTATIONS

    problems: list[Problem] = []
    for key in meta.annotations:
        if key.startswith(f"{API_GROUP}/") and key not in KNOWN_ANNOTATIONS:
            near = _nearest(key, KNOWN_ANNOTATIONS)
            hint = f"did you mean {near}?" if near else "annotations of your own have another prefix, or none"
            problems.append(
                DocumentProblem(("metadata", "annotations", key), "the engine knows no such annotation", hint=hint)
            )
    return problems


def _check_identity(meta: SpecMeta, name: KindName) -> list[Problem]:
    from schemas.base import is_namespace

    problems: list[Problem] = []
    if not name.namespaced and meta.namespace is not None:
        problems.append(
            DocumentProblem(("metadata", "namespace"), f"a {name.kind} belongs to no namespace", hint="remove it")
        )
    longest = name.info.max_name
    if len(meta.name) > longest:
        problems.append(
            DocumentProblem(
                ("metadata", "name"),
                f"too long: {len(meta.name)} characters",
                f"at most {longest} for a {name.kind}, as other names are made from it",
            )
        )
    elif not name.namespaced and not is_namespace(meta.name):
        problems.append(
            DocumentProblem(
                ("metadata", "name"),
                "a namespace cannot be called like that",
                "lower-case letters, digits and '-', as it names a namespace",
            )
        )
    return problems


def _check_spec(value: dict[Any, Any], name: KindName | None, problems: list[Problem]) -> dict[str, Any] | None:
    from pydantic import ValidationError

    raw = value.get("spec")
    if not isinstance(raw, dict):
        # An emptied file must never read as "everything at its default": that would open what a Policy closes.
        message = "not a mapping" if raw is not None else "empty" if "spec" in value else "missing"
        problems.append(DocumentProblem(("spec",), message, "a mapping; {} where every default will do"))
        return None
    if name is None:
        return None
    model = name.info.spec
    try:
        return model.model_validate(raw, by_alias=True, by_name=False).to_wire()
    except ValidationError as error:
        problems.append(ModelProblem(("spec",), error, model))
        return None
