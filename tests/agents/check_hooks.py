"""Real coding agents with the hook that `remit hook install` writes, before a real gate, with a fake model: what is
denied does not run, what is allowed runs, and what is asked runs once `remit approve` was called.

Opt-in, by `make test-agents`: the name keeps it out of `make test`, so that nothing is skipped there.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from controllers.runtime.clock import SystemClock
from schemas.resource import Resource
from tests.agents import model_server, programs
from tests.agents.programs import Coder
from tests.fakes import stores
from tests.fakes.agent_port import TOKENS, AgentPort, serving
from tests.fakes.runs import RunBench, UuidIds
from tests.fakes.shell import configure
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.asyncio

REMIT = Path(sys.executable).parent / "remit"
RULES = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house-rules}
spec:
  rules:
    - name: never
      match: {tools: [shell_exec], when: "args.command.contains('denied')"}
      verdict: Deny
      reason: House.
    - name: ask
      match: {tools: [shell_exec], when: "args.command.contains('asked')"}
      verdict: RequireApproval
"""


@dataclass
class Desk:
    """A gate, and a folder in which agents work under it."""

    world: World
    port: AgentPort
    home: Path
    workspace: Path

    @property
    def run(self) -> Resource:
        return self.world.get("Run", "audit-1")

    def environment(self, coder: Coder | None = None, **more: str) -> dict[str, str]:
        """What an executor of Remit gives a program, and nothing of the test's own but where programs and code lie."""
        path = f"{REMIT.parent}:{(coder.environment if coder else os.environ).get('PATH', os.defpath)}"
        given = {"PATH": path, "HOME": str(self.home), "LC_ALL": "C.UTF-8", "USER": "alice", "LOGNAME": "alice"}
        given |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        token = TOKENS.mint(self.run.uid)
        return given | {"REMIT_URL": self.port.url, "REMIT_RUN": self.run.uid, "REMIT_TOKEN": token, **more}

    def remit(self, *words: str, cwd: Path | None = None) -> str:
        """A command of a person."""
        done = subprocess.run(
            [str(REMIT), *words], cwd=cwd or self.world.folder, env=self.environment(), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    async def work(self, coder: Coder, command: str) -> tuple[model_server.Model, str]:
        """Let an agent do what the model says; requests are approved as they come. (the model, what it printed)."""
        self.remit("hook", "install", coder.name, *(["--user"] if coder.user else []), cwd=self.workspace)
        with model_server.serving(command) as model:
            words, variables = coder.prepare(self.home, self.workspace, model.url)
            log = self.world.folder / "agent.log"
            with log.open("wb") as out:
                process = await asyncio.create_subprocess_exec(
                    str(coder.path), *words, cwd=self.workspace, env=self.environment(coder, **variables),
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                )  # fmt: skip
                try:
                    async with asyncio.timeout(coder.longest_s):
                        await self.until_ended(process)
                finally:
                    if process.returncode is None:
                        os.killpg(process.pid, 9)
                        await process.wait()
            return model, log.read_text(errors="replace")

    async def until_ended(self, process: asyncio.subprocess.Process) -> None:
        approved: set[str] = set()
        while process.returncode is None:
            await SystemClock().sleep(0.2)
            with self.world.store.snapshot() as snapshot:
                waiting = snapshot.objects("ApprovalRequest", states=["Pending"])
            for request in waiting:
                assert not (self.workspace / "asked.txt").exists(), "it did not wait"
                if request.name not in approved:
                    approved.add(request.name)
                    await asyncio.to_thread(self.remit, "approve", request.name, "--no-wait")
            self.world.settle()


@pytest.fixture(scope="session")
def missing() -> dict[str, str]:
    """Agents that cannot be had, and why."""
    return programs.install()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(stores, "CountedIds", lambda prefix="": UuidIds())
    made = World(tmp_path)
    configure(tmp_path)
    tools = [{"name": name} for name in ("shell_exec", "read_file", "write_file")]
    fleet = [executor(), agent(tools=tools, autonomyLevel="Lead"), mission("audit"), RULES]
    made.commit({"fleet.yaml": "---\n".join(fleet)})
    made.sync()
    yield made
    made.close()


@pytest_asyncio.fixture
async def desk(world: World, tmp_path: Path) -> AsyncIterator[Desk]:
    bench = RunBench.__new__(RunBench)
    bench.store, bench.folder = world.store, tmp_path
    home, workspace = tmp_path / "home", tmp_path / "workspace"
    home.mkdir()
    workspace.mkdir()
    async with serving(bench) as port:
        yield Desk(world, port, home, workspace)


@pytest.mark.parametrize("coder", programs.CODERS, ids=lambda coder: coder.name)
@pytest.mark.parametrize("word", ["allowed", "denied", "asked"])
async def test_an_agent_is_held_to_the_gate(desk: Desk, missing: dict[str, str], coder: Coder, word: str) -> None:
    if coder.name in missing:
        pytest.skip(f"{coder.name}: {missing[coder.name]}")
    model, said = await desk.work(coder, f"touch {word}.txt")
    calls = [c for c in desk.world.everything() if c.kind == "ToolCall" and c.spec["tool"] == "shell_exec"]
    assert calls, f"the hook asked nothing; {model.paths}\n{said[-4000:]}"
    ran = (desk.workspace / f"{word}.txt").exists()
    assert ran is (word != "denied"), f"{model.results}\n{said[-4000:]}"
    if word == "denied":
        assert any("House." in result for result in model.results), f"{model.results}\n{said[-4000:]}"
    if word == "asked":
        assert calls[0].status.get("approvalRequest")
