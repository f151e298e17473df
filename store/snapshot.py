"""Snapshot: everything that can be read, at one moment."""

from __future__ import annotations

from store.changes import ChangeReads
from store.events import EventReads
from store.heads import Heads
from store.leases import LeaseReads
from store.ledger import LedgerReads
from store.objects import ObjectReads
from store.outbox import OutboxReads
from store.session import Session
from store.timers import TimerReads


class SqlSnapshot(ObjectReads, ChangeReads, EventReads, OutboxReads, TimerReads, LedgerReads, LeaseReads):
    """``contract.Snapshot`` over one read transaction. Reading the heads first fixes the moment."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._heads = Heads.read(session)
