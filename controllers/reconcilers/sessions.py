"""Session: lets its messages go out when they are due. The wait is its timer in the store."""

from __future__ import annotations

from controllers.reconcilers import writing
from controllers.runs import messages
from controllers.runtime.result import Result
from schemas.base import Key
from store.contract import Transaction


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a session."""
    session = tx.get(key)
    if session is None:
        return writing.gone(tx, key)
    return writing.wake_at(tx, session, messages.deliver(tx, session))
