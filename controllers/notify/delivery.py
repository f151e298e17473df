"""Notify: from the outbox through a channel, and what became of it back to the notifications and the channel."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from controllers.effects.runner import Commit
from controllers.notify import telling
from controllers.notify.message import Outgoing
from controllers.runtime.blocking import Blocking
from decisions import visible
from decisions.quiet_hours import quiet_until
from schemas.alert import SEVERITY_ORDER, Severity
from schemas.base import Key
from schemas.channel import ChannelReason, ChannelSpec, ChannelStatus
from schemas.channel import Notification as Event
from schemas.conditions import find, set_condition
from schemas.errors import Retry, StoreError, Terminal
from schemas.event import EventType
from schemas.message import MessageReason, MessageState, MessageStatus
from schemas.notification import Delivery, DeliveryState, NotificationSpec, NotificationStatus
from schemas.resource import SYSTEM, Resource
from store.contract import Effect, Snapshot, Store, Transaction

log = logging.getLogger(__name__)

NOTIFY = telling.NOTIFY

Send = Callable[[ChannelSpec, str, Outgoing], str]
"""Hands a message to the service of a channel (of this spec, in this namespace). Blocks. As ``message.Sender``."""
MOST_SHOWN = 40
"""Notifications that a digest names one by one."""
LONGEST_PAUSE_S = 3_600.0
_FIRST_PAUSE_S = 1.0
_ERROR = 300


class Deliveries:
    """Handler of Notify."""

    def __init__(self, store: Store, send: Send, *, blocking: Blocking, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._send = send
        self._blocking = blocking

    async def deliver(self, effect: Effect) -> Commit | None:
        """Send what waits under the effect's key. At least once: a try whose end nobody wrote down is made again, with
        the same key and the same words."""
        return await self._blocking.run(self.deliver_now, effect)

    def deliver_now(self, effect: Effect) -> Commit | None:
        """The same, in this thread."""
        with self._store.snapshot() as snapshot:
            channel = snapshot.get_by_uid(str(effect.payload["channelUid"]))
            found = waiting(snapshot, effect)
        if not found:
            return None  # they were forgotten, or carried before
        if channel is None or channel.deletion_at is not None:
            return functools.partial(_end, effect, DeliveryState.DROPPED, "the channel is gone", "")
        spec = ChannelSpec.model_validate(channel.spec)
        if spec.suspend:
            return functools.partial(_end, effect, DeliveryState.DROPPED, "the channel is suspended", "")
        quiet = None if _is_critical(found) else quiet_until(spec.quiet_hours, self._now())
        if quiet is not None and effect.tries == 1:  # it was never tried: it may still go out under another key
            return functools.partial(_hold, effect, channel, quiet)
        message = compose(effect.key, channel, found)
        try:
            external = self._send(spec, channel.namespace, message)
        except (Retry, Terminal) as error:
            text = visible.line(str(error), _ERROR)
            self._note(channel, text)
            if isinstance(error, Terminal):
                raise Terminal(text) from None
            raise Retry(text, after=self._pause(effect, spec, found, error.after)) from None
        return functools.partial(_end, effect, DeliveryState.SENT, "", external)

    def _pause(self, effect: Effect, spec: ChannelSpec, found: Sequence[Resource], after: float | None) -> float:
        """Seconds before the next try, which does not fall into quiet hours."""
        seconds = pause(effect.tries, after)
        then = self._now() + timedelta(seconds=seconds)
        quiet = None if _is_critical(found) else quiet_until(spec.quiet_hours, then)
        return seconds if quiet is None else (quiet - self._now()).total_seconds()

    def _note(self, channel: Resource, error: str) -> None:
        """Show on the channel that it does not work; what is tried again says so in the meantime."""
        try:
            with self._store.transaction(SYSTEM) as tx:
                current = tx.get_by_uid(channel.uid)
                if current is not None:
                    _put(tx, current, error=error)
        except StoreError as fault:
            log.warning("%s: its status could not be written: %s", channel.key.short, fault)


def pause(tries: int, after: float | None) -> float:
    """Seconds before the next try: what the service asks for, or twice as long each time, an hour at most. Twenty tries
    take nine hours."""
    wanted = _FIRST_PAUSE_S * 2 ** min(tries, 20) if after is None else max(after, _FIRST_PAUSE_S)
    return min(wanted, LONGEST_PAUSE_S)


def _is_critical(found: Sequence[Resource]) -> bool:
    return any(notice.spec["severity"] == Severity.CRITICAL for notice in found)


def _hold(effect: Effect, channel: Resource, ends: datetime, tx: Transaction) -> None:
    """Quiet hours began before it could go out: it follows at their end, with what else they keep back."""
    key = telling.quiet_key(channel, ends)
    for notice in waiting(tx, effect):
        status = NotificationStatus.model_validate(notice.status)
        update = {"key": key, "state": DeliveryState.HELD, "due": ends}
        moved = [d.model_copy(update=update) if d.key == effect.key else d for d in status.deliveries]
        tx.put_status(notice, telling.summed(status, moved, tx.now).to_wire())
    tx.enqueue(NOTIFY, key, channel.key, {"channelUid": channel.uid, "notification": ""}, due_at=ends)


def give_up(tx: Transaction, effect: Effect, message: str) -> None:
    """It went nowhere, for good."""
    _end(effect, DeliveryState.FAILED, visible.line(message, _ERROR), "", tx)


def waiting(snapshot: Snapshot, effect: Effect) -> list[Resource]:
    """What the effect carries that has not gone out yet."""
    name = str(effect.payload.get("notification", ""))
    if not name:
        return telling.waiting_with(snapshot, effect.subject.namespace, effect.key)
    notice = snapshot.get(Key("Notification", effect.subject.namespace, name))
    if notice is None:
        return []
    status = NotificationStatus.model_validate(notice.status)
    return [notice] if any(d.key == effect.key and telling.is_open(d) for d in status.deliveries) else []


def compose(key: str, channel: Resource, found: Sequence[Resource]) -> Outgoing:
    """The message: one notification as it is, several as a digest."""
    specs = [NotificationSpec.model_validate(notice.spec) for notice in found]
    wires = tuple({"name": notice.name, "uid": notice.uid, **notice.spec} for notice in found[:MOST_SHOWN])
    if len(specs) == 1:
        (spec,) = specs
        return Outgoing(key, spec.title, spec.text, spec.severity, channel.namespace, channel.name, spec.at, wires)
    counted = ", ".join(f"{count} {event}" for event, count in telling.by_event(spec.event for spec in specs).items())
    severity = max((spec.severity for spec in specs), key=SEVERITY_ORDER.index, default=Severity.LOW)
    lines = []
    for spec in sorted(specs, key=lambda s: -SEVERITY_ORDER.index(s.severity))[:MOST_SHOWN]:
        lines.append(f"- {spec.severity}: {visible.line(spec.title, 70)}")
    if len(specs) > MOST_SHOWN:
        lines.append(f"and {len(specs) - MOST_SHOWN} more")
    place = f" -n {channel.namespace}" if channel.namespace != "default" else ""
    lines.append(f"Do: remit get notifications{place}")
    title = visible.line(f"{len(specs)} notifications: {counted}", 200)
    return Outgoing(key, title, "\n".join(lines), severity, channel.namespace, channel.name, specs[-1].at, wires)


def _end(effect: Effect, state: DeliveryState, error: str, external: str, tx: Transaction) -> None:
    """Write down how the way through the channel ended, for each notification, and count it on the channel."""
    ended = 0
    for notice in waiting(tx, effect):
        status = NotificationStatus.model_validate(notice.status)
        changed: list[Delivery] = []
        for delivery in status.deliveries:
            if delivery.key == effect.key and telling.is_open(delivery):
                ended += 1
                update = {"state": state, "at": tx.now, "error": error, "external_id": external[:300]}
                delivery = delivery.model_copy(update=update)
            changed.append(delivery)
        tx.put_status(notice, telling.summed(status, changed, tx.now).to_wire())
        if notice.spec["event"] == Event.MESSAGE:
            _end_message(tx, notice, state, error, external)
    channel = tx.get_by_uid(str(effect.payload["channelUid"]))
    if channel is not None and ended:
        _put(tx, channel, ended=ended, sent=state is DeliveryState.SENT, error=error)


def _end_message(tx: Transaction, notice: Resource, state: DeliveryState, error: str, external: str) -> None:
    """What was said through the channel has arrived, or has not."""
    message = tx.get_by_uid(str(notice.spec.get("subjectUid", "")))
    if message is None or message.kind != "Message" or message.state != MessageState.PENDING:
        return
    old = MessageStatus.model_validate(message.status)
    sent = state is DeliveryState.SENT
    reason = MessageReason.DELIVERED if sent else MessageReason.DELIVERY_FAILED
    conditions = set_condition(
        old.conditions, "Succeeded", sent, reason, error, now=tx.now, generation=message.generation
    )
    update: dict[str, object] = {
        "state": MessageState.DELIVERED if sent else MessageState.FAILED,
        "conditions": conditions,
        "attempts": old.attempts + 1,
        "last_error": error,
    }
    if sent:
        update |= {"sent_at": tx.now, "delivered_at": tx.now}
    tx.put_status(message, old.model_copy(update=update).to_wire())
    tx.event(EventType.MESSAGE_ENDED, message, reason=reason, message=error, data={"related": [message.owner_uid]})


def _put(tx: Transaction, channel: Resource, *, ended: int = 0, sent: bool = False, error: str = "") -> None:
    old = ChannelStatus.model_validate(channel.status)
    update: dict[str, object] = {"waiting": max(0, old.waiting - ended)}
    before = find(old.conditions, "Ready")
    failing = before is not None and before.reason == ChannelReason.DELIVERY_FAILED
    conditions = old.conditions
    if sent:
        update |= {"delivered": old.delivered + ended, "last_delivery_time": tx.now, "last_error": ""}
        if failing:
            conditions = set_condition(
                conditions, "Ready", True, ChannelReason.RECONCILED, "", now=tx.now, generation=channel.generation
            )
    elif error and not (before is not None and before.reason == ChannelReason.SUSPENDED):
        update |= {"last_error": error}
        conditions = set_condition(
            conditions, "Ready", False, ChannelReason.DELIVERY_FAILED, error, now=tx.now, generation=channel.generation
        )
    new = old.model_copy(update={**update, "conditions": conditions})
    channel = tx.put_status(channel, new.to_wire())
    now = find(conditions, "Ready")
    if now is not None and before is not None and (now.status, now.reason) != (before.status, before.reason):
        tx.event(
            EventType.CONDITION_CHANGED, channel, reason=now.reason,
            message=f"Ready={now.status}" + (f": {now.message}" if now.message else ""),
            data={"condition": "Ready", "status": now.status.value},
        )  # fmt: skip
