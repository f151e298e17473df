"""Writes down what people are told, and what is to go out for it, in the transaction of the caller.

One Notification for an occurrence; one effect for each channel that carries it. The key of an effect is made of the
channel's uid and the notification's name, so that writing it again changes nothing. What falls into quiet hours shares
one effect that is due at their end, and so does what comes in a storm.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from decisions import notices
from decisions.notices import Told
from decisions.quiet_hours import quiet_until
from schemas.alert import Severity
from schemas.base import Key
from schemas.channel import ChannelSpec, ChannelStatus, ChannelType
from schemas.channel import Notification as Event
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.notification import (
    Delivery,
    DeliveryState,
    NotificationReason,
    NotificationSpec,
    NotificationState,
    NotificationStatus,
)
from schemas.resource import Declared, Resource
from store.contract import Snapshot, Transaction

NOTIFY = "Notify"
"""Type of the effect that carries one message through one channel."""
MANAGER = "controller/notices"
MOST_AT_ONCE = 20
"""So many notifications of one reading go through a channel one by one; the rest follows as one message."""
_STORM = timedelta(seconds=2)
_OPEN = (DeliveryState.WAITING, DeliveryState.HELD)


@dataclass(frozen=True, slots=True)
class Place:
    """What a notification is about, and where in the log it comes from. ``read_to`` is how far
    the log was read with it, None where it does not come from there. ``whatever`` names channels that hear of it
    whatever its labels; with ``only`` no other one does. ``again`` is for
    what may have been read before: no channel hears of it that was not there yet."""

    subject: Key
    subject_uid: str
    labels: Mapping[str, str]
    at: datetime
    seq: int
    read_to: int | None
    whatever: frozenset[str] = frozenset()
    only: bool = False
    again: bool = False


class Telling:
    """What one transaction tells. Call ``finish`` at its end."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._channels: dict[str, list[tuple[Resource, ChannelSpec]]] = {}
        self._carried: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._keys: dict[str, Key] = {}

    def tell(self, name: str, namespace: str, told: Told, place: Place) -> Resource | None:
        """The notification of that name; None where nobody wants it. One that is there already stays as it is."""
        known = self._tx.get(Key("Notification", namespace, name))
        if known is not None:
            return known
        carrying = [
            (channel, spec)
            for channel, spec in self._of(namespace)
            if (not place.only or channel.name in place.whatever)
            and (not place.again or channel.created_at <= place.at)
            and notices.routed(spec, told, place.labels, whatever_labels=channel.name in place.whatever)
        ]
        if not carrying and not (told.event in notices.CENTRE and not self._has_centre(namespace)):
            return None
        deliveries = tuple(self._plan(name, told, channel, spec) for channel, spec in carrying)
        spec = NotificationSpec(
            event=told.event, severity=told.severity, subject=str(place.subject), subject_uid=place.subject_uid,
            labels=dict(place.labels), title=told.title, text=told.text, command=told.command, until=told.until,
            at=place.at, event_seq=place.seq,
        )  # fmt: skip
        made = self._tx.create(
            Declared("Notification", namespace, name, spec.to_wire()),
            manager=MANAGER,
            owner_uid=place.subject_uid,
            status=summed(NotificationStatus(observed_generation=1), deliveries, self._tx.now).to_wire(),
        )
        data: dict[str, object] = {
            "related": [place.subject_uid] if place.subject_uid else [],
            "channels": [delivery.channel for delivery in deliveries],
        }
        type_ = EventType.CREATED
        if place.read_to is not None:
            type_, data["to"] = EventType.NOTIFIED, place.read_to
        self._tx.event(type_, made, reason=told.event, message=told.title, data=data)
        for delivery, (channel, _) in zip(deliveries, carrying, strict=True):
            if delivery.state in _OPEN:
                payload = {"channelUid": channel.uid, "notification": name if delivery.due is None else ""}
                self._tx.enqueue(NOTIFY, delivery.key, channel.key, payload, due_at=delivery.due)
        return made

    def finish(self) -> None:
        """Bring the counts of the channels forward."""
        for uid in sorted({*self._waiting, *self._shown}):
            channel = self._tx.get(self._keys[uid])
            if channel is None:
                continue
            status = ChannelStatus.model_validate(channel.status)
            update: dict[str, object] = {"waiting": status.waiting + self._waiting[uid]}
            if self._shown[uid]:
                update |= {"delivered": status.delivered + self._shown[uid], "last_delivery_time": self._tx.now}
            self._tx.put_status(channel, status.model_copy(update=update).to_wire())

    def _of(self, namespace: str) -> list[tuple[Resource, ChannelSpec]]:
        if namespace not in self._channels:
            self._channels[namespace] = channels_of(self._tx, namespace)
        return self._channels[namespace]

    def _has_centre(self, namespace: str) -> bool:
        return any(spec.type is ChannelType.DASHBOARD for _, spec in self._of(namespace))

    def _plan(self, name: str, told: Told, channel: Resource, spec: ChannelSpec) -> Delivery:
        self._keys[channel.uid] = channel.key
        key = f"notify/{channel.uid}/{name}"
        if spec.type is ChannelType.DASHBOARD:
            self._shown[channel.uid] += 1
            return Delivery(
                channel=channel.name, channel_uid=channel.uid, key=key, state=DeliveryState.SHOWN, at=self._tx.now
            )
        self._waiting[channel.uid] += 1
        state, due = DeliveryState.WAITING, None
        quiet = None if told.severity is Severity.CRITICAL else quiet_until(spec.quiet_hours, self._tx.now)
        if quiet is not None:
            state, due, key = DeliveryState.HELD, quiet, quiet_key(channel, quiet)
        elif told.severity is not Severity.CRITICAL:
            self._carried[channel.uid] += 1
            if self._carried[channel.uid] > MOST_AT_ONCE:
                state, due = DeliveryState.HELD, self._tx.now + _STORM
                key = f"notify/{channel.uid}/storm/{int(self._tx.now.timestamp() * 1_000_000)}"
        return Delivery(channel=channel.name, channel_uid=channel.uid, key=key, state=state, due=due)


