"""What may happen to a Run record: it starts, its agent reports, and it ends exactly once.

Every function that takes a Transaction changes the record, appends its event and moves the ledger in that one
transaction, and may be repeated with the same outcome. Files are written before the transaction that speaks of them.

Here belong what the engine writes (`records`, with `verdict` and `settlement` for the end) and what the agent reports
(`reports`, `once`), both through a `run_record`; what an agent hands in (`artifacts`, `output_check`, `text`), what it
is told (`inbox`), and how it proves to be the run's own (`tokens`).
What does not: whether a run may start (``decisions``), ordering and starting it (``reconcilers``, ``dispatch``), and
the wire (``api.agents``).
"""
