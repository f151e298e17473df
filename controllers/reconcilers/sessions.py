"""Session: lets what it is to say, and what its agent asked for, happen when it is due. The wait is its timer in the
store."""

from __future__ import annotations

from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import writing
from controllers.runs import messages
from controllers.runtime.result import Result
from schemas.base import Key
from store.contract import Transaction


class Sessions:
    """Reconciles Sessions. ``stops`` is what stops work beside the Holds in the store."""

    def __init__(self, stops: Stops = other.NONE) -> None:
        self._stops = stops

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """One pass over a session."""
        session = tx.get(key)
        if session is None:
            return writing.gone(tx, key)
        return writing.wake_at(tx, session, messages.deliver(tx, session, self._stops))
