"""What a program gets, where it works, and what it cannot reach by what it puts in the place of the engine's files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from controllers.dispatch.outcome import read_log
from controllers.runs.redaction_level import level_of
from schemas.policy import Redaction
from schemas.redaction import STRICT
from schemas.resource import SYSTEM, Declared
from schemas.run import RunReason, RunState
from store import open_store
from tests.fakes.secrets import keeper
from tests.fakes.stores import CountedIds, SettableClock
from tests.integration.test_command_executor import only_life, order, python

LEAKS = {
    "LD_PRELOAD": "", "LD_LIBRARY_PATH": "/tmp/evil", "PYTHONPATH": "/tmp/evil", "PYTHONSTARTUP": "/tmp/evil.py",
    "GIT_SSH_COMMAND": "id", "GIT_CONFIG_COUNT": "1", "HTTPS_PROXY": "http://evil.example", "http_proxy": "x",
    "ALL_PROXY": "x", "NO_PROXY": "*", "SSH_AUTH_SOCK": "/tmp/agent.sock", "AWS_SECRET_ACCESS_KEY": "leak",
    "VAULT_TOKEN": "leak", "REMIT_STORE": "postgresql://u:leak@h/db", "BASH_ENV": "/tmp/evil", "ENV": "/tmp/evil",
    "OPENAI_API_KEY": "leak", "KUBECONFIG": "/tmp/k", "DOCKER_HOST": "x", "NODE_OPTIONS": "--require /tmp/evil",
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the program reads /proc")
@pytest.mark.asyncio
async def test_nothing_of_the_engines_environment_reaches_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LEAKS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "project").mkdir(exist_ok=True)
    job = order(tmp_path, python("describe.py"), workingDir="workspace", outputFormat="Text")
    async with only_life(tmp_path) as engine:
        await engine.executor.start(job)
        ended = await engine.outcome()
    assert ended.outcome.result is not None
    given = set(json.loads(ended.outcome.result["deliverable"])["env"])
    assert given & set(LEAKS) == set()
    assert {name for name in given if name.startswith(("LD_", "PYTHON", "GIT_", "SSH_"))} == set()
    assert {name for name in given if "proxy" in name.lower()} == set()


@pytest.mark.asyncio
async def test_a_workspace_that_is_a_link_already_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir(exist_ok=True)
    (tmp_path / "state/workspaces").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state/workspaces/uid-1").symlink_to(tmp_path / "elsewhere")
    async with only_life(tmp_path) as engine:
        await engine.executor.start(order(tmp_path, ["sh", "-c", "touch made"], workingDir="workspace"))
        ended = await engine.outcome()
    assert (ended.outcome.state, ended.outcome.reason) == (RunState.FAILED, RunReason.START_FAILED)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("shape", ["link", "pipe", "folder", "device"])
def test_a_log_that_was_replaced_is_not_read(tmp_path: Path, shape: str) -> None:
    (tmp_path / "secret").write_text("of somebody else")
    log = tmp_path / "stdout.log"
    if shape == "link":
        log.symlink_to("secret")
    elif shape == "pipe":
        os.mkfifo(log)
    elif shape == "folder":
        log.mkdir()
    else:
        log.symlink_to("/dev/zero")
    assert read_log(log) == b""


def test_the_strictest_policy_of_an_agent_says_what_is_taken_out(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'state.db'}", now=SettableClock(), new_id=CountedIds(), create=True)

    def policy(name: str, redaction: str, namespace: str = "default", **labels: str) -> Declared:
        return Declared("Policy", namespace, name, {"selector": {"matchLabels": labels}, "redaction": redaction})

    with store.transaction(SYSTEM) as tx:
        agents = [
            tx.create(Declared("Agent", space, name, {}, labels=labels))
            for space, name, labels in (
                ("default", "off", {"t": "off"}),
                ("default", "both", {"t": "off", "u": "strict"}),
                ("default", "none", {}),
                ("acme", "named", {}),
            )
        ]
        tx.create_many([policy("off", "Off", t="off"), policy("strict", "Strict", u="strict")])
        tx.create_many([policy("all", STRICT, "acme", never="there")])
        tx.create(Declared("Tenant", "", "acme", {"defaults": {"policyRefs": [{"name": "all"}]}}))
    with store.snapshot() as snapshot:
        found = [level_of(snapshot, agent) for agent in agents]
        assert level_of(snapshot, None) is Redaction.STANDARD
    store.close()
    assert found == [Redaction.OFF, Redaction.STRICT, Redaction.STANDARD, Redaction.STRICT]


def test_an_executor_of_a_tenant_cannot_name_a_secret_of_another(tmp_path: Path) -> None:
    from controllers.dispatch.command import CommandExecutor
    from controllers.runtime.blocking import InlineBlocking
    from controllers.runtime.clock import SystemClock

    config = {"grants": [{"namespaces": ["acme"], "env": ["ACME_*"]}, {"namespaces": ["beta"], "env": ["BETA_*"]}]}
    variables = {"ACME_KEY": "value-0f-acme", "BETA_KEY": "value-0f-beta"}
    executor = CommandExecutor(
        tmp_path / "state", SystemClock(), InlineBlocking(), secrets=keeper(tmp_path, config, variables=variables)
    )
    for key, namespace, allowed in (("ACME_KEY", "acme", True), ("BETA_KEY", "acme", False)):
        env = [{"name": "KEY", "valueFrom": {"env": key}}]
        spec = {"type": "Command", "command": {"argv": ["sh"], "env": env}}
        problem = executor.problem(spec, tmp_path, namespace)
        assert (problem is None) is allowed
        if problem is not None:
            assert problem.reason is RunReason.SECRET_NOT_FOUND
            assert "the namespace acme may not use the variable BETA_KEY" in str(problem)
            assert "value-0f" not in str(problem)
