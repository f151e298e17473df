"""One module per kind: read by key, decide, write status, records and effects in the caller's transaction.

A reconciler is a function ``(tx, key) -> Result``. It is told which object to look at, never what happened, and may
be run twice at any point. Outside acts go through the outbox only; what follows from the facts is in ``decisions``.
"""
