"""What happens, as Events of the cluster, so that ``kubectl describe`` tells it.

The log of the store is what counts; these are a view of it for an hour, as Events are. The same reason on the same
object is one Event whose count goes up. An engine that starts tells what happens from then on.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from controllers.runs import text
from controllers.status.redaction import redact
from controllers.web.kubernetes import MERGE, Api, ClusterFault
from schemas import crd
from schemas.base import API_VERSION, Key
from schemas.event import EventType
from schemas.quantities import format_time
from schemas.resource import Resource
from store.contract import Event, Snapshot

log = logging.getLogger(__name__)

COMPONENT: Final = "remit"
KEPT: Final = timedelta(minutes=50)
"""After so long the API server may have forgotten an Event: a new one is begun."""
MOST: Final = 10_000
_ROWS: Final = 1_000
_MESSAGE: Final = 1_000
TOLD: Final = frozenset(
    {
        EventType.TRANSITIONED, EventType.DISPATCHED, EventType.RUN_STARTED, EventType.RUN_FINISHED,
        EventType.RETRY_SCHEDULED, EventType.CANCEL_REQUESTED, EventType.CONDITION_CHANGED, EventType.SYNC_FAILED,
        EventType.GUARD_RAISED, EventType.GUARD_CONFIRMED, EventType.WIDENED, EventType.SCHEDULE_FIRED,
        EventType.FIRE_SKIPPED, EventType.APPROVAL_REQUESTED, EventType.APPROVAL_DECIDED, EventType.APPROVAL_EXPIRED,
        EventType.DECISION_REFUSED, EventType.HOLD_PLACED, EventType.HOLD_RELEASED, EventType.BUDGET_WARNING,
        EventType.BUDGET_EXCEEDED, EventType.FINALIZED, EventType.DELETION_REQUESTED, EventType.GOAL_REVIEWED,
        EventType.GOAL_REACHED, EventType.PROVIDER_PAUSED, EventType.FIELD_FIGHT, EventType.EFFECT_FAILED,
        EventType.ALERT_RAISED, EventType.MISSION_PROPOSED, EventType.TRANSITION_REFUSED,
    }
)  # fmt: skip
"""What is told; the rest is in the log."""
_WARNING: Final = frozenset(
    {
        EventType.SYNC_FAILED, EventType.GUARD_RAISED, EventType.DECISION_REFUSED, EventType.BUDGET_WARNING,
        EventType.BUDGET_EXCEEDED, EventType.PROVIDER_PAUSED, EventType.FIELD_FIGHT, EventType.EFFECT_FAILED,
        EventType.ALERT_RAISED, EventType.TRANSITION_REFUSED, EventType.RETRY_SCHEDULED, EventType.FIRE_SKIPPED,
    }
)  # fmt: skip


@dataclass(slots=True)
class _Series:
    """One Event in the cluster: the same reason on the same object. ``new`` is what was not written yet."""

    subject: Key
    uid: str
    reason: str
    type: str
    message: str
    first: datetime
    last: datetime
    count: int = 0
    new: int = 0
    is_there: bool = False
    name: str = field(default="")


class ClusterEvents:
    """Writes Events. ``uid_of`` gives the uid that the cluster knows an object by, "" where it does not. Belongs to
    one thread at a time."""

    def __init__(self, api: Api, uid_of: Callable[[Resource], str]) -> None:
        self._api = api
        self._uid_of = uid_of
        self._seq = -1
        self._series: dict[tuple[str, str, str], _Series] = {}
        self.writes = 0

    def begin(self, snapshot: Snapshot) -> None:
        """Tell from now on, unless telling began before."""
        if self._seq < 0:
            newest = snapshot.events(limit=1, newest_first=True)
            self._seq = newest[0].seq if newest else 0

    def take(self, snapshot: Snapshot) -> None:
        """Take in what the log has."""
        if self._seq < 0:
            self.begin(snapshot)
        while True:
            rows = snapshot.events(after=self._seq, limit=_ROWS)
            if not rows:
                return
            self._seq = rows[-1].seq
            told = [row for row in rows if row.type in TOLD and row.subject.kind in crd.SERVED]
            found = snapshot.get_many([row.subject for row in told])
            for row in told:
                resource = found.get(row.subject)
                if resource is not None and resource.uid == row.subject_uid:
                    self._add(row, resource)

    def _add(self, row: Event, resource: Resource) -> None:
        uid = self._uid_of(resource)
        if not uid:
            return
        reason = row.reason or row.type
        warns = row.type in _WARNING or (row.type == EventType.RUN_FINISHED and reason != "Completed")
        type_ = "Warning" if warns else "Normal"
        key = (uid, reason, type_)
        series = self._series.get(key)
        if series is None or row.at - series.first > KEPT:
            if len(self._series) >= MOST:
                self._series = {k: s for k, s in self._series.items() if s.new}
            made = hashlib.sha256(f"{uid} {reason} {type_} {row.seq}".encode()).hexdigest()[:16]
            series = self._series[key] = _Series(row.subject, uid, reason, type_, "", row.at, row.at)
            series.name = f"{row.subject.name[:200]}.{made}"
        series.message = text.line(redact(row.message), _MESSAGE)
        series.last = row.at
        series.count += 1
        series.new += 1

    def write(self, now: datetime, threads: concurrent.futures.Executor) -> None:
        """Write what is new, one request for each series. What cannot be written is dropped, and said in the log."""
        waiting = [series for series in self._series.values() if series.new]
        for fault in threads.map(self._write, waiting):
            if fault is not None and fault.status == 0:
                raise fault

    def _write(self, series: _Series) -> ClusterFault | None:
        namespace = series.subject.namespace or "default"
        place = f"/api/v1/namespaces/{namespace}/events"
        self.writes += 1
        try:
            if series.is_there:
                change = {"count": series.count, "lastTimestamp": format_time(series.last), "message": series.message}
                self._api.ask("PATCH", f"{place}/{series.name}", body=change, kind=MERGE)
            else:
                self._api.ask("POST", place, body=_document(series, namespace))
            series.is_there, series.new = True, 0
        except ClusterFault as fault:
            if fault.status == 404 and series.is_there:
                series.is_there = False  # the API server has forgotten it
                return None
            if fault.passing and fault.status != 409:
                return fault
            log.warning("no Event is written for %s: %s", series.subject.short, fault)
            series.is_there, series.new = fault.status == 409, 0
        return None


def _document(series: _Series, namespace: str) -> dict[str, Any]:
    subject: dict[str, Any] = {
        "apiVersion": API_VERSION, "kind": series.subject.kind, "name": series.subject.name, "uid": series.uid,
    }  # fmt: skip
    if series.subject.namespace:
        subject["namespace"] = series.subject.namespace
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": series.name, "namespace": namespace},
        "involvedObject": subject,
        "reason": series.reason,
        "message": series.message,
        "type": series.type,
        "count": series.count,
        "firstTimestamp": format_time(series.first),
        "lastTimestamp": format_time(series.last),
        "source": {"component": COMPONENT},
        "reportingComponent": "",
        "reportingInstance": "",
    }
