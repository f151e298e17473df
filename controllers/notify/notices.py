"""Reads the event log, and tells people of what is news in it.

Whoever writes an event, engine or command, writes nothing for this. What was read stands in the log as well: each
Notification is made in one transaction with an event (Notified) that says up to where the log was read, and reading
goes on behind the newest of these. So a transaction that causes news costs nothing more, nothing is told twice, and
nothing is lost between an event and its notification, whenever the engine dies. Each event is read once; a quiet log
costs a look at the store's version.
"""

from __future__ import annotations

from controllers.notify.telling import Place, Telling, channels_of
from controllers.runs.redaction_level import level_of
from decisions import notices
from decisions.notices import About, Happened
from schemas.base import Key, ObjectRef
from schemas.channel import ChannelSpec, ChannelType
from schemas.channel import Notification as Kind
from schemas.errors import StoreError
from schemas.event import EventType
from schemas.redaction import Redactor
from schemas.resource import Actor, ActorKind, Resource
from store.contract import Event, Snapshot, Store, Transaction

ACTOR = Actor(ActorKind.SYSTEM, "controller:notices", "Engine")
BATCH = 1_000
"""Events that are read in one go."""
TOLD_AT_ONCE = 50
"""Notifications that are made in one transaction: others wait for its end."""
NOTE_EVERY = 1_000
"""Events after which it is noted how far reading went, also where nothing was news."""
_ENGINE = Key("Engine", "", "engine")


def begin(tx: Transaction) -> None:
    """Note where reading begins, on a store that nobody read before: what happened until now is no news."""
    if not tx.events(types=[EventType.NOTIFIED], newest_first=True, limit=1):
        _note(tx, _newest(tx))


def read_to(snapshot: Snapshot) -> int:
    """How far the log was read: behind this row everything is news."""
    noted = snapshot.events(types=[EventType.NOTIFIED], newest_first=True, limit=1)
    return int(noted[0].data.get("to", 0)) if noted else _newest(snapshot)


