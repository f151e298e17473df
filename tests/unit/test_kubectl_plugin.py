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


ACT = """#!{python}
import json, os, sys
words, folder = sys.argv[1:], {folder!r}
text = sys.stdin.read() if "-f" in words else ""
with open(folder + "/calls", "a") as file:
    file.write(json.dumps([words, text]) + "\\n")
if words[0] in ("delete", "patch") and os.path.exists(folder + "/denied"):
    sys.exit(open(folder + "/denied").read())
if words[0] == "create":
    made = json.loads(text)
    made["metadata"].setdefault("name", made["metadata"].get("generateName", "") + "x7k2p")
    print(json.dumps(made))
if words[0] == "get":
    print(open(folder + "/" + words[1].partition(".")[0]).read())
if words[0] == "wait":
    print("condition met")
"""


@pytest.fixture
def acting(folder: Path) -> Path:
    """A kubectl for acts. What it gets lies in files by plural, or by kind for one object."""
    (folder / "bin" / "kubectl").write_text(ACT.format(python=sys.executable, folder=str(folder)))
    agent = {"metadata": {"name": "links", "namespace": "default"}, "spec": {}}
    stop = {"scope": "Global", "mode": "Stop", "reason": "it writes to customers"}
    standing = {"metadata": {"name": "estop", "namespace": "default"}, "spec": stop, "status": {"matched": 3}}
    plan = {"digest": DIGEST, "guard": "PruneBlocked", "message": "deletes 10 of 12"}
    source = {"metadata": {"name": "default"}, "status": {"units": [{"pending": [plan]}]}}
    for name, found in {"agents": agent, "hold": standing, "holds": {"items": [standing]},
                        "sources": {"items": [source]}}.items():  # fmt: skip
        (folder / name).write_text(json.dumps(found))
    return folder


def calls(folder: Path) -> list[tuple[str, Any]]:
    """The words of each call, and the document that it was given."""
    found = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    return [(" ".join(words), json.loads(text) if text else None) for words, text in found]


def test_a_hold_is_placed_in_the_cluster(
    acting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plugin(monkeypatch, "hold", "agent/links", "-r", "looks wrong", "--mode", "stop") == 0
    (document,) = [made for _, made in calls(acting) if made]
    assert (document["kind"], document["metadata"]) == ("Hold", {"generateName": "hold-", "namespace": "default"})
    assert document["spec"]["selector"]["names"] == ["links"]
    assert (document["spec"]["mode"], document["spec"]["reason"]) == ("Stop", "looks wrong")
    assert "hold/hold-x7k2p holds 3 object(s); release: kubectl remit release" in capsys.readouterr().out


def test_an_estop_is_released_with_a_reason_and_by_as_many_as_it_takes(
    acting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plugin(monkeypatch, "estop", "-r", "again") == 0
    assert "hold/estop stands already: everything is stopped" in capsys.readouterr().out
    assert plugin(monkeypatch, "release", "estop") == 3
    assert "needs --reason" in capsys.readouterr().err
    (acting / "denied").write_text(
        'admission webhook "acts.remit.dev" denied the request: 1 more person(s) have to ask for the same first, each'
        " by kubectl annotate"
    )
    assert plugin(monkeypatch, "estop", "release", "agent/links", "-r", "try one") == 3
    assert "your reason is recorded, but 1 more person(s) have to ask for the same" in capsys.readouterr().err
    (acting / "denied").unlink()
    assert plugin(monkeypatch, "estop", "release", "-r", "fixed") == 0
    said = [words for words, _ in calls(acting) if not words.startswith("get")]
    assert "remit.dev/release-reason=try one remit.dev/release-part=" in said[0]
    assert said[1].startswith("patch hold.remit.dev/estop -n default --type=merge")
    assert said[2].endswith("remit.dev/release-reason=fixed remit.dev/release-part-")
    assert said[3] == "delete hold.remit.dev/estop -n default --wait=false"
    (acting / "holds").write_text('{"items": []}')
    assert plugin(monkeypatch, "estop") == 0
    made = calls(acting)[-1][1]
    assert made["metadata"]["name"] == "estop"
    assert made["spec"]["reason"] == "no reason was given"


def test_a_plan_is_confirmed_in_the_cluster(
    acting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plugin(monkeypatch, "confirm", "0123456789") == 3
    assert "the plan that waits has another digest" in capsys.readouterr().err
    assert plugin(monkeypatch, "confirm", "abababab", "--reason", "it goes") == 0
    (document,) = [made for _, made in calls(acting) if made]
    assert document["spec"] == {"planDigest": DIGEST, "reason": "it goes"}
    assert "applied" in capsys.readouterr().out


@pytest.mark.parametrize("verb", sorted(kubectl.NATIVE))
def test_what_kubectl_does_itself_says_so(
    acting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert plugin(monkeypatch, verb, "x") == 2
    assert f"try: {kubectl.NATIVE[verb]}" in capsys.readouterr().err
    assert plugin(monkeypatch, verb, "--help") == 0
    assert kubectl.NATIVE[verb] in capsys.readouterr().out


def test_via_store_and_projects_at_hand_mean_the_project(
    acting: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (acting / "remit.yaml").write_text("source: {git: {url: specs, ref: main}}\n")
    assert plugin(monkeypatch, "release", "none", "--via", "store") == 2
    assert plugin(monkeypatch, "get", "missions") in (0, 2)
    assert not (acting / "calls").exists()
    capsys.readouterr()
