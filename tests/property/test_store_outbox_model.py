"""The outbox against a model: several holders claim, report, fail, stall and come back late. An effect has at most one
claim that counts, ends at most once, and is never lost."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from schemas.errors import Fenced
from store.contract import Effect, EffectState
from tests.fakes.scratch import scratch
from tests.fakes.stores import ALICE, KEY, SqliteHarness

PENDING, CLAIMED, DONE, DEAD = EffectState.PENDING, EffectState.CLAIMED, EffectState.DONE, EffectState.DEAD
LEASE_S = 30


@dataclass
class Life:
    """What the model knows of an effect. Times are seconds since the start."""

    type: str
    state: EffectState
    due: int
    number: int
    token: int = 0
    until: int = 0


class OutboxMachine(RuleBasedStateMachine):
    claims: Bundle[Effect] = Bundle("claims")

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=scratch())
        self.harness = SqliteHarness(Path(self.directory.name))
        self.stores = [self.harness.open(), self.harness.open()]
        self.lives: dict[str, Life] = {}
        self.time = 0

    @rule(key=st.integers(0, 12), type=st.sampled_from("ab"), due_in=st.integers(-5, 50), which=st.integers(0, 1))
    def enqueue(self, key: int, type: str, due_in: int, which: int) -> None:
        name = f"k{key}"
        with self.stores[which].transaction(ALICE) as tx:
            fresh = tx.enqueue(type, name, KEY, {"k": key}, due_at=tx.now + timedelta(seconds=due_in))
        assert fresh == (name not in self.lives)
        if fresh:
            self.lives[name] = Life(type, PENDING, self.time + due_in, len(self.lives))

    @rule(target=claims, types=st.sampled_from(["a", "b", "ab"]), limit=st.integers(1, 4), which=st.integers(0, 1))
    def claim(self, types: str, limit: int, which: int) -> object:
        ready = [
            (life.due, name)
            for name, life in self.lives.items()
            if life.type in types
            and (
                (life.state is PENDING and life.due <= self.time) or (life.state is CLAIMED and life.until <= self.time)
            )
        ]
        with self.stores[which].transaction(ALICE) as tx:
            taken = tx.claim_effects(f"holder{which}", types=list(types), limit=limit, lease_s=LEASE_S)
        assert len(taken) == min(limit, len(ready))
        assert [self.lives[e.key].due for e in taken] == sorted(due for due, _ in ready)[: len(taken)]
        for effect in taken:
            assert any(name == effect.key for _, name in ready)
            life = self.lives[effect.key]
            life.state, life.token, life.until = CLAIMED, life.token + 1, self.time + LEASE_S
            assert effect.token == effect.tries == life.token
        return multiple(*taken)

    def counts(self, claim: Effect) -> bool:
        life = self.lives[claim.key]
        return life.state is CLAIMED and life.token == claim.token

    @rule(claim=claims, which=st.integers(0, 1))
    def finish(self, claim: Effect, which: int) -> None:
        counts = self.counts(claim)
        try:
            with self.stores[which].transaction(ALICE) as tx:
                tx.finish_effect(claim, {"token": claim.token})
        except Fenced:
            assert not counts
        else:
            assert counts
            self.lives[claim.key].state = DONE

    @rule(claim=claims, retry_in=st.none() | st.integers(0, 60))
    def fail(self, claim: Effect, retry_in: int | None) -> None:
        counts = self.counts(claim)
        try:
            with self.stores[0].transaction(ALICE) as tx:
                retry_at = None if retry_in is None else tx.now + timedelta(seconds=retry_in)
                tx.fail_effect(claim, "no", retry_at=retry_at)
        except Fenced:
            assert not counts
        else:
            assert counts
            life = self.lives[claim.key]
            life.state = DEAD if retry_in is None else PENDING
            life.due = life.due if retry_in is None else self.time + retry_in

    @rule(claim=claims)
    def extend(self, claim: Effect) -> None:
        counts = self.counts(claim)
        try:
            with self.stores[0].transaction(ALICE) as tx:
                tx.extend_claim(claim, LEASE_S)
        except Fenced:
            assert not counts
        else:
            assert counts
            self.lives[claim.key].until = self.time + LEASE_S

    @rule(key=st.integers(0, 12))
    def drop(self, key: int) -> None:
        life = self.lives.get(f"k{key}")
        with self.stores[0].transaction(ALICE) as tx:
            dropped = tx.drop_effect(f"k{key}")
        assert dropped == (life is not None and life.state is PENDING)
        if dropped and life is not None:
            life.state = DEAD

    @rule(key=st.integers(0, 12))
    def hasten(self, key: int) -> None:
        life = self.lives.get(f"k{key}")
        with self.stores[0].transaction(ALICE) as tx:
            hastened = tx.hasten_effect(f"k{key}")
        assert hastened == (life is not None and life.state is PENDING)
        if hastened and life is not None:
            life.due = min(life.due, self.time)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.harness.clock.tick(seconds)
        self.time += seconds

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        with self.stores[0].snapshot() as snapshot:
            stored = {e.key: (e.state, e.token) for e in snapshot.effects()}
        assert stored == {name: (life.state, life.token) for name, life in self.lives.items()}

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.close()
            self.directory.cleanup()


OutboxMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestOutbox = OutboxMachine.TestCase
