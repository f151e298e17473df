"""`kubectl remit`: the plugin is the command, and answers go to the cluster by kubectl."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cli import completion, kubectl, program

KUBECTL = """#!{python}
import json, sys
words, folder = sys.argv[1:], {folder!r}
with open(folder + "/calls", "a") as file:
    file.write(json.dumps([words, sys.stdin.read() if "-f" in words else ""]) + "\\n")
name = {{"create": "made", "wait": "none"}}.get(words[0]) or ("judged" if "approvaldecision" in words[1] else "found")
if words[0] == "get" and "approvalrequests.remit.dev" in words:
    name = "listed"
try:
    print(open(folder + "/" + name).read())
except FileNotFoundError:
    pass
if words[0] == "create" and __import__("os").path.exists(folder + "/denied"):
    sys.exit(open(folder + "/denied").read())
"""
DIGEST = "sha256:" + "ab" * 32
REQUEST: dict[str, Any] = {
    "apiVersion": "remit.dev/v1alpha1",
    "kind": "ApprovalRequest",
    "metadata": {"name": "a-review-1", "namespace": "team", "uid": "of-the-cluster",
                 "creationTimestamp": "2026-11-21T10:00:00Z", "annotations": {"remit.dev/uid": "of-the-engine"}},
    "spec": {"subject": "Mission/team/a", "actionDigest": DIGEST, "title": "Accept?", "type": "Review"},
    "status": {"state": "Pending"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that answers from files of this folder."""
    command = tmp_path / "bin" / "kubectl"
    command.parent.mkdir()
    command.write_text(KUBECTL.format(python=sys.executable, folder=str(tmp_path)))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "found").write_text(json.dumps(REQUEST))
    (tmp_path / "listed").write_text(json.dumps({"items": [REQUEST]}))
    (tmp_path / "made").write_text(json.dumps({"metadata": {"name": "a-review-1-approve-x7"}}))
    judged = {"type": "Succeeded", "status": "True", "reason": "Counted", "message": ""}
    (tmp_path / "judged").write_text(json.dumps({"status": {"conditions": [judged]}}))
    return tmp_path


def plugin(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-remit", *words])
    with pytest.raises(SystemExit) as end:
        kubectl.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def made(folder: Path) -> dict[str, Any]:
    calls = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    (document,) = [json.loads(text) for words, text in calls if words[0] == "create"]
    assert isinstance(document, dict)
    return document


def test_an_answer_is_made_by_kubectl_for_exactly_what_waits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plugin(monkeypatch, "approve", "mission/a", "-n", "team", "--digest", "abababab", "--reason", "good") == 0
    document = made(folder)
    assert document["metadata"] == {"generateName": "a-review-1-approve-", "namespace": "team"}
    assert document["spec"]["requestRef"] == {"name": "a-review-1", "uid": "of-the-engine"}
    assert (document["spec"]["actionDigest"], document["spec"]["verdict"]) == (DIGEST, "Approve")
    assert "counted: Mission/team/a" in capsys.readouterr().out


def test_an_answer_to_something_else_than_was_read_is_not_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plugin(monkeypatch, "deny", "approval/a-review-1", "-n", "team", "--digest", "0123456789") == 3
    assert "it changed since you read it" in capsys.readouterr().err
    assert not any('"create"' in line for line in (folder / "calls").read_text().splitlines())


def test_what_the_api_server_denies_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "denied").write_text('admission webhook "acts.remit.dev" denied the request: SelfApproval')
    assert plugin(monkeypatch, "approve", "a-review-1", "-n", "team") == 3
    assert "denied the request: SelfApproval" in capsys.readouterr().err


def test_the_plugin_is_called_as_people_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with program.called_as("/usr/local/bin/kubectl-remit"):
        assert program.shown("remit get missions") == "kubectl remit get missions"


def test_kubectl_is_told_the_words_that_may_follow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (completion.VARIABLE, "COMP_WORDS", "COMP_CWORD"):
        monkeypatch.delenv(name, raising=False)
    environment = dict(os.environ)
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-remit", "app"])
    kubectl.complete()
    assert capsys.readouterr().out.split() == ["apply", "approve", ":4"]
