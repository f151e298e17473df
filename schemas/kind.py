"""The description of a kind: what the registry, the CLI, JSON Schema, the read API and the CRDs are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import EnumType, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # naming kinds must not cost the import of pydantic (see registry)
    from schemas.base import Model, StatusModel


class ObjectClass(StrEnum):
    """Three classes of object: what people declare, what people do, what the engine records."""

    INTENT = "Intent"
    ACT = "Act"
    RECORD = "Record"


class Disruption(StrEnum):
    """What a change of a field does to running work. The class of a plan entry is the strongest of its fields."""

    LIVE = "Live"  # read live at the next decision; nothing running notices
    NEXT_RUN = "NextRun"  # holds from the next run on
    DRAIN = "Drain"  # running work ends first
    RESTART = "Restart"  # running work is stopped and begun again


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column: ``path`` is a dotted path into the whole object, as in ``status.state``.

    ``type`` is string, integer, date or money. ``wide`` columns show with ``-o wide`` only.
    """

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class KindInfo:
    """Everything the rest of the project needs to know about a kind. ``disruption`` maps field paths below spec
    (camelCase, longest prefix wins, "" for the default) to their class; ``immutable`` lists such paths that an
    update may not change. ``guardrail`` kinds limit agents: deleting one is a widening change. ``own_table`` records
    are rows of a table of their own, shown as objects but never stored, watched or addressed as such. ``max_name`` is
    shorter where other names are made from the name."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    object_class: ObjectClass
    spec: type[Model]
    status: type[StatusModel]
    reasons: type[StrEnum]
    description: str
    namespaced: bool = True
    bounded: bool = False  # Succeeded instead of Ready
    guardrail: bool = False
    own_table: bool = False
    max_name: int = 253
    columns: tuple[Column, ...] = ()
    immutable: tuple[str, ...] = ()
    disruption: dict[str, Disruption] = field(default_factory=dict)
    condition_types: tuple[str, ...] = ("Ready",)

    @property
    def states(self) -> tuple[str, ...]:
        """Every value of ``status.state``, in the order of their declaration; none where a kind has no such field."""
        field = self.status.model_fields.get("state")
        kind = field.annotation if field is not None else None
        return tuple(kind) if isinstance(kind, EnumType) and issubclass(kind, StrEnum) else ()

    @property
    def singular(self) -> str:
        """Lower-case kind, as typed on the command line."""
        return self.kind.lower()