class Notices:
    """Reads for one engine at a time. Remembers how far it read; not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after: int | None = None
        self._noted = 0
        self._began = 0  # up to here the log was perhaps read before, with what was declared then
        self._version = -1

    def read(self) -> int:
        """Tell of what happened since; how many notifications were made. Raises StoreError: the next call goes on
        where the store says that this one came to."""
        version = self._store.cursor()
        if version == self._version:
            return 0
        made = 0
        try:
            more = True
            while more:
                count, more = self._batch()
                made += count
        except StoreError:
            self._after = None  # what was committed, and what not, stands in the store
            raise
        self._version = version
        return made

    def _batch(self) -> tuple[int, bool]:
        """(notifications that were made, whether there may be more to read)."""
        with self._store.snapshot() as snapshot:
            if self._after is None:
                self._after = self._noted = read_to(snapshot)
                self._began = _newest(snapshot)
            found = snapshot.events(after=self._after, types=notices.READ, limit=BATCH)
            more = len(found) == BATCH
            end = found[-1].seq if more else _newest(snapshot)
            candidates = _wanted(snapshot, found)
        made = 0
        for start in range(0, len(candidates), TOLD_AT_ONCE):
            part = candidates[start : start + TOLD_AT_ONCE]
            with self._store.transaction(ACTOR) as tx:
                telling = Telling(tx)
                made += sum(
                    _tell(tx, telling, kind, happened, again=happened.seq <= self._began) for kind, happened in part
                )
                telling.finish()
            self._after = self._noted = part[-1][1].seq
        if end - self._noted >= NOTE_EVERY:
            with self._store.transaction(ACTOR) as tx:
                _note(tx, end)
            self._noted = end
        self._after = end
        return made, more


def _newest(snapshot: Snapshot) -> int:
    newest = snapshot.events(limit=1, newest_first=True)
    return newest[0].seq if newest else 0


def _note(tx: Transaction, seq: int) -> None:
    tx.event(EventType.NOTIFIED, _ENGINE, reason="Read", message=f"the log was read up to {seq}", data={"to": seq})


def _wanted(snapshot: Snapshot, events: list[Event]) -> list[tuple[Kind, Happened]]:
    """Those that somebody is to be told of, as far as they say by themselves."""
    found: list[tuple[Kind, Happened]] = []
    channels: dict[str, list[ChannelSpec]] = {}
    for event in events:
        happened = _happened(event)
        kind = notices.kind_of(happened)
        if kind is None:
            continue
        specs = channels.get(happened.namespace)
        if specs is None:
            specs = channels[happened.namespace] = [spec for _, spec in channels_of(snapshot, happened.namespace)]
        centre = kind in notices.CENTRE and not any(spec.type is ChannelType.DASHBOARD for spec in specs)
        if centre or any(notices.wants(spec, kind) for spec in specs):
            found.append((kind, happened))
    return found


def _happened(event: Event) -> Happened:
    return Happened(
        event.seq, event.at, event.type, event.subject, event.subject_uid, str(event.actor), event.reason,
        event.message, event.data,
    )  # fmt: skip


def _tell(tx: Transaction, telling: Telling, kind: Kind, happened: Happened, *, again: bool) -> int:
    """Tell of one; 1 if it became a notification."""
    subject = tx.get_by_uid(happened.subject_uid) if happened.subject_uid else tx.get(happened.subject)
    about, mission = _about(tx, happened, subject)
    redactor = Redactor((), level_of(tx, _agent(tx, mission)))
    told = notices.compose(kind, happened, about, redactor.text)
    if told is None:
        return 0
    place = Place(
        happened.subject, happened.subject_uid, about.labels, happened.at, happened.seq, happened.seq, about.channels,
        only=kind is Kind.MESSAGE, again=again,
    )  # fmt: skip
    name = f"{happened.seq:012d}-{kind.lower()}"
    return int(telling.tell(name, happened.namespace, told, place) is not None)


def _about(tx: Transaction, happened: Happened, subject: Resource | None) -> tuple[About, Resource | None]:
    """What is known of the subject, and its mission."""
    if subject is None:
        return About(), None
    mission = _mission(tx, subject)
    labels = dict(subject.labels)
    if mission is not None:
        labels = {**mission.labels, **labels}
    channels = frozenset({_project_channel(tx, mission or subject)} - {""})
    if subject.kind == "Message":
        ref = subject.spec.get("channelRef")
        key = ObjectRef.model_validate(ref).key("Channel", subject.namespace) if ref else None
        channels = frozenset({key.name} if key is not None and key.namespace == subject.namespace else ())
    return About(
        spec=subject.spec,
        status=subject.status,
        mission=mission.name if mission is not None else "",
        mission_status=mission.status if mission is not None else {},
        labels=labels,
        channels=channels,
    ), mission


def _mission(tx: Transaction, subject: Resource) -> Resource | None:
    if subject.kind == "Mission":
        return subject
    ref = subject.spec.get("missionRef")
    if isinstance(ref, dict):
        return tx.get(ObjectRef.model_validate(ref).key("Mission", subject.namespace))
    owner = tx.get_by_uid(subject.owner_uid) if subject.owner_uid else None
    return owner if owner is not None and owner.kind == "Mission" else None


def _project_channel(tx: Transaction, subject: Resource) -> str:
    """Name of the channel that the subject's project sends its news to; "" where it has none of its namespace."""
    ref = subject.spec.get("projectRef")
    if not isinstance(ref, dict):
        return ""
    project = tx.get(ObjectRef.model_validate(ref).key("Project", subject.namespace))
    channel = project.spec.get("channelRef") if project is not None else None
    if project is None or not isinstance(channel, dict):
        return ""
    key = ObjectRef.model_validate(channel).key("Channel", project.namespace)
    return key.name if key.namespace == subject.namespace else ""


def _agent(tx: Transaction, mission: Resource | None) -> Resource | None:
    ref = mission.status.get("agent") if mission is not None else None
    if mission is None or not isinstance(ref, dict):
        return None
    return tx.get(Key("Agent", ref.get("namespace") or mission.namespace, str(ref["name"])))
