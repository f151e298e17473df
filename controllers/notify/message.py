"""What a sender is given, and what it answers: the seam between notifications and the services that carry them. Chats
that take answers as well will send through it too, and keep what ``send`` returns to know a message again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from schemas.quantities import format_time


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message: plain text, bounded, redacted. ``key`` is the same for every try. ``title`` is one line.
    ``notices`` are the notifications in it as JSON, for programs; one, or those of a digest, oldest first."""

    key: str
    title: str
    text: str
    severity: str
    namespace: str
    channel: str
    at: datetime
    notices: tuple[dict[str, Any], ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """JSON form; the same at every try."""
        return {
            "apiVersion": "remit.dev/v1alpha1",
            "kind": "NotificationList",
            "key": self.key,
            "namespace": self.namespace,
            "channel": self.channel,
            "title": self.title,
            "text": self.text,
            "severity": self.severity,
            "at": format_time(self.at),
            "notifications": list(self.notices),
        }


class Sender(Protocol):
    """Carries messages to one place."""

    def send(self, message: Outgoing) -> str:
        """Hand the message over; returns its id in the service, "" where it gives none. Blocks, for half a minute at
        most. Handing it over again has to be harmless as far as the service allows. Raises Retry for what may pass,
        Terminal for what never will; no text of an error holds a credential or an address with one."""
        ...
