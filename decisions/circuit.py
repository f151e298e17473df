"""The circuit breaker of a worker: closed, open after failures in a row, half-open for one trial. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from schemas.executor import Circuit, CircuitBreaker, CircuitState


def admit(circuit: Circuit, run: str, now: datetime, trial_for: timedelta) -> tuple[Circuit, datetime | None]:
    """Whether ``run`` may be sent now: the circuit from now on, and None, or the moment to ask again at the latest.

    Once ``open_until`` is over the first that asks becomes the trial; the others wait for how it fares, ``trial_for``
    at most: whoever carried it out may have died.
    """
    if circuit.state is CircuitState.CLOSED:
        return circuit, None
    half = half_open(circuit, now)
    if half.state is CircuitState.OPEN:
        return half, half.open_until
    if half.trial and half.trial != run and half.trial_until is not None and now < half.trial_until:
        return half, half.trial_until
    return half.model_copy(update={"trial": run, "trial_until": now + trial_for}), None


def half_open(circuit: Circuit, now: datetime) -> Circuit:
    """An open circuit whose time is over is half-open."""
    if circuit.state is not CircuitState.OPEN or (circuit.open_until is not None and now < circuit.open_until):
        return circuit
    return circuit.model_copy(update={"state": CircuitState.HALF_OPEN, "trial": "", "trial_until": None})


def failed(circuit: Circuit, limits: CircuitBreaker, now: datetime, why: str) -> Circuit:
    """After one more failure. A trial that failed opens it again, for the whole time."""
    failures = circuit.failures + 1
    update: dict[str, object] = {"failures": failures, "last_failure": why}
    opens = circuit.state is CircuitState.HALF_OPEN or failures >= limits.failure_threshold
    if opens and circuit.state is not CircuitState.OPEN:
        update |= {
            "state": CircuitState.OPEN,
            "opened_at": now,
            "open_until": now + limits.open_for,
            "trial": "",
            "trial_until": None,
        }
    return circuit.model_copy(update=update)


def answered(circuit: Circuit) -> Circuit:
    """After an answer that shows the worker at work: closed, and counted anew. What failed last stays to be read."""
    if circuit.state is CircuitState.CLOSED and circuit.failures == 0:
        return circuit
    return Circuit(opened_at=circuit.opened_at, last_failure=circuit.last_failure)
