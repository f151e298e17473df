"""SyncCalendar: looks into a calendar elsewhere, keeps its busy times, and brings what Remit writes there up to date.

Level-triggered: what is there is compared with what should be there, so a look that is done twice, or half and then
again, ends the same. Nothing that Remit did not write is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from controllers.calendars import entries, ics
from controllers.calendars.caldav import CalDav
from controllers.calendars.google import Google
from controllers.calendars.published import Published
from controllers.calendars.services import Ask, NotACalendar, NotAllowed, Seen, Service, Unreachable
from controllers.effects.runner import Commit
from controllers.runtime.blocking import Blocking
from controllers.secrets.source import SecretMissing, SecretSource, SecretUnavailable
from decisions.feed import Entry
from schemas.calendar import (
    MOST_WRITTEN,
    BusyTime,
    CalendarReason,
    CalendarSpec,
    CalendarStatus,
    CalendarType,
)
from schemas.conditions import find, set_condition
from schemas.event import EventType
from schemas.resource import Resource
from store.contract import Effect, Store, Transaction

SOON = timedelta(minutes=5)
"""When a look that failed is tried again, at the latest."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    reason: CalendarReason
    message: str
    seen: Seen | None = None
    written: int = 0
    changed: int = 0


class CalendarEffects:
    """Handler of SyncCalendar. ``asks`` gives what sends requests, for a calendar that may be at a private address or
    may not."""

    def __init__(
        self,
        store: Store,
        *,
        asks: Callable[[bool], Ask],
        secrets: SecretSource,
        project: Path,
        now: Callable[[], datetime],
        blocking: Blocking,
        google: Mapping[str, str] | None = None,
    ) -> None:
        """``google`` replaces Google's addresses, in tests."""
        self._store = store
        self._asks = asks
        self._secrets = secrets
        self._project = project
        self._now = now
        self._blocking = blocking
        self._google = dict(google or {})

    async def sync(self, effect: Effect) -> Commit | None:
        """Look once. How it went is written in the transaction that ends the effect."""
        calendar = await self._blocking.run(self._calendar, effect)
        if calendar is None:
            return None
        spec = CalendarSpec.model_validate(calendar.spec)
        begin = self._now()
        outcome = await self._looked(calendar, spec, begin, begin + spec.horizon)

        def write(tx: Transaction) -> None:
            _write(tx, effect, outcome)

        return write

    def _calendar(self, effect: Effect) -> Resource | None:
        with self._store.snapshot() as snapshot:
            calendar = snapshot.get(effect.subject)
        if calendar is None or calendar.status.get("asked") != effect.key or calendar.spec.get("suspend"):
            return None
        return calendar

    async def _looked(self, calendar: Resource, spec: CalendarSpec, begin: datetime, end: datetime) -> _Outcome:
        try:
            service = await self._blocking.run(self._service, calendar, spec)
            seen = await service.look(begin, end)
            written, changed = await self._brought(service, calendar, spec, seen, begin, end)
        except (SecretMissing, SecretUnavailable) as error:
            return _Outcome(CalendarReason.SECRET_NOT_FOUND, str(error))
        except Unreachable as error:
            return _Outcome(CalendarReason.UNREACHABLE, str(error))
        except NotAllowed as error:
            return _Outcome(CalendarReason.REFUSED, str(error))
        except NotACalendar as error:
            return _Outcome(CalendarReason.UNREADABLE, str(error))
        return _Outcome(CalendarReason.RECONCILED, "", seen, written, changed)

    def _service(self, calendar: Resource, spec: CalendarSpec) -> Service:
        known = self._secrets.of(calendar.namespace)
        ask = self._asks(spec.allow_private)
        match spec.type:
            case CalendarType.ICS:
                assert spec.ics is not None
                url = spec.ics.url or ""
                if spec.ics.url_from is not None:
                    url = known.resolve(spec.ics.url_from, self._project)
                return Published(ask, calendar.key, url)
            case CalendarType.CAL_DAV:
                assert spec.cal_dav is not None
                password = ""
                if spec.cal_dav.password is not None:
                    password = known.resolve(spec.cal_dav.password, self._project)
                return CalDav(ask, calendar.key, spec.cal_dav.url, self._now, spec.cal_dav.username or "", password)
            case CalendarType.GOOGLE:
                assert spec.google is not None
                client = spec.google.client_id, known.resolve(spec.google.client_secret, self._project)
                refresh = known.resolve(spec.google.refresh_token, self._project)
                return Google(ask, calendar.key, spec.google.calendar_id, client, refresh, **self._google)

    async def _brought(
        self, service: Service, calendar: Resource, spec: CalendarSpec, seen: Seen, begin: datetime, end: datetime
    ) -> tuple[int, int]:
        """(entries of Remit that are there now, how many were written or removed)."""
        wanted = await self._blocking.run(self._wanted, calendar, spec, begin, end)
        changed = 0
        for uid, entry in wanted.items():
            mark, old = ics.digest(entry), seen.mine.get(uid)
            if old is None or old.digest != mark:
                await service.put(uid, mark, entry, old)
                changed += 1
        for uid, old in seen.mine.items():
            if uid not in wanted:
                await service.remove(uid, old)
                changed += 1
        return len(wanted), changed

    def _wanted(self, calendar: Resource, spec: CalendarSpec, begin: datetime, end: datetime) -> dict[str, Entry]:
        if spec.write is None:
            return {}
        types = {each.value for each in spec.write.types}
        with self._store.snapshot() as snapshot:
            found = entries.gather(snapshot, begin, end, namespace=calendar.namespace, heartbeats=False)
        chosen = [entry for entry in found.entries if entry.sort.value in types]
        return {ics.uid(entry): entry for entry in chosen[:MOST_WRITTEN]}


def _write(tx: Transaction, effect: Effect, outcome: _Outcome) -> None:
    calendar = tx.get(effect.subject)
    if calendar is None or calendar.status.get("asked") != effect.key:
        return
    spec, status = CalendarSpec.model_validate(calendar.spec), CalendarStatus.model_validate(calendar.status)
    good = outcome.reason is CalendarReason.RECONCILED
    conditions = set_condition(
        status.conditions, "Ready", good, outcome.reason, outcome.message, now=tx.now, generation=calendar.generation
    )
    update: dict[str, object] = {
        "conditions": conditions,
        "next_sync_time": tx.now + (spec.interval if good else min(spec.interval, SOON)),
        "last_error": outcome.message,
    }
    if outcome.seen is not None:
        busy = outcome.seen.busy if spec.busy else []
        update |= {
            "busy": tuple(BusyTime(start=e.start, end=e.end or e.start, title=e.title) for e in busy),
            "busy_until": busy[-1].start if outcome.seen.more and busy else None,
            "written": outcome.written,
            "last_sync_time": tx.now,
        }
    calendar = tx.put_status(calendar, status.model_copy(update=update).to_wire())
    before = find(status.conditions, "Ready")
    if before is None or before.reason != outcome.reason:
        message = f"Ready={good}" + (f": {outcome.message}" if outcome.message else "")
        tx.event(EventType.CONDITION_CHANGED, calendar, reason=outcome.reason, message=message,
                 data={"condition": "Ready", "status": str(good)})  # fmt: skip
    if outcome.changed:
        message = f"{outcome.changed} entries written or removed, {outcome.written} are in it"
        tx.event(EventType.CALENDAR_WRITTEN, calendar, reason="Written", message=message)
