"""Channel: whether it works, what quiet hours keep back, and the daily summary, which is made once for each day however
many channels and engines there are: its record and how far the channel saw to it stand in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from controllers.notify import standup as facts
from controllers.notify import telling
from controllers.notify.telling import NOTIFY, Place, Telling
from controllers.reconcilers import owned, writing
from controllers.runtime.result import DONE, Result
from decisions import standup
from decisions.notices import SEVERITIES, Told, wants
from decisions.quiet_hours import following, latest, quiet_until
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.channel import ChannelReason, ChannelSpec, ChannelStatus, Notification
from schemas.conditions import find, set_condition
from schemas.notification import DeliveryState, NotificationState, NotificationStatus
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from schemas.standup import Standup
from store.contract import Transaction

Problem = Callable[[ChannelSpec, str], str]
"""Why a channel of this spec, in this namespace, cannot send; "" when nothing is known against it."""
NO_PRIVATE = "webhook.allowPrivate counts in the namespace default only: it reaches public addresses"
TOO_LATE = timedelta(hours=12)
"""A summary that nobody was there to make is made up for this long."""


class Channels:
    """Reconciles Channels. ``when`` is the time of the daily summary where a tenant does not say."""

    def __init__(self, problem: Problem | None = None, when: Standup | None = None) -> None:
        self._problem = problem or (lambda spec, namespace: "")
        self._when = when or Standup()

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """One pass over a Channel."""
        channel = tx.get(key)
        if channel is None:
            return writing.gone(tx, key)
        if channel.deletion_at is not None:
            return owned.finish(tx, channel, "what still waited for it is dropped")
        spec = ChannelSpec.model_validate(channel.spec)
        if ChannelStatus.model_validate(channel.status).observed_generation != channel.generation:
            _rearrange(tx, channel, spec)
        wake = self._summarize(tx, channel, spec)
        channel = tx.get(key) or channel
        old = ChannelStatus.model_validate(channel.status)
        token = channel.annotations.get(RECONCILE_REQUESTED_AT)
        looked = token is not None and token != old.last_handled_reconcile
        ready, reason, message = self._judge(channel, spec, old, looked=looked)
        conditions = set_condition(
            old.conditions, "Ready", ready, reason, message, now=tx.now, generation=channel.generation
        )
        update: dict[str, object] = {
            "conditions": conditions,
            "observed_generation": channel.generation,
            "last_handled_reconcile": token or old.last_handled_reconcile,
        }
        if reason is not ChannelReason.DELIVERY_FAILED:
            update["last_error"] = ""
        channel = writing.put_status(tx, channel, old.model_copy(update=update))
        writing.note_ready(tx, channel, old.conditions, conditions)
        if wake is None:
            tx.clear_timer(key, writing.WAKE)
            return DONE
        return writing.wake_at(tx, channel, wake)

    def _judge(
        self, channel: Resource, spec: ChannelSpec, old: ChannelStatus, *, looked: bool
    ) -> tuple[bool, ChannelReason, str]:
        if spec.suspend:
            return False, ChannelReason.SUSPENDED, "spec.suspend is set: nothing is sent, now or later"
        before = find(old.conditions, "Ready")
        failing = before is not None and before.reason == ChannelReason.DELIVERY_FAILED
        if failing and old.observed_generation == channel.generation and not looked and before is not None:
            return False, ChannelReason.DELIVERY_FAILED, before.message  # until something goes out again
        problem = self._problem(spec, channel.namespace)
        if problem:
            return False, ChannelReason.SECRET_NOT_FOUND, problem
        if spec.webhook is not None and spec.webhook.allow_private and channel.namespace != DEFAULT_NAMESPACE:
            return True, ChannelReason.RECONCILED, NO_PRIVATE
        return True, ChannelReason.RECONCILED, ""

    def _summarize(self, tx: Transaction, channel: Resource, spec: ChannelSpec) -> datetime | None:
        """Make the summary that is due; returns when the next one is. What happened since the one before is in it."""
        status = ChannelStatus.model_validate(channel.status)
        if not wants(spec, Notification.DAILY_SUMMARY):
            if status.summarized_to is not None:
                tx.put_status(channel, status.model_copy(update={"summarized_to": None}).to_wire())
            return None
        when = facts.time_of(tx, channel.namespace, self._when)
        due = latest(when.at, when.time_zone, tx.now)
        since = status.summarized_to
        if since is None or due > since:
            seen = tx.now if since is None else due
            channel = tx.put_status(channel, status.model_copy(update={"summarized_to": seen}).to_wire())
        if since is not None and due > since and tx.now - due < TOO_LATE:
            self._tell(tx, channel.namespace, since, due, when)
        return following(when.at, when.time_zone, tx.now)

    def _tell(self, tx: Transaction, namespace: str, since: datetime, due: datetime, when: Standup) -> None:
        day = due.astimezone(ZoneInfo(when.time_zone)).date()
        name = f"daily-{day:%Y-%m-%d}"
        if tx.get(Key("Notification", namespace, name)) is not None:
            return
        standing = facts.gather(tx, namespace, since, tx.now)
        told = Told(
            Notification.DAILY_SUMMARY, SEVERITIES[Notification.DAILY_SUMMARY], standup.title(standing),
            standup.text(standing), "remit standup" + ("" if namespace == "default" else f" -n {namespace}"),
        )  # fmt: skip
        # It comes from no row of the log, so it moves no cursor.
        place = Place(Key("Tenant", "", namespace), "", {}, due, 0, None)
        made = Telling(tx)
        made.tell(name, namespace, told, place)
        made.finish()


def _rearrange(tx: Transaction, channel: Resource, spec: ChannelSpec) -> None:
    """The quiet hours may be others now: what they kept back goes out at their end, or now."""
    ends = quiet_until(spec.quiet_hours, tx.now)
    due = ends or tx.now
    key = telling.quiet_key(channel, due)
    moved: dict[str, bool] = {}
    for notice in tx.objects("Notification", namespace=channel.namespace, states=[NotificationState.WAITING]):
        status = NotificationStatus.model_validate(notice.status)
        changed = []
        for delivery in status.deliveries:
            kept = delivery.channel_uid == channel.uid and delivery.state is DeliveryState.HELD
            if kept and delivery.key != key and delivery.due is not None and delivery.due > tx.now:
                if delivery.key not in moved:
                    moved[delivery.key] = tx.drop_effect(delivery.key)
                if moved[delivery.key]:
                    delivery = delivery.model_copy(update={"key": key, "due": due})
            changed.append(delivery)
        if tuple(changed) != status.deliveries:
            tx.put_status(notice, telling.summed(status, changed, tx.now).to_wire())
    if any(moved.values()):
        tx.enqueue(NOTIFY, key, channel.key, {"channelUid": channel.uid, "notification": ""}, due_at=due)
