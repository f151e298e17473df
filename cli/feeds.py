"""The schedule feed as documents: one form for the command and for HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from schemas.base import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from decisions.feed import Entry, Feed
    from store.contract import Snapshot


def as_document(shown: Sequence[Entry], found: Feed, begin: datetime, end: datetime) -> dict[str, Any]:
    """Entries as JSON; ``cut`` are schedules that fire too often to be shown whole."""
    from controllers.calendars import entries
    from schemas.quantities import format_time

    return {
        "apiVersion": API_VERSION,
        "kind": "ScheduleFeed",
        "from": format_time(begin),
        "to": format_time(end),
        "items": [entries.wire(entry) for entry in shown],
        "cut": [{"subject": entries.ref(key), "from": format_time(first)} for key, first in sorted(found.cut.items())],
    }


class StoreFeeds:
    """``api.read.engine.Feeds`` over the store."""

    def document(self, snapshot: Snapshot, begin: datetime, end: datetime, namespace: str | None) -> dict[str, Any]:
        """See ``Feeds.document``."""
        from controllers.calendars import entries

        found = entries.gather(snapshot, begin, end, namespace=namespace)
        return as_document(found.entries, found, begin, end)

    def ics(self, snapshot: Snapshot, begin: datetime, end: datetime, namespace: str | None, now: datetime) -> bytes:
        """See ``Feeds.ics``."""
        from controllers.calendars import entries, ics

        found = entries.gather(snapshot, begin, end, namespace=namespace)
        return ics.render(found.entries, f"Remit {namespace or 'all namespaces'}", now)
