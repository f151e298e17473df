"""Calendars elsewhere, against a real CalDAV server and a stand-in for Google: what is read, what is written, and that
a look which is done twice, or broken off, changes nothing that it should not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controllers.calendars.services import Answer, Ask, Unreachable, asking
from controllers.effects.calendars import CalendarEffects
from controllers.reconcilers.calendars import SYNC
from controllers.runtime.blocking import InlineBlocking
from controllers.web.client import HttpClient
from schemas.calendar import CalendarStatus
from schemas.resource import SYSTEM
from store.contract import Effect
from tests.fakes.calendars import PASSWORD, USER, FakeGoogle, caldav_server, google_calendar, put, stored
from tests.fakes.secrets import keeper
from tests.fakes.world import World, agent, executor

WHOLE = """\
apiVersion: remit.dev/v1alpha1
kind: Schedule
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  missionTemplate: {spec: {title: look around, review: None, agentRef: {name: worker}}}
"""
GOOGLE = (
    "{type: Google, allowPrivate: true, horizon: 3d, write: {types: [Fire]}, google: {calendarId: team@example.org,"
    " clientId: id, clientSecret: {env: G}, refreshToken: {env: T}}}"
)


def calendar(spec: str) -> str:
    return f"apiVersion: remit.dev/v1alpha1\nkind: Calendar\nmetadata: {{name: team}}\nspec: {spec}\n"


def caldav(url: str, more: str = "write: {types: [Fire]}") -> str:
    auth = f"url: '{url}', username: {USER}, password: {{env: P}}"
    return calendar(f"{{type: CalDav, allowPrivate: true, horizon: 3d, {more}, calDav: {{{auth}}}}}")


async def ask(method: str, url: str, headers: Any, body: bytes | None) -> Answer:
    """As the engine asks."""
    return await asking(HttpClient(time.monotonic), True)(method, url, headers, body)


class Bench:
    """A world whose looks into calendars are carried out when the test says."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.ask: Ask = ask
        self.google: dict[str, str] = {}
        variables = {"P": PASSWORD, "G": "client-secret-0001", "T": "1//refresh"}
        self.secrets = keeper(folder, variables=variables)

    def declare(self, text: str) -> None:
        self.world.commit({"e.yaml": executor(), "a.yaml": agent(), "s.yaml": WHOLE, "c.yaml": text})
        self.world.sync()

    @property
    def effects(self) -> list[Effect]:
        with self.world.store.snapshot() as snapshot:
            return [e for e in snapshot.effects(type=SYNC) if e.state == "Pending"]

    def look(self, *, kill: bool = False) -> CalendarStatus:
        """Carry out the one look that is due; ``kill`` ends the engine before that is written down."""
        (effect,) = self.effects
        handler = CalendarEffects(
            self.world.store, asks=lambda _: self.ask, secrets=self.secrets, project=self.world.folder,
            now=self.world.clock, blocking=InlineBlocking(), google=self.google,
        )  # fmt: skip
        commit = asyncio.run(handler.sync(effect))
        if not kill:
            with self.world.store.transaction(SYSTEM) as tx:
                (claimed,) = tx.claim_effects("test", types=[SYNC], limit=5, lease_s=60)
                if commit is not None:
                    commit(tx)
                tx.finish_effect(claimed)
            self.world.settle()
        return self.status

    @property
    def status(self) -> CalendarStatus:
        return CalendarStatus.model_validate(self.world.get("Calendar", "team").status)

    @property
    def ready(self) -> str:
        return self.world.reason("Calendar", "team", "Ready")

    def day(self, days: int, hour: int = 0) -> datetime:
        return (self.world.now + timedelta(days=days)).replace(hour=hour, minute=0, second=0, microsecond=0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.world.check()
    made.world.close()


@pytest.fixture
def dav(tmp_path: Path) -> Iterator[str]:
    with caldav_server(tmp_path / "dav") as url:
        yield url


@pytest.fixture
def google(bench: Bench) -> Iterator[FakeGoogle]:
    with google_calendar() as fake:
        bench.google = {"api": f"{fake.url}/calendar/v3", "token_url": f"{fake.url}/token"}
        yield fake


def ical(time: datetime) -> str:
    return f"{time:%Y%m%dT%H%M%SZ}"


def test_what_is_due_is_written_once_and_follows_the_schedule(bench: Bench, dav: str, tmp_path: Path) -> None:
    put(dav, "lunch", "SUMMARY:Lunch", f"DTSTART:{ical(bench.day(1, 12))}", f"DTEND:{ical(bench.day(1, 13))}")
    bench.declare(caldav(dav))
    assert bench.ready == "Unknown/Progressing"
    status = bench.look()
    assert bench.ready == "True/Reconciled"
    assert [(b.start, b.end, b.title) for b in status.busy] == [(bench.day(1, 12), bench.day(1, 13), "Lunch")]
    assert status.written == 3
    files = stored(tmp_path / "dav")
    assert len(files) == 4
    mine = {name: text for name, text in files.items() if name.startswith("remit-")}
    assert all("SUMMARY:look around" in text and "TRANSP:TRANSPARENT" in text for text in mine.values())
    assert bench.effects == []
    bench.world.advance(15 * 60)
    bench.look()
    assert stored(tmp_path / "dav") == files  # nothing differs: nothing was written
    # Moved by a commit: the old times go, the new ones come, the lunch stays.
    bench.declare(caldav(dav).replace("[Fire]", "[Fire, Todo]"))
    bench.world.commit({"s.yaml": WHOLE.replace("0 3", "30 4")})
    bench.world.sync()
    bench.look()
    after = stored(tmp_path / "dav")
    assert after["lunch.ics"] == files["lunch.ics"]
    assert len(after) == 4
    assert not set(mine) & set(after)
    assert len(bench.world.events("CalendarWritten")) == 2


def test_a_look_that_was_broken_off_is_done_again_and_doubles_nothing(bench: Bench, dav: str, tmp_path: Path) -> None:
    bench.declare(caldav(dav))
    calls = 0

    async def dies(method: str, url: str, headers: Any, body: bytes | None) -> Answer:
        nonlocal calls
        calls += method == "PUT"
        if calls == 2:
            raise Unreachable("the engine died here")
        return await ask(method, url, headers, body)

    bench.ask = dies
    bench.look(kill=True)
    assert len(stored(tmp_path / "dav")) == 1
    bench.ask = ask
    assert bench.look().written == 3
    assert len(stored(tmp_path / "dav")) == 3


def test_without_write_what_remit_wrote_goes_and_what_people_wrote_stays(
    bench: Bench, dav: str, tmp_path: Path
) -> None:
    put(dav, "lunch", "SUMMARY:Lunch", f"DTSTART:{ical(bench.day(1, 12))}", f"DTEND:{ical(bench.day(1, 13))}")
    bench.declare(caldav(dav))
    bench.look()
    assert len(stored(tmp_path / "dav")) == 4
    bench.declare(caldav(dav, "busy: false"))
    status = bench.look()
    assert list(stored(tmp_path / "dav")) == ["lunch.ics"]
    assert status.busy == ()
    bench.declare(caldav(dav, "suspend: true"))
    assert bench.ready == "False/Suspended"
    assert bench.effects == []


def test_a_private_address_is_not_reached_unless_it_is_declared(bench: Bench, dav: str) -> None:
    bench.ask = asking(HttpClient(time.monotonic), False)
    bench.declare(caldav(dav))
    assert "allowPrivate" in bench.look().last_error
    assert bench.ready == "False/Refused"


def test_each_fault_of_a_server_has_its_reason_and_is_tried_again_soon(bench: Bench, dav: str) -> None:
    bench.secrets = keeper(bench.world.folder, variables={"P": "wrong-password"})
    bench.declare(caldav(dav))
    assert "401" in bench.look().last_error
    assert bench.ready == "False/Refused"
    bench.secrets = keeper(bench.world.folder, variables={})
    bench.world.advance(5 * 60)
    bench.look()
    assert bench.ready == "False/SecretNotFound"

    def answers(status: int, data: bytes) -> Callable[..., Any]:
        async def given(method: str, url: str, headers: Any, body: bytes | None) -> Answer:
            return Answer(status, data)

        return given

    bench.secrets = keeper(bench.world.folder, variables={"P": PASSWORD})
    ours = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:x@remit.invalid\nX-REMIT-DIGEST:1\nEND:VEVENT\nEND:VCALENDAR"
    outside = (
        '<D:multistatus xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:response>'
        "<D:href>http://evil.example/x.ics</D:href><D:propstat><D:prop>"
        f"<C:calendar-data>{ours}</C:calendar-data></D:prop></D:propstat></D:response></D:multistatus>"
    ).encode()
    for status, data, reason in (
        (503, b"", "Unreachable"),
        (302, b"", "Refused"),
        (207, b"<html>", "Unreadable"),
        (207, b'<!DOCTYPE x [<!ENTITY a "b">]><x/>', "Unreadable"),
        (207, outside, "Refused"),  # the password goes to no other host
    ):
        bench.ask = answers(status, data)
        bench.world.advance(5 * 60)
        bench.look()
        assert bench.ready.endswith(f"/{reason}"), data
    assert PASSWORD not in str([e.message for e in bench.world.events()])


def test_google_gets_each_entry_once_under_an_id_of_ours(bench: Bench, google: FakeGoogle) -> None:
    start, end = bench.day(1, 9), bench.day(1, 10)
    google.events["lunch"] = {"id": "lunch", "status": "confirmed", "summary": "Lunch\u202e",
                              "start": {"dateTime": f"{start:%Y-%m-%dT%H:%M:%SZ}"},
                              "end": {"dateTime": f"{end:%Y-%m-%dT%H:%M:%SZ}"}}  # fmt: skip
    bench.declare(calendar(GOOGLE))
    status = bench.look(kill=True)
    status = bench.look()
    assert [(b.start, b.title) for b in status.busy] == [(start, "Lunch\\u202e")]
    assert status.written == 3
    assert len(google.live) == 4
    mine = [e for e in google.live if e["id"] != "lunch"]
    # A person deletes one; it is put back. A schedule that goes takes its entries along.
    google.events[mine[0]["id"]]["status"] = "cancelled"
    bench.world.advance(15 * 60)
    bench.look()
    assert len(google.live) == 4
    bench.world.commit({}, delete=["s.yaml"])
    bench.world.sync()
    bench.world.advance(15 * 60)
    bench.look()
    assert [e["id"] for e in google.live] == ["lunch"]


def test_google_that_wants_consent_again_or_time_says_so(bench: Bench, google: FakeGoogle) -> None:
    google.refresh_token = "another"
    bench.declare(calendar(GOOGLE))
    assert "consent again" in bench.look().last_error
    assert bench.ready == "False/Refused"
    google.refresh_token = "1//refresh"
    google.answers = [(403, {"error": {"errors": [{"reason": "rateLimitExceeded"}]}})]
    bench.world.advance(5 * 60)
    bench.look()
    assert bench.ready == "False/Unreachable"
    bench.world.advance(5 * 60)
    bench.look()
    assert bench.ready == "True/Reconciled"
