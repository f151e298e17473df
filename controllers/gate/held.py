"""The Hold that stops a run, as things stand in this transaction."""

from __future__ import annotations

from controllers.runs import inbox
from decisions.holds import Held
from schemas.resource import Resource
from store.contract import Transaction


def held(tx: Transaction, run: Resource) -> Held | None:
    """The strictest Hold in force on the run's mission, agent, executor, project or goal; None when there is none."""
    return inbox.held(tx, run, tx.now)
