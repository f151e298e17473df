"""Claims under any order of requests, time and losses: a run has one holder, and a fence that is over stays over."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controllers.effects import claims
from controllers.effects.runs import RunContext
from controllers.runs import records
from controllers.runs.tokens import RunTokens
from schemas.errors import Refused
from schemas.executor import ExecutorSpec
from schemas.run import ENDED, RunReason, RunState
from tests.fakes.runs import RunBench
from tests.fakes.scratch import scratch

PULL = {"type": "Pull", "pull": {"lease": "60s", "auth": {"env": "T"}, "command": {"argv": ["work"]}}}
PICK = st.integers(0, 10)


class Claims(RuleBasedStateMachine):
    """``held`` is what workers believe: (run, fence) -> who, for as long as nobody told them otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=scratch())
        self.bench = RunBench(Path(self.folder.name))
        self.executor = self.bench.declare("Executor", "lab", ExecutorSpec.model_validate(PULL).to_wire())
        self.context = RunContext(RunTokens(b"k" * 32), lambda: "", Path(self.folder.name))
        self.runs: list[str] = []
        self.held: dict[tuple[str, int], str] = {}
        self.over: set[tuple[str, int]] = set()
        self.keys = 0

    def teardown(self) -> None:
        self.bench.close()
        self.folder.cleanup()

    @rule()
    def order(self) -> None:
        if len(self.runs) < 5:
            self.runs.append(self.bench.order(executor=self.executor).uid)

    @rule(worker=st.sampled_from(["one", "two"]), repeated=st.booleans())
    def claim(self, worker: str, repeated: bool) -> None:
        self.keys += 1
        key = f"k{self.keys}"
        for _ in range(1 + repeated):
            with self.bench.tx() as tx:
                got = claims.claim(tx, self.executor, worker, key, self.context)
            if got is None:
                return
            mine = (got.order.run_uid, got.fence)
            assert mine not in self.over
            assert self.held.get(mine, f"{worker}/{key}") == f"{worker}/{key}"
            assert all(run != mine[0] or fence == mine[1] for run, fence in self.held)
            self.held[mine] = f"{worker}/{key}"

    def _some(self, pick: int) -> tuple[str, int] | None:
        every = sorted({*self.held, *self.over})
        return every[pick % len(every)] if every else None

    @rule(pick=PICK, started=st.booleans())
    def renew(self, pick: int, started: bool) -> None:
        chosen = self._some(pick)
        if chosen is None:
            return
        try:
            with self.bench.tx() as tx:
                claims.renew(tx, self.executor.key, *chosen, started=started)
        except Refused:
            refused = True
        else:
            refused = False
        assert chosen in (self.over if refused else self.held)

    @rule(pick=PICK)
    def release(self, pick: int) -> None:
        chosen = self._some(pick)
        if chosen is None:
            return
        running = self.bench.status(chosen[0]).state is RunState.RUNNING
        try:
            with self.bench.tx() as tx:
                claims.release(tx, self.executor.key, *chosen)
        except Refused:
            refused = True
        else:
            refused = False
        assert refused == (running or chosen in self.over)
        if not refused:
            del self.held[chosen]
            self.over.add(chosen)

    @rule(pick=PICK)
    def end(self, pick: int) -> None:
        chosen = self._some(pick)
        if chosen is None:
            return
        ending = records.Ending(state=RunState.FAILED, reason=RunReason.NON_ZERO_EXIT, exit_code=1)
        try:
            with self.bench.tx() as tx:
                claims.require(tx, self.executor.key, *chosen)
                claims.end(tx, chosen[0], ending)
        except Refused:
            assert chosen in self.over
        else:
            self._forget()

    @rule(seconds=st.sampled_from([1.0, 30.0, 74.0, 76.0]))
    def wait(self, seconds: float) -> None:
        self.bench.clock.tick(seconds)
        for uid in self.runs:
            run = self.bench.run(uid)
            with self.bench.tx() as tx:
                claims.watch(tx, run.key._replace(kind=claims.KIND))
        self._forget()

    def _forget(self) -> None:
        ended = {mine for mine in self.held if self.bench.status(mine[0]).state in ENDED}
        for mine in ended:
            del self.held[mine]
        self.over |= ended

    @invariant()
    def every_holder_is_the_one_of_the_record(self) -> None:
        for uid in self.runs:
            status = self.bench.status(uid)
            believed = [fence for run, fence in self.held if run == uid]
            recorded = [status.claim.fence] if status.claim is not None and status.state not in ENDED else []
            assert believed == recorded


TestClaims = Claims.TestCase
TestClaims.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
