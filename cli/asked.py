"""What a request asks, told so that a person can answer it: exactly what would be done, who wants it and why they are
asked, who may answer, and the commands that do."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli.output import age
from schemas.base import DEFAULT_NAMESPACE
from schemas.quantities import parse_time

if TYPE_CHECKING:
    from schemas.resource import Resource

_TEXT = 4000


def told(request: Resource, now: datetime) -> list[tuple[str, list[str]]]:
    """Sections (title, lines), in the order a person reads. Lines may hold hostile text: who prints, escapes."""
    spec = request.spec
    change = spec.get("type") == "Change"
    found = [
        ("Question", [str(spec.get("title", ""))]),
        *(_change(request) if change else [("What exactly", _action(spec.get("action", {})))]),
        ("Who and why", list(_circumstances(spec))),
        ("Who may answer", list(_rules(request, now))),
    ]
    given = [
        f"{a['subject']} via {a['transport']}, {age(parse_time(a['at']), now)} ago, {_reach(a)}"
        + (f": {a['reason']}" if a.get("reason") else "")
        for a in request.status.get("approvals", ())
    ]
    if given:
        found.append(("Approvals", given))
    outcome = list(_outcome(request, now))
    if outcome:
        found.append(("Outcome", outcome))
    commands = list(_commands(request))
    if commands:
        found.append(("To answer" if request.state == "Pending" else "To take it back", commands))
    return found


def _action(action: dict[str, Any]) -> list[str]:
    """The whole action as JSON: every character of it is a part of what is approved."""
    lines = json.dumps(action, indent=2, ensure_ascii=False).splitlines()
    size = 0
    for index, line in enumerate(lines):
        size += len(line)
        if size > 4 * _TEXT:
            return [*lines[: index + 1], f"... {len(lines) - index - 1} more lines: remit get approvals -o yaml"]
    return lines


def _change(request: Resource) -> list[tuple[str, list[str]]]:
    """A proposed change: plan and effects first, then every line of it, and where it lies."""
    action, made = request.spec.get("action", {}), request.status.get("proposal") or {}
    found = [("It loosens a limit", list(action.get("widens", ()))), ("Fields", list(action.get("changes", ())))]
    found.append(("Effects", list(action.get("effects", ())) or ["none beyond these fields"]))
    said = [str(action[name]) for name in ("title", "reason") if action.get(name)]
    found.append(("The agent says", [row for text in said for row in text.splitlines()]))
    found.append(("Lines", list(action.get("diff", ()))))
    rows = {
        "branch": action.get("branch"),
        "commit": made.get("commit") or "on its way",
        "on top of": f"{action.get('ref')} at {str(action.get('base', ''))[:12]}",
        "pull request": made.get("pullRequest"),
        "stands": made.get("message"),
    }
    found.append(("Where it lies", [f"{name:<12} {value}" for name, value in rows.items() if value]))
    return [(title, lines) for title, lines in found if lines]


def _circumstances(spec: dict[str, Any]) -> list[str]:
    rows = {
        "asked by": spec.get("requester"),
        "for": spec.get("subject"),
        "run": spec.get("run"),
        "risk": spec.get("risk"),
        "because of": spec.get("rule"),
        "digest": spec.get("actionDigest"),
    }
    return [f"{name:<11} {value}" for name, value in rows.items() if value]


def _rules(request: Resource, now: datetime) -> list[str]:
    spec, status = request.spec, request.status
    lines = [str(status.get("mayAnswer") or ", ".join(spec.get("approverRoles", ())))]
    if spec.get("type") != "Change":
        lines.append(f"approvals: {status.get('quorum') or '0/' + str(spec.get('quorum', 1))}")
    if spec.get("authors"):
        lines.append(f"not by who wrote it: {', '.join(spec['authors'])}")
    if request.state == "Pending":
        expires = age(parse_time(spec["expiresAt"]), now)
        reminder = spec.get("remindAt")
        if reminder and not status.get("remindedAt"):
            lines.append(f"one reminder {age(parse_time(reminder), now)}")
        end = "it is closed" if spec.get("type") == "Change" else spec.get("onTimeout")
        lines.append(f"expires {expires}; without an answer: {end}")
    return lines


def _reach(given: dict[str, Any]) -> str:
    if given.get("scope") == "Until":
        return f"until {given.get('until')}"
    return "for the session" if given.get("scope") == "Session" else "once"


def _outcome(request: Resource, now: datetime) -> list[str]:
    status = request.status
    lines = []
    if status.get("decidedAt"):
        via = f" via {status['decidedVia']}" if status.get("decidedVia") else ""
        when = age(parse_time(status["decidedAt"]), now)
        lines.append(f"{request.state} by {status.get('decidedBy')}{via}, {when} ago")
    if request.state == "Approved" and request.spec.get("type") == "Action":
        lines.append(f"good {_reach(status)}; used {status.get('uses', 0)} time(s)")
    elif request.spec.get("type") == "Change" and request.state != "Pending":
        lines += [c["message"] for c in status.get("conditions", ()) if c["type"] == "Succeeded" and c.get("message")]
    elif status.get("extension"):
        lines.append(_extension(status["extension"]))
    elif status.get("consumedAt"):
        lines.append(f"acted on {age(parse_time(status['consumedAt']), now)} ago")
    return lines


def _extension(found: dict[str, Any]) -> str:
    """What was granted on top of a limit, and until when."""
    rows = {"usd": "USD", "tokens": "tokens", "toolCalls": "tool calls", "wallTime": "of runs"}
    said = [f"{found[name]} {word}" for name, word in rows.items() if str(found.get(name, 0)) not in ("0", "0s")]
    end = f"until {found['until']}" if found.get("until") else "until its window is over"
    over = ", which is over" if found.get("endedAt") else ""
    return f"granted {', '.join(said) or 'nothing'} {end}{over}"


def _merge(request: Resource) -> list[str]:
    """How a proposed change is approved: by a merge, which is a person's."""
    action, made = request.spec.get("action", {}), request.status.get("proposal") or {}
    if made.get("pullRequest"):
        return [f"merge {made['pullRequest']}"]
    if not made.get("commit"):
        return []
    return [f"git switch {action['ref']} && git merge --no-ff {action['branch']}"]


def _commands(request: Resource) -> list[str]:
    spec, status = request.spec, request.status
    where = "" if request.namespace == DEFAULT_NAMESPACE else f" -n {request.namespace}"
    name = f"{request.name} --digest {str(spec.get('actionDigest', ''))[7:19]}{where}"
    if request.state == "Pending" and spec.get("type") == "Change":
        return [*_merge(request), f"remit deny {name} --reason '...'      # or remove the branch"]
    if request.state == "Pending":
        lines = [f"remit approve {name}", f"remit deny {name} --reason '...'"]
        if spec.get("type") == "Review":
            lines.append(f"remit deny {name} --changes --reason '...'")
        if spec.get("type") == "Budget":
            lines.append(f"remit approve {name} --amount 1 --until 2h      # less than that, or for a while")
        if spec.get("type") == "Action":
            lines.append(f"remit approve {name} --for 8h      # the same action again until then")
        return [*lines, f"remit approve {name} --via git      # as a signed commit"]
    open_leave = status.get("scope") not in (None, "Once") or not status.get("uses")
    if request.state == "Approved" and spec.get("type") == "Action" and open_leave:
        return [f"remit deny {name} --revoke --reason '...'"]
    return []
