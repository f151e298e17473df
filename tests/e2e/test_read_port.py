"""The read port of a real engine: it serves what the engine does, keeps its token, and lets the engine end."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.engine_process import SLOW, Project, until
from tests.fakes.world import EXECUTOR, agent, mission

TOKEN = "a-token-of-some-length"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.close()


def ask(project: Project, path: str, token: str = TOKEN) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{project.read_port}{path}")
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=SLOW) as answer:
        return str(answer.read().decode())


def test_a_server_wants_a_token_follows_the_engine_and_ends_with_it(project: Project) -> None:
    config = project.root / "remit.yaml"
    config.write_text(config.read_text() + "profile: Standalone\n")
    refused = project.remit("run")
    assert refused.code == 2
    assert "listenToken" in refused.err
    (project.root / "token").write_text(f"{TOKEN}\n")
    (project.root / "token").chmod(0o600)
    config.write_text(config.read_text() + "listenToken: {file: token}\n")
    project.commit({"executor.yaml": EXECUTOR, "agent.yaml": agent(), "one.yaml": mission("one", agent=None)})
    engine = project.engine()
    assert ask(project, "/healthz", token="none") == '{"status":"ok"}'
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(project, "/api/v1/summary", token="none")
    until(lambda: '"Inbox":1' in ask(project, "/api/v1/summary"), "the mission in the summary")
    until(lambda: '"ready":true' in ask(project, "/readyz"), "every component to work")
    assert 'remit_component_ready{component="read-server"} 1.0' in ask(project, "/metrics")
    until(lambda: '"name":"one"' in ask(project, "/api/v1/search?q=kind:mission+one"), "the index of search")
    request = urllib.request.Request(f"http://127.0.0.1:{project.read_port}/api/v1/events/stream")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=SLOW) as stream:
        assert stream.readline().startswith(b"retry:")
        assert engine.stop() == 0, engine.err
        while stream.readline():
            pass
