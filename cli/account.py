"""The live account of `remit run`: what was applied, dispatched, finished, and what waits for a person, with the exact
command that answers it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from cli import program
from cli.output import paint, safe
from cli.printer import Printer
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from schemas.approval_request import RequestType
from schemas.base import Key
from schemas.errors import StoreUnavailable
from schemas.event import EventType
from schemas.mission import MissionState

if TYPE_CHECKING:
    from cli.project import Project
    from controllers.runtime.lifecycle import Lifecycle
    from schemas.resource import Resource
    from store.contract import Event, Snapshot, Store

_POLL_S = 0.1
_SHOWN = {
    EventType.SYNCED: ("applied", "good"),
    EventType.SYNC_FAILED: ("not applied", "bad"),
    EventType.HISTORY_REWRITTEN: ("rewritten", "attention"),
    EventType.GUARD_RAISED: ("waits", "attention"),
    EventType.GUARD_CONFIRMED: ("confirmed", "good"),
    EventType.WIDENED: ("widened", "attention"),
    EventType.DRIFT_CORRECTED: ("put back", "attention"),
    EventType.DISPATCHED: ("dispatched", "busy"),
    EventType.RUN_STARTED: ("started", "busy"),
    EventType.RUN_FINISHED: ("ended", "dim"),
    EventType.RETRY_SCHEDULED: ("retry", "attention"),
    EventType.CALL_DECIDED: ("call", "attention"),
    EventType.APPROVAL_DECIDED: ("answered", "good"),
    EventType.APPROVAL_EXPIRED: ("expired", "bad"),
    EventType.DECISION_REFUSED: ("no effect", "attention"),
    EventType.HOLD_PLACED: ("held", "attention"),
    EventType.RELEASE_ASKED: ("asked", "attention"),
    EventType.KEY_REVOKED: ("revoked", "bad"),
    EventType.HOLD_RELEASED: ("released", "good"),
    EventType.EFFECT_FAILED: ("failed", "bad"),
    EventType.ALERT_RAISED: ("alert", "bad"),
}
_TOLD_CALLS = ("Approved", "ApprovalDenied", "ApprovalExpired", "Held", "HardStop", "Rule", "OverBudget", "Limit")
"""Of calls, those are told that a person or a guard decided; the others stand in the timeline."""
_ENDS = {"Done": "good", "Failed": "bad", "Canceled": "dim", "Blocked": "attention"}


class Account:
    """Tells the log as it grows. Shows nothing of what happened before this start but what waits for a person."""

    def __init__(
        self, store: Store, project: Project, clock: Clock, blocking: Blocking, *, printer: Printer, pages: str = "",
    ) -> None:  # fmt: skip
        self._store = store
        self._project = project
        self._clock = clock
        self._blocking = blocking
        self._printer = printer
        self._pages = pages
        self._seq = 0
        self._idle_said = False

    async def run(self, life: Lifecycle) -> None:
        """A component (`lifecycle.Run`)."""
        await self._blocking.run(self._begin)
        life.ready()
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_commit(_: int) -> None:
            loop.call_soon_threadsafe(changed.set)

        unsubscribe = self._store.subscribe(on_commit)
        try:
            while not life.stopping.is_set():
                await wait_for_any(self._clock, _POLL_S, life.stopping, changed)
                changed.clear()
                with suppress(StoreUnavailable):  # others say so; what happened is told when it answers again
                    await self._blocking.run(self._tell)
        finally:
            unsubscribe()

    def _say(self, word: str, colour: str, text: str) -> None:
        now = self._clock.now().astimezone()
        self._printer.say(f"{now:%H:%M:%S}  {paint(f'{word:<11}', colour)} {safe(text)}")

    def _begin(self) -> None:
        config = self._project.config
        with self._store.snapshot() as snapshot:
            last = snapshot.events(limit=1, newest_first=True)
            self._seq = last[0].seq if last else 0
            missions = snapshot.count("Mission")
            source = config.source.git.url if config.source.git else (
                config.source.directory.path if config.source.directory else "the cluster"
            )  # fmt: skip
            self._say("remit", "bold", f"follows {source}; agents report to {config.agent_listen}")
            if self._pages:
                self._say("look", "bold", f"{self._pages}/ shows it all in a browser")
            if missions:
                self._say("continues", "bold", f"{missions} mission(s) known from before")
            for hold in snapshot.objects("Hold"):
                self._stopped(snapshot, hold.key)
            self._waiting(snapshot)

    def _stopped(self, snapshot: Snapshot, key: Key) -> None:
        """Say it loudly where everything, a tenant or an agent is stopped."""
        from controllers.holds.effective import facts_of

        hold = snapshot.get(key)
        facts = facts_of(hold) if hold is not None else None
        if facts is None or not facts.in_force(self._clock.now()):
            return
        if not (facts.spec.is_estop or facts.spec.quarantine):
            return
        what = "quarantine" if facts.spec.quarantine else "all but what was released"
        if facts.spec.is_estop and facts.spec.released is None:
            what = "everything" if facts.spec.scope == "Global" else f"tenant {key.namespace}"
        self._say("STOPPED", "bad", f"{what} by {facts.placed_by}: {facts.spec.reason}")
        for line in (f"read:    remit describe {key.short}", f"release: {facts.remedy}"):
            self._printer.say(f"{'':10}{safe(program.shown(line))}")

    def _waiting(self, snapshot: Snapshot) -> None:
        for request in snapshot.objects("ApprovalRequest", states=["Pending"]):
            self._ask(snapshot, request.key)

    def _ask(self, snapshot: Snapshot, key: Key) -> None:
        request = snapshot.get(key)
        if request is None or request.state != "Pending":
            return
        owner = snapshot.get_by_uid(request.owner_uid)
        # A mission may wait for several actions, and its review is one: each question is answered by its own name.
        if request.spec["type"] == RequestType.CHANGE:
            self._proposed(request)
            return
        single = owner is not None and request.spec["type"] != RequestType.ACTION
        target = owner.key.short if owner is not None and single else f"approval/{key.name}"
        digest = str(request.spec["actionDigest"])[7:19]
        changes = "--changes " if request.spec["type"] == RequestType.REVIEW else ""
        self._say("YOUR TURN", "attention", str(request.spec["title"]))
        for line in (
            f"read:    remit describe {target}",
            f"answer:  remit approve {target} --digest {digest}",
            f"or:      remit deny {target} {changes}--reason '...'",
        ):
            self._printer.say(f"{'':10}{program.shown(line)}")

    def _proposed(self, request: Resource) -> None:
        """A change that an agent proposed: it is merged, not approved."""
        action = request.spec["action"]
        self._say("YOUR TURN", "attention", str(request.spec["title"]))
        for line in (
            f"read:    remit describe approval/{request.name}",
            f"merge:   {action['branch']} into {action['ref']}",
            f"or:      remit deny approval/{request.name} --reason '...'",
        ):
            self._printer.say(f"{'':10}{safe(program.shown(line))}")

    def _tell(self) -> None:
        with self._store.snapshot() as snapshot:
            fresh = snapshot.events(after=self._seq, limit=2000)
            for event in fresh:
                self._one(snapshot, event)
            if not fresh:
                return
            self._seq = fresh[-1].seq
            moved = any(e.type == EventType.TRANSITIONED for e in fresh)
            if moved:
                self._rest(snapshot)

    def _one(self, snapshot: Snapshot, event: Event) -> None:
        name = event.subject.short
        if event.type == EventType.TRANSITIONED:
            to = str(event.data.get("to"))
            if to in _ENDS:
                why = event.message or event.reason
                self._say(to.lower(), _ENDS[to], f"{name}: {why}")
        elif event.type == EventType.APPROVAL_REQUESTED and event.reason != "Reminder":
            self._ask(snapshot, event.subject)
        elif event.type == EventType.HOLD_PLACED and (event.data.get("estop") or event.data.get("quarantine")):
            self._stopped(snapshot, event.subject)
        elif event.type == EventType.CALL_DECIDED and event.reason not in _TOLD_CALLS:
            return
        elif event.type in _SHOWN:
            word, colour = _SHOWN[EventType(event.type)]
            quiet = event.subject.kind in ("Source", "Run")
            text = event.message or event.reason
            self._say(
                word, colour, text if event.subject.kind == "Source" else f"{name}: {text}" if quiet or text else name
            )

    def _rest(self, snapshot: Snapshot) -> None:
        """Say once when nothing is left that moves by itself."""
        waiting_runs = snapshot.count("Mission", states=[MissionState.NEEDS_APPROVAL])
        active = snapshot.count("Run", states=["Pending", "Running"]) - waiting_runs
        moving = snapshot.count("Mission", states=[MissionState.ASSIGNED, MissionState.IN_PROGRESS])
        if active > 0 or moving:
            self._idle_said = False
            return
        if self._idle_said:
            return
        self._idle_said = True
        done = snapshot.count("Mission", states=[MissionState.DONE])
        waiting = snapshot.count("ApprovalRequest", states=["Pending"])
        look = program.shown("remit get missions, remit timeline NAME")
        turn = f"; {waiting} wait(s) for you" if waiting else ""
        self._say("rests", "bold", f"{done} mission(s) done{turn}. Look around: {look}")

    def end(self, cut_short: tuple[str, ...]) -> None:
        """The last line."""
        more = f" ({', '.join(cut_short)} did not end in time)" if cut_short else ""
        self._say("stopped", "bold", f"what is at work goes on; the next start takes it up{more}")
