"""A World whose people are told: the reader of the log and the outbox of channels beside the reconcilers, and services
that a test can break."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta

from controllers.notify import delivery, notices
from controllers.notify.message import Outgoing
from controllers.runtime.blocking import InlineBlocking
from schemas.channel import ChannelSpec
from schemas.errors import Retry, Terminal
from schemas.notification import NotificationStatus
from schemas.resource import SYSTEM, Resource
from store.contract import EffectState
from tests.fakes.world import World

MAX_TRIES = 20


def channel(name: str = "ops", *, routes: str = "", more: str = "", namespace: str = "default") -> str:
    """A Webhook channel; ``routes`` and ``more`` are YAML flow text."""
    text = f"  routes: {routes}\n" if routes else ""
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Channel\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec:\n  type: Webhook\n  webhook: {{url: 'https://{name}.example/hook'}}\n{text}{more}"
    )


@dataclass
class ToldWorld(World):
    """``outside`` are the messages that services took, with the channel. ``broken`` maps a channel to what its service
    answers; ``dies`` names a moment at which the engine is killed: before or after the message went out.
    While ``silent`` nothing is carried out."""

    outside: list[tuple[str, Outgoing]] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)
    dies: str = ""
    silent: bool = False

    def _restart(self) -> None:
        super()._restart()
        self.notices = notices.Notices(self.store)
        self.deliveries = delivery.Deliveries(self.store, self._send, blocking=InlineBlocking(), now=self.clock)
        self.random = random.Random(1)
        with self.store.transaction(SYSTEM) as tx:
            notices.begin(tx)

    def _send(self, spec: ChannelSpec, namespace: str, message: Outgoing) -> str:
        fault = self.broken.get(message.channel)
        if fault is not None:
            raise fault
        self.outside.append((message.channel, message))
        return f"id-{len(self.outside)}"

    def _deliver(self) -> bool:
        worked = super()._deliver()
        worked = bool(self.notices.read()) or worked
        if self.silent:
            return worked
        with self.store.transaction(SYSTEM) as tx:
            claimed = tx.claim_effects("test", types=[delivery.NOTIFY], limit=100, lease_s=60)
        for effect in claimed:
            if self.dies == "before":
                self.dies = ""
                self._restart()  # gives the claims back
                return True
            try:
                commit = self.deliveries.deliver_now(effect)
            except (Retry, Terminal) as error:
                dead = isinstance(error, Terminal) or effect.tries >= MAX_TRIES
                after = getattr(error, "after", None) or 1.0
                with self.store.transaction(SYSTEM) as tx:
                    tx.fail_effect(effect, str(error), retry_at=None if dead else tx.now + timedelta(seconds=after))
                    if dead:
                        delivery.give_up(tx, effect, str(error))
                continue
            if self.dies == "after":
                self.dies = ""
                self._restart()
                return True
            with self.store.transaction(SYSTEM) as tx:
                tx.finish_effect(effect)
                if commit is not None:
                    commit(tx)
        return worked or bool(claimed)

    # What was told.

    def said(self, channel: str = "ops") -> list[Outgoing]:
        """What went out through a channel."""
        return [message for name, message in self.outside if name == channel]

    def titles(self, channel: str = "ops") -> list[str]:
        """The first lines of it."""
        return [message.title for message in self.said(channel)]

    def centre(self, namespace: str = "default") -> list[Resource]:
        """The notifications that are kept."""
        with self.store.snapshot() as snapshot:
            return snapshot.objects("Notification", namespace=namespace)

    def kinds(self) -> list[str]:
        """What they are about, oldest first."""
        return [str(notice.spec["event"]) for notice in self.centre()]

    def deliveries_of(self, notice: Resource) -> list[str]:
        """``channel/State`` of each."""
        status = NotificationStatus.model_validate(notice.status)
        return [f"{d.channel}/{d.state}" for d in status.deliveries]

    def open_effects(self) -> int:
        """Effects that are still to go out."""
        with self.store.snapshot() as snapshot:
            found = snapshot.effects(states=[EffectState.PENDING, EffectState.CLAIMED], type=delivery.NOTIFY)
        return len(found)
