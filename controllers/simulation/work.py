"""The programs of a simulation: what they would take, cost and report, and what befalls them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from controllers.effects.runs import CANCEL, end_run
from controllers.reconcilers import pools
from controllers.runs import records, reports
from controllers.runs.once import Once
from controllers.runs.verdict import Share
from controllers.simulation.assumptions import Assumptions, Drawn, draw
from controllers.simulation.faults import REFUSAL, Mishap, Weather, mishap
from schemas.errors import Refused
from schemas.mission import Artifact, Spend
from schemas.protocol import ProviderErrorMessage
from schemas.resource import SYSTEM, Resource
from schemas.run import ENDED, RunReason, RunSpec, RunState
from store.contract import Effect, Store, Transaction

At = Callable[[datetime, Callable[[], None]], None]
_TEXT = "made up by a simulation"
_ENDED = frozenset(state.value for state in ENDED)


class Work:
    """Starts and ends runs at their times. ``at`` has something happen at a time."""

    def __init__(self, store: Store, at: At, *, seed: int, assumed: Assumptions, weather: Weather) -> None:
        self._store = store
        self._at = at
        self._seed = seed
        self._assumed = assumed
        self._weather = weather

    def carry_out(self, tx: Transaction, effect: Effect) -> None:
        """Start or stop the program of a run."""
        uid = str(effect.payload["runUid"])
        run = tx.get_by_uid(uid)
        if run is None or run.state in _ENDED:
            return
        if effect.type == CANCEL:
            stopped = records.Ending(
                state=RunState.CANCELED, reason=RunReason.CANCELED, message="stopped", ended_at=tx.now
            )
            end_run(tx, uid, stopped)
            return
        records.mark_started(tx, uid)
        spec = RunSpec.model_validate(run.spec)
        mission, agent = tx.get_by_uid(spec.mission_uid), tx.get_by_uid(spec.agent_uid)
        name = f"{run.namespace}/{run.name}"
        drawn = draw(self._seed, name, self._assumed.declared(agent, mission))
        luck = mishap(self._seed, name, self._weather.faults)
        lasts = min(drawn.duration, spec.timeout)
        if self._weather.refuses(pools.of_run(run), tx.now):
            self._at(tx.now + timedelta(seconds=luck.refused_after_s), lambda: self._refused(uid, luck))
        elif luck.dies:
            self._at(tx.now + lasts * luck.part, lambda: self._dies(uid))
        else:
            late = drawn.duration > spec.timeout
            self._at(tx.now + lasts, lambda: self._end(uid, drawn, luck, late=late))

    def _end(self, uid: str, drawn: Drawn, luck: Mishap, *, late: bool) -> None:
        with self._store.transaction(SYSTEM) as tx:
            run = _open(tx, uid)
            if run is None:
                return
            if self._weather.refuses(pools.of_run(run), tx.now):
                _refuse(tx, uid, luck, drawn)
                return
            state, reason = RunState.SUCCEEDED, RunReason.COMPLETED
            part = Share("", Spend(usd=drawn.cost_usd, source="Reported"))
            try:
                if late:
                    state, reason = RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED
                    reports.use(tx, uid, part, once=Once.of("use"))
                elif drawn.fails:
                    state, reason = RunState.FAILED, RunReason.REPORTED_FAILURE
                    reports.use(tx, uid, part, once=Once.of("use"))
                    reports.fail(tx, uid, "Simulated", "it was drawn to fail", retryable=True, once=Once.of("fail"))
                else:
                    proof = _artifact("evidence.txt", run.name)
                    reports.add_artifact(tx, uid, proof, once=Once.of("evidence"))
                    reports.complete(
                        tx, uid, _artifact("deliverable", run.name), _TEXT, evidence=(proof.name,), part=part,
                        once=Once.of("complete"),
                    )  # fmt: skip
            except Refused:
                pass  # it was told to stop meanwhile, or ran out of money
            end_run(tx, uid, records.Ending(state=state, reason=reason, exit_code=0, ended_at=tx.now))

    def _dies(self, uid: str) -> None:
        with self._store.transaction(SYSTEM) as tx:
            if _open(tx, uid) is not None:
                self._weather.came["deaths"] += 1
                lost = records.Ending(state=RunState.LOST, reason=RunReason.WORKER_LOST, message="its worker died")
                end_run(tx, uid, lost)

    def _refused(self, uid: str, luck: Mishap) -> None:
        with self._store.transaction(SYSTEM) as tx:
            if _open(tx, uid) is not None:
                _refuse(tx, uid, luck, None)


def _open(tx: Transaction, uid: str) -> Resource | None:
    run = tx.get_by_uid(uid)
    return None if run is None or run.state in _ENDED else run


def _refuse(tx: Transaction, uid: str, luck: Mishap, drawn: Drawn | None) -> None:
    """Its Provider refuses; what it used before that is paid."""
    said = ProviderErrorMessage(
        status=REFUSAL, retry_after_seconds=luck.retry_after_s, message="too many requests, in a simulated storm"
    )
    try:
        if drawn is not None:
            reports.use(tx, uid, Share("", Spend(usd=drawn.cost_usd, source="Reported")), once=Once.of("use"))
        reports.fail(tx, uid, "Overloaded", "", retryable=True, refused=said, once=Once.of("fail"))
    except Refused:
        pass  # it was told to stop meanwhile, or ran out of money
    ending = records.Ending(state=RunState.FAILED, reason=RunReason.REPORTED_FAILURE, exit_code=0, ended_at=tx.now)
    end_run(tx, uid, ending)


def _artifact(name: str, run: str) -> Artifact:
    data = _TEXT.encode()
    return Artifact(name=name, size=len(data), digest="sha256:" + hashlib.sha256(data).hexdigest(), text=_TEXT, run=run)
