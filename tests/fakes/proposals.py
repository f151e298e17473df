"""Agents that propose changes to a World, and the effects that put them before people."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from controllers.dispatch.environment import LocalSecrets
from controllers.reconcilers.proposing import Proposer
from controllers.runs.once import Once
from controllers.runtime.blocking import InlineBlocking
from controllers.status.proposals import CLOSE, OPEN, Connect, ProposalEffects, give_up
from controllers.wiring import DEFAULT_SOURCE
from schemas.errors import Retry, Terminal
from schemas.proposing import Proposal, ProposeMessage
from schemas.resource import SYSTEM, Resource
from store.contract import Effect
from tests.fakes.world import World

ALLOW = (
    "{maxOpen: 2, maxPerDay: 5, allow: ["
    "{kind: Budget, names: [worker-*], fields: [spec.limits.usd, spec.limits.tokens]},"
    "{kind: Agent, names: [worker], fields: [spec.subAgents]},"
    "{kind: Agent, names: [helper-*], create: true, fields: [spec.executorRef, spec.description]}]}"
)
BUDGET = """\
apiVersion: remit.dev/v1alpha1
kind: Budget
metadata:
  name: worker-day   # the one for every day
spec:
  scope: {agentRef: {name: worker}}
  window: Day
  limits: {usd: 5}   # a person's word
"""


@dataclass
class Proposing:
    """Everything about proposals of one World."""

    world: World
    connect: Connect | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    keys: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def proposer(self) -> Proposer:
        return Proposer(self.world.store, self.world.readers, now=self.world.clock)

    @property
    def effects(self) -> ProposalEffects:
        return ProposalEffects(
            self.world.store, self.world.readers, secrets=LocalSecrets(self.secrets), project=self.world.folder,
            hosts=self.hosts, blocking=InlineBlocking(), connect=self.connect,
        )  # fmt: skip

    def propose(self, run: str, kind: str, name: str, *, key: str = "", **more: Any) -> Proposal:
        """An agent proposes; ``edits`` are values by field."""
        edits = [{"field": f, "value": v} for f, v in more.pop("edits").items()]
        body = json.dumps({"kind": kind, "name": name, "edits": edits, **more}).encode()
        message = ProposeMessage.model_validate_json(body)
        once = Once.of(key or f"key-{next(self.keys)}", body)
        return self.proposer.propose(self.world.get("Run", run), message, once)

    async def rest(self) -> int:
        """Let everything settle, effects too; how many of these were carried out."""
        done = 0
        while True:
            self.world.settle()
            with self.world.store.transaction(SYSTEM) as tx:
                claimed = tx.claim_effects("test", types=[OPEN, CLOSE], limit=10, lease_s=60)
            if not claimed:
                return done
            for effect in claimed:
                await self.carry_out(effect)
                done += 1

    async def carry_out(self, effect: Effect) -> None:
        """One effect, as the runner does."""
        effects = self.effects
        try:
            commit = await (effects.open(effect) if effect.type == OPEN else effects.close(effect))
        except Retry as error:
            with self.world.store.transaction(SYSTEM) as tx:
                tx.fail_effect(effect, str(error), retry_at=self.world.now)
            raise
        except Terminal as error:
            with self.world.store.transaction(SYSTEM) as tx:
                tx.fail_effect(effect, str(error), retry_at=None)
                give_up(tx, effect, str(error))
            return
        with self.world.store.transaction(SYSTEM) as tx:
            tx.finish_effect(effect)
            if commit is not None:
                commit(tx)

    async def look(self) -> None:
        """The source is looked at, and what was proposed to it."""
        self.world.sync()
        self.effects.follow(DEFAULT_SOURCE)
        await self.rest()

    def request(self, proposal: Proposal) -> Resource:
        """The question of a proposal, as it stands."""
        return self.world.get("ApprovalRequest", proposal.name)
