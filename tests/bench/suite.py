"""Every bench with its target, in the order of the table."""

from __future__ import annotations

from tests.bench import engine, gate, holds, hooks, ledger, mcp, replay, sources, whole
from tests.bench.measure import Bench

BENCHES = (
    Bench("cold-sync", "first sync of 10,000 resources", "read, parse, validate likewise, one row each",
          1.3, sources.cold_sync),
    Bench("warm-restart", "restart over an unchanged commit of 10,000", "reading and decoding the cache", 3,
          sources.warm_restart),
    Bench("full-restart", "the same when the last full look is old", "reading and decoding the cache", 3,
          sources.full_restart),
    Bench("changed-file-read", "reading one changed file of 100,000", "the same of 1,000", 1.5,
          sources.changed_file_read),
    Bench("changed-file-sync", "whole sync of one changed file of 100,000", "the same of 1,000", 1.5,
          sources.changed_file_sync),
    Bench("commit-to-child", "from a ref that moves to a child that runs", "the same by hand in one process", 3,
          whole.commit_to_child),
    Bench("kill-to-dispatch", "from a start after kill -9 to a child", "imports, reading and decoding the cache",
          2, whole.kill_to_dispatch),
    Bench("status-write", "100 statuses written back as a commit", "git fast-import", 2, whole.status_write),
    Bench("noop-reconcile", "passes a second over a mission at rest", "keys through the bare workqueue", 0.2,
          engine.noop_reconcile, at_least=True),
    Bench("urgent-key", "p99 wait of an urgent key behind 20,000, in ms", "nothing: an absolute bound", 5,
          engine.urgent_key),
    Bench("audited-transition", "status change with its event, durable", "one durable row of bare sqlite3", 0.6,
          engine.audited_transition, at_least=True),
    Bench("ledger", "reserving or settling in five windows", "a commit of the same store that writes one row", 0.5,
          ledger.transactions, at_least=True),
    Bench("estop", "placing an e-stop, p99", "one durable row of bare sqlite3, p99", 2, holds.estop_call),
    Bench("gate-p50", "a call decided over HTTP by 50 rules, median", "a FastAPI no-op on the same server", 3,
          gate.p50),
    Bench("gate-p99", "the same, p99", "a FastAPI no-op on the same server", 2.5, gate.p99),
    Bench("gate-rate", "the same, requests a second", "a FastAPI no-op on the same server", 1.0, gate.rate,
          at_least=True),
    Bench("policy-replay", "10,000 recorded calls by two sets of 50 rules", "reading and decoding their rows", 30,
          replay.replay),
    Bench("mcp-call", "a tool call through the MCP proxy, median", "the same call of the same server directly", 10,
          mcp.p50),
    Bench("chain-verify", "verifying the hash chain", "reading rows and hashing them", 0.5, engine.chain_verify,
          at_least=True),
    Bench("memory", "10,000 objects in memory", "the same as plain dicts", 2, engine.memory),
    Bench("validate-file", "`remit validate` of one file", "a Python that imports its libraries", 1.5,
          engine.validate_file),
    Bench("hook", "a hook of a coding agent, from its start to its answer", "a bare interpreter", 8, hooks.answer),
)  # fmt: skip
