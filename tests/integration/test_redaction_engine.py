"""Credentials go through a real engine by every way an agent has, and are nowhere to be read afterwards: in no
artifact, log, event, message, record, page or branch. With the level Off it is values that were handed out only."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.credentials import corpus, readable
from tests.fakes.engine_process import Project, until
from tests.fakes.secrets import VAULT_TOKEN, private, service
from tests.fakes.world import agent, mission

PROGRAM = Path(__file__).parents[1] / "fakes" / "programs" / "tell_tale.py"
FROM_ENV, FROM_FILE, FROM_VAULT = "plain-words-from-env", "plain words from a file", "plain-words-from-vault"


class Telling(Project):
    """A project whose engine has a secret in its environment, and a token for Vault."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"AGENT_SECRET": FROM_ENV, "VAULT_TOKEN": VAULT_TOKEN, "LD_DEBUG_NOTE": "leak-1"}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Telling(tmp_path)
    try:
        yield made
    finally:
        made.close()


def executor(file: Path) -> str:
    return f"""
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {{name: local}}
spec:
  type: Command
  command:
    argv: [{sys.executable}, {PROGRAM}, {file}]
    env:
      - {{name: FROM_ENV, valueFrom: {{env: AGENT_SECRET}}}}
      - {{name: FROM_FILE, valueFrom: {{file: keys/agent}}}}
      - {{name: FROM_VAULT, valueFrom: {{vault: {{path: agent, key: k}}}}}}
"""


def everything(project: Project) -> dict[str, str]:
    """All that the engine keeps or shows, by where it stands."""
    state = project.root / ".remit"
    found = {
        str(path.relative_to(state)): path.read_bytes().decode("utf-8", "replace")
        for path in sorted(state.rglob("*"))
        if path.is_file() and path.relative_to(state).parts[0] != "keys"
    }
    for at, line in enumerate(project.repo.git("ls-tree", "-r", "--name-only", "remit/status").splitlines()):
        found[f"status branch {at} {line}"] = project.repo.git("show", f"remit/status:{line}")
    for words in (
        "logs mission/tell", "describe mission/tell", "describe run/tell-1", "events -o json", "timeline mission/tell",
        "get missions -o yaml", "get runs -o yaml", "get runs -o json", "get messages -o json", "get toolcalls -o json",
        "get approvals -o json", "get agents -o json", "describe executor/local", "diff",
    ):  # fmt: skip
        done = project.remit(*words.split())
        found[f"remit {words}"] = done.out + done.err
    for engine in project.engines:
        found[f"engine {engine.pid}"] = engine.out + engine.err
    return found


def policy(level: str) -> str:
    return f"""
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {{name: house}}
spec:
  redaction: {level}
"""


@pytest.mark.parametrize("level", ["Standard", "Off"])
def test_no_credential_can_be_read_anywhere_and_everything_else_can(
    project: Project, tmp_path: Path, level: str
) -> None:
    pairs = corpus(7)
    file = tmp_path / "corpus.json"
    file.write_text(json.dumps([*readable(), *(text for text, _ in pairs)]))
    private(project.root / "keys/agent", f"{FROM_FILE}\n")
    with service(secrets={"secret/data/agent": {"k": FROM_VAULT}}) as fake:
        with (project.root / "remit.yaml").open("a") as config:
            config.write(f"secrets: {{vault: {{address: '{fake.url}'}}}}\n")
        project.commit(
            {
                "fleet.yaml": "---\n".join(
                    [executor(file), agent(tools="[{name: '*'}]"), policy(f'"{level}"'), mission("tell")]
                )
            }
        )
        engine = project.engine()
        until(lambda: _state(project) not in ("", "Pending", "Running"), "the end of the run")
        assert _state(project) == "Succeeded"
        project.comes_to("tell", "Done")
        until(lambda: "state: Done" in _status(project), "the status in git")
        engine.stop()
    places = everything(project)
    own = [FROM_ENV, FROM_FILE, FROM_VAULT]
    coded = [value.encode().hex() for value in own] + [base64.b64encode(v.encode()).decode()[4:-4] for v in own]
    assert os.environ.get("LD_DEBUG_NOTE") is None
    handed_out = (*own, *coded, "leak-1", VAULT_TOKEN)
    if level == "Off":  # files are kept byte for byte; nothing but what was handed out is looked for elsewhere
        kept = "".join(text for place, text in places.items() if place.startswith("artifacts"))
        assert [secret for secret in (*own, *(secret for _, secret in pairs)) if secret not in kept] == []
        assert [secret for _, secret in pairs if secret not in places["remit logs mission/tell"]] == []
        places = {place: text for place, text in places.items() if not place.startswith("artifacts")}
    sought = handed_out if level == "Off" else (*handed_out, *(secret for _, secret in pairs))
    assert [(place, secret) for place, text in places.items() for secret in sought if secret in text] == []
    for kind in ("toolcalls",) if level == "Off" else ("messages", "toolcalls", "approvals"):
        assert "[redacted]" in places[f"remit get {kind} -o json"], kind
    for text in readable():
        assert text in places["remit logs mission/tell"]
    assert "[redacted]" in places["remit get runs -o json"]
    events = places["remit events -o json"]
    assert "[redacted]" in events


def _status(project: Project) -> str:
    try:
        return project.repo.git("show", "remit/status:default/mission/tell.yaml")
    except Exception:
        return ""


def _state(project: Project) -> str:
    run = project.find("Run", "tell-1")
    return run.state if run is not None else ""
