"""Sub-agents on the wire: spawn, terminate, list."""

from __future__ import annotations

from api.agents.callers import Caller
from controllers.holds.stops import Stops
from controllers.reconcilers import spawning
from controllers.runs.once import Once
from controllers.runs.run_record import agent_actor
from controllers.runs.tokens import RunTokens
from schemas import protocol
from store.contract import Store


class SubAgentWrites:
    """Carries out what a parent asks for. Blocks."""

    def __init__(self, store: Store, tokens: RunTokens, stops: Stops) -> None:
        self._store = store
        self._stops = stops
        self._tokens = tokens

    def spawn(self, caller: Caller, message: protocol.SpawnMessage, once: Once) -> protocol.SpawnReceipt:
        """Make a sub-agent; the key of a hosted one stands in this answer only, and in its repetitions."""
        with self._store.transaction(agent_actor(caller.run)) as tx:
            made = spawning.spawn(tx, caller.uid, message, once=once, stops=self._stops)
        key = self._tokens.mint(made.hosted_run) if made.hosted_run is not None else None
        return protocol.SpawnReceipt(run=caller.run.name, sub_agent=made.sub_agent, hosted_run=made.hosted_run, key=key)

    def terminate(self, caller: Caller, message: protocol.TerminateMessage, once: Once) -> protocol.Receipt:
        """Have one ended."""
        with self._store.transaction(agent_actor(caller.run)) as tx:
            spawning.terminate(tx, caller.uid, message.sub_agent, message.reason, once=once)
        return protocol.Receipt(run=caller.run.name)

    def listed(self, caller: Caller) -> protocol.SubAgents:
        """Those of the caller's run."""
        with self._store.snapshot() as snapshot:
            return protocol.SubAgents(items=spawning.of_run(snapshot, caller.run))