def quiet_key(channel: Resource, ends: datetime) -> str:
    """Key of what goes out together at the end of quiet hours. A spec that changes meanwhile makes another one."""
    return f"notify/{channel.uid}/quiet/{int(ends.timestamp())}/{channel.generation}"


def channels_of(snapshot: Snapshot, namespace: str) -> list[tuple[Resource, ChannelSpec]]:
    """The channels of a namespace that are not being deleted, by name."""
    return [
        (channel, ChannelSpec.model_validate(channel.spec))
        for channel in snapshot.objects("Channel", namespace=namespace)
        if channel.deletion_at is None
    ]


def summed(status: NotificationStatus, deliveries: Iterable[Delivery], now: datetime) -> NotificationStatus:
    """The status that follows from the deliveries."""
    all_ = tuple(deliveries)
    states = {delivery.state for delivery in all_}
    if states & set(_OPEN):
        state, done, reason = NotificationState.WAITING, None, NotificationReason.WAITING
    elif DeliveryState.FAILED in states:
        state, done, reason = NotificationState.FAILED, False, NotificationReason.DELIVERY_FAILED
    elif DeliveryState.SENT in states:
        state, done, reason = NotificationState.SENT, True, NotificationReason.SENT
    else:
        state, done, reason = NotificationState.SHOWN, True, NotificationReason.SHOWN
    failed = "; ".join(f"{d.channel}: {d.error}" for d in all_ if d.error)
    conditions = set_condition(status.conditions, "Succeeded", done, reason, failed, now=now, generation=1)
    return status.model_copy(update={"state": state, "conditions": conditions, "deliveries": all_})


def is_open(delivery: Delivery) -> bool:
    """Whether it is still to go out."""
    return delivery.state in _OPEN


def waiting_with(snapshot: Snapshot, namespace: str, key: str) -> list[Resource]:
    """The notifications that go out with one effect, oldest first. Looks at those that wait only."""
    found = snapshot.objects("Notification", namespace=namespace, states=[NotificationState.WAITING])
    return [
        notice
        for notice in sorted(found, key=lambda n: (str(n.spec["at"]), n.name))
        if any(d.get("key") == key for d in notice.status.get("deliveries", ()))
    ]


def by_event(events: Iterable[Event]) -> Mapping[Event, int]:
    """How many of each, most first."""
    counted: dict[Event, int] = defaultdict(int)
    for event in events:
        counted[event] += 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
