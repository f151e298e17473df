"""`kubectl remit`: the command as a plugin of kubectl, and what kubectl asks to complete it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path

_NO_FILES = ":4"
"""What kubectl is told after the words: offer no files."""
_ANSWERS = ("approve", "deny")
_ACTS = ("hold", "release", "estop", "confirm")
NATIVE = {
    "get": "kubectl get missions",
    "describe": "kubectl describe mission NAME",
    "apply": "kubectl apply -f FILE",
    "diff": "kubectl diff -f FILE",
    "explain": "kubectl explain mission.spec",
    "events": "kubectl get events --field-selector involvedObject.name=NAME",
    "wait": "kubectl wait --for=condition=Succeeded mission/NAME --timeout=30m",
    "cancel": 'kubectl patch mission NAME --type=merge -p \'{"spec":{"desiredState":"Canceled"}}\'',
    "retry": 'kubectl annotate --overwrite mission NAME remit.dev/retry-requested-at="$(date -Is)"',
    "move": 'kubectl patch mission NAME --type=merge -p \'{"spec":{"priority":90}}\'',
    "assign": 'kubectl patch mission NAME --type=merge -p \'{"spec":{"agentRef":{"name":"AGENT"}}}\'',
}
"""Verbs whose work kubectl does by itself in a cluster, and how."""


def main() -> None:
    """Entry point of ``kubectl-remit``. Acts go to the cluster unless ``--via`` says otherwise; the other verbs are
    about the project at hand, and those that kubectl has itself say so where there is none."""
    words = sys.argv[1:]
    at = _place_of_verb(words)
    verb = words[at] if at < len(words) else ""
    asks_help = bool({"-h", "--help"} & set(words))
    via = _via(words)
    if verb in _ACTS and via in ("", "kubernetes"):
        sys.exit(_act(words[at:]))
    if verb in _ANSWERS and not asks_help and not via:
        words[at + 1 : at + 1] = ["--via", "kubernetes"]
    if verb in NATIVE and not asks_help and at == 0 and not _has_project():
        sys.exit(_native(verb))
    from cli.main import run

    code = run(_without_via(words) if verb in _ACTS else words, called=sys.argv[0])
    if verb in NATIVE and asks_help and code == 0:
        print(f"\nThis is about the project at hand. In a cluster: {NATIVE[verb]}")
    sys.exit(code)


def _place_of_verb(words: list[str]) -> int:
    """Where the verb stands: behind the options of the command itself."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in ("-C", "--project") else 1
    return at


def _via(words: list[str]) -> str:
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--via":
            return value or (words[number + 1] if number + 1 < len(words) else "?")
    return ""


def _without_via(words: list[str]) -> list[str]:
    left, skips = [], False
    for word in words:
        if skips or word.startswith("--via"):
            skips = word == "--via"
        else:
            left.append(word)
    return left


def _has_project() -> bool:
    here = Path.cwd()
    return any((folder / name).exists() for folder in (here, *here.parents) for name in ("remit.yaml", ".remit"))


def _act(words: list[str]) -> int:
    """Carry out an act in the cluster; the exit code."""
    from typer.main import get_command

    from cli import failures, kubectl_acts, program

    def command() -> int:
        found = get_command(kubectl_acts.app)
        code = found.main(_without_via(words), prog_name=program.NAME, standalone_mode=False)
        return code if isinstance(code, int) else 0

    with program.called_as(sys.argv[0]):
        return failures.guarded(command)


def _native(verb: str) -> int:
    from cli import failures, program

    with program.called_as(sys.argv[0]):
        text = f"remit {verb} is about a project, and there is none here: in a cluster kubectl does that"
        return failures.report(failures.Failure(text, hint=NATIVE[verb]))


def complete() -> None:
    """Entry point of ``kubectl_complete-remit``: the words so far are its arguments, the last one unfinished."""
    from cli import completion
    from cli.main import run

    words = sys.argv[1:]
    os.environ[completion.VARIABLE] = "complete_bash"
    os.environ["COMP_WORDS"] = shlex.join(["remit", *words])
    os.environ["COMP_CWORD"] = str(len(words))
    with contextlib.suppress(SystemExit):
        run([])
    print(_NO_FILES)
