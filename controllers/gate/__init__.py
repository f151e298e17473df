"""The gate: may this agent do that, now? One transaction reads what holds, decides, reserves and records.

Here belong the decision about one call (`authorize`), what it rests on (`asking`, `held`, `money`, `rules`), the leave
that people give (`leave`), the record (`call_record`) and the result that is reported (`results`). What a policy says
is decided in ``decisions.policy``; how a person answers is in ``controllers.reconcilers.approvals``; the end of what
was reserved, also when a run ends, is in ``controllers.runs.calls``.

Every function takes the transaction of its caller: what it read is still true when it commits.
"""
