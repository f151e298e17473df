"""``remit describe``: one object told in full, in the order a person asks: what, how does it stand, why, what can I do,
what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli import description_calls, description_talk, held, limits, posts
from cli.output import age, dump_yaml, safe, table
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.quantities import format_time, parse_time

if TYPE_CHECKING:
    from controllers.holds.stops import Stops
    from schemas.resource import Resource
    from store.contract import Snapshot

_EVENTS = 15
_TEXT = 4000
_QUIET = {
    "conditions",
    "blockedOn",
    "transitions",
    "deliverable",
    "artifacts",
    "workPlan",
    "units",
    "seenKeys",
}


def describe_object(snapshot: Snapshot, resource: Resource, now: datetime, stops: Stops | None = None) -> str:
    """The whole text. ``stops`` is what stops work beside the store."""
    lines = [*_head(resource, now), *_held(snapshot, resource, now, stops), *_kind(snapshot, resource, now)]
    lines += _waits(resource, now)
    lines += _conditions(resource, now)
    lines += _owners(resource)
    lines += _section("Spec", dump_yaml(resource.spec).splitlines()) if resource.spec else []
    rest = {k: v for k, v in resource.status.items() if k not in _QUIET and not isinstance(v, list | dict)}
    lines += _section("Status", dump_yaml(rest).splitlines()) if rest else []
    lines += _transitions(resource, now)
    lines += _events(snapshot, resource, now)
    return "\n".join(safe(line) for line in lines)


def _head(resource: Resource, now: datetime) -> Iterator[str]:
    yield from _pairs(
        {
            "Name": resource.name,
            "Namespace": resource.namespace,
            "Kind": resource.kind,
            "UID": resource.uid,
            "Generation": resource.generation,
            "Created": f"{format_time(resource.created_at)} ({age(resource.created_at, now)} ago)",
            "Deleting": f"since {format_time(resource.deletion_at)}" if resource.deletion_at else "",
            "Finalizers": ", ".join(resource.finalizers),
            "Managed by": resource.manager,
            "Declared at": _place(resource),
            "Labels": ", ".join(f"{k}={v}" for k, v in sorted(resource.labels.items())),
            "Annotations": ", ".join(f"{k}={v}" for k, v in sorted(resource.annotations.items())),
        }
    )


def _held(snapshot: Snapshot, resource: Resource, now: datetime, stops: Stops | None) -> list[str]:
    found = held.held(snapshot, stops, resource, now) if resource.kind in held.KINDS else None
    if found is None:
        return []
    return _section("HELD", list(_pairs(dict(held.told(found)))))


def _hold(snapshot: Snapshot, resource: Resource) -> list[str]:
    """What is left of it, who asked for its release, and how that is done."""
    from controllers.holds import effective, estop
    from schemas.hold import HoldSpec, HoldStatus

    spec, status = HoldSpec.model_validate(resource.spec), HoldStatus.model_validate(resource.status)
    lines = [f"release: {effective.facts_of(resource).remedy}"]
    if spec.released is not None:
        lines.append(estop.describe(spec.released, resource.namespace))
    if status.file:
        lines.append(f"made from the file {status.file}")
    if spec.is_estop:
        lines.append(f"people that its release needs: {estop.quorum(snapshot, resource)}")
    lines += [f"asked for by {v.subject} at {format_time(v.at)}: {v.reason}" for v in status.voices]
    return _section("To end it", lines)


def _owners(resource: Resource) -> list[str]:
    """Who owns which field: nothing to tell while it is one manager alone."""
    from decisions.ownership import value_at
    from schemas.ownership import leaves, path_text

    owned = resource.ownership
    if not owned.claims:
        return []
    count = sum(1 for _ in leaves(owned.fields))
    lines = [f"{resource.manager}: {count} field(s) (-o yaml lists them)"]
    for claim in owned.claims:
        new = f"{path_text(claim.path)} = {_short(claim.path, claim.value)}"
        if claim.until is None:
            lines.append(f"{claim.manager}: {new}")
            continue
        declared = _short(claim.path, value_at(owned.base or {}, claim.path))
        until = format_time(claim.until)
        lines.append(f"{claim.manager}: {new} instead of {declared} until {until}: {claim.reason}")
    return _section("Owners", lines)


def _short(path: tuple[str, ...], value: Any) -> str:
    """A value of the field at ``path``, masked where it looks like a secret."""
    from decisions.fields import masked
    from decisions.ownership import value_at

    if value is None:
        return "(none)"
    whole = value
    for name in reversed(path):
        whole = {name: whole}
    text = str(value_at(masked(whole), path))
    return text if len(text) <= 60 else text[:57] + "..."


def _place(resource: Resource) -> str:
    origin = resource.provenance
    return f"{origin.place} at {origin.revision}" if origin is not None else ""


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    width = max(len(name) for name in values) + 1
    for name, value in values.items():
        if value not in ("", None):
            yield f"{name + ':':<{width}} {value}"


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)]


def _kind(snapshot: Snapshot, resource: Resource, now: datetime) -> list[str]:
    if resource.kind == "Mission":
        return _mission(snapshot, resource, now)
    if resource.kind == "ApprovalRequest":
        return _request(resource, now)
    if resource.kind == "ToolCall":
        return [line for title, lines in description_calls.call(resource) for line in _section(title, lines)]
    if resource.kind == "Waiver":
        return _waiver(resource, now)
    if resource.kind == "Source":
        return _source(resource)
    if resource.kind == "Hold":
        return _hold(snapshot, resource)
    if resource.kind == "Run":
        return [*_section("Requests", posts.section(resource.status, now)), *_artifacts(resource)]
    if resource.kind == "Session":
        told = description_talk.session(snapshot, resource, now)
        return [line for title, lines in told for line in _section(title, lines)]
    if resource.kind == "Thread":
        return [line for title, lines in description_talk.thread(resource) for line in _section(title, lines)]
    if resource.kind == "Agent":
        return [*_enforcement(resource, now), *_serving(resource)]
    if resource.kind == "Executor":
        return [*_section("Circuit breaker", posts.circuit(resource.status)), *_serving(resource)]
    if resource.kind == "Budget":
        return _budget(resource, now)
    return []


def _enforcement(resource: Resource, now: datetime) -> list[str]:
    """How tightly it is held, and what its runs showed."""
    status = resource.status
    lines = [f"{status.get('enforcement', 'Observed')}: {status.get('enforcementMessage') or 'not looked at yet'}"]
    runs = [
        [
            run["run"],
            age(parse_time(run["at"]), now),
            ", ".join(p["channel"] + (" (placed)" if p.get("placed") else "") for p in run.get("passages", ()))
            or "none",
            str(run.get("unasked", 0)),
            run.get("sandbox") or "-",
            run["executor"],
        ]
        for run in status.get("evidence", ())
    ]
    if runs:
        lines += table(runs, ["RUN", "AGE", "CHANNELS", "UNASKED", "SANDBOX", "EXECUTOR"]).splitlines()
    return _section("Enforcement", lines)


def _budget(resource: Resource, now: datetime) -> list[str]:
    """What is used of the current window, and when it runs out at this pace."""
    status, spec = resource.status, resource.spec
    names = ("usd", "tokens", "toolCalls", "wallTime")
    limits = {name: spec["limits"][name] for name in names if name in spec.get("limits", {})}
    parts = ("spent", "reserved", "granted", "remaining")
    body = [
        [name, str(limit), *(str(status.get(part, {}).get(name, "-")) for part in parts)]
        for name, limit in limits.items()
    ]
    start, end = status.get("windowStart"), status.get("windowEnd")
    window = spec.get("window", "")
    if start and end:
        window += f" from {start} to {end} ({age(parse_time(end), now)})"
    lines = [f"Window: {window}", *table(body, ["LIMIT", "", *(part.upper() for part in parts)]).splitlines()]
    if status.get("burnPerHour") is not None:
        breach = status.get("forecastBreachTime")
        runs_out = "lasts for this window" if not breach else f"runs out at {breach} ({age(parse_time(breach), now)})"
        lines.append(f"Pace: {status['burnPerHour']} USD an hour; at this pace it {runs_out}")
    return _section("Use", lines)


def _serving(resource: Resource) -> list[str]:
    """The generation that new runs start with, beside the declared one, and why they differ."""
    status = resource.status
    serving = status.get("effectiveGeneration") or status.get("servingGeneration") or 0
    if not serving or status.get("observedGeneration") != resource.generation:
        return []
    if serving == resource.generation:
        return ["", f"Serving: generation {serving}, as declared"]
    ready: dict[str, Any] = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    return ["", f"Serving: generation {serving}; declared is {resource.generation}", f"  {ready.get('message', '')}"]


def _mission(snapshot: Snapshot, resource: Resource, now: datetime) -> list[str]:
    status = resource.status
    lines = ["", f"State: {status.get('state', '-')}"]
    if status.get("workPlan"):
        lines += _section("Work plan", _text(resource, "workPlan", str(status["workPlan"])))
    if status.get("failure"):
        failure = status["failure"]
        lines += _section(
            "Last failure", [f"{failure.get('reason')}: {failure.get('message', '')}", f"run {failure.get('run')}"]
        )
    circles = limits.mission_lines(status, resource.key.short, now)
    lines += _section("Loop detection", circles) if circles else []
    if status.get("gateFindings"):
        lines += _section("Gates", list(status["gateFindings"]))
    lines += _artifacts(resource)
    if status.get("selfReview"):
        lines += _section("Self-review", _text(resource, "selfReview", str(status["selfReview"])))
    if status.get("review"):
        verdict = status["review"]
        text = (
            f"{verdict.get('verdict')} by {verdict.get('actor')} via {verdict.get('transport')} at {verdict.get('at')}"
        )
        lines += _section("Verdict", [text, *([verdict["reason"]] if verdict.get("reason") else [])])
    lines += [] if status.get("state") != "NeedsApproval" else _actions(snapshot, resource)
    if status.get("reviewRequest"):
        request = snapshot.get(Key("ApprovalRequest", resource.namespace, status["reviewRequest"]))
        if request is not None:
            digest = request.spec.get("actionDigest", "")
            if request.spec.get("type") == "Action":
                lines += ["", f"Asks: {request.spec.get('title')} (remit describe approval/{request.name})"]
            lines += _section(
                "To answer",
                [
                    f"remit approve {resource.key.short} --digest {digest[7:19]}",
                    f"remit deny {resource.key.short} --digest {digest[7:19]} --reason '...'",
                ],
            )
    return lines


def _text(resource: Resource, field: str, text: str) -> list[str]:
    """The beginning of a text of ``status``, and how to read what is left out: people answer by what they read here."""
    lines, left = text[:_TEXT].splitlines(), len(text) - _TEXT
    if left <= 0:
        return lines
    where = "" if resource.namespace == DEFAULT_NAMESPACE else f" -n {resource.namespace}"
    read = f"remit get {resource.key.short}{where} -o yaml"
    return [*lines, f"... {left:,} more characters: {read} (status.{field})"]


def _actions(snapshot: Snapshot, resource: Resource) -> list[str]:
    """What its agent asks leave for."""
    waiting = snapshot.objects(
        "ApprovalRequest", namespace=resource.namespace, owner_uid=resource.uid, states=["Pending"]
    )
    lines: list[str] = []
    for request in waiting:
        digest = str(request.spec.get("actionDigest", ""))[7:19]
        where = "" if request.namespace == DEFAULT_NAMESPACE else f" -n {request.namespace}"
        lines += [
            str(request.spec.get("title", "")),
            f"  read:    remit describe approval/{request.name}{where}",
            f"  answer:  remit approve {request.name} --digest {digest}{where}",
            f"  or:      remit deny {request.name} --digest {digest}{where} --reason '...'",
        ]
    return _section("Waits for leave", lines) if lines else []


def _artifacts(resource: Resource) -> list[str]:
    status, lines = resource.status, []
    deliverable = status.get("deliverable")
    if deliverable:
        title = (
            f"Deliverable {deliverable.get('name')} ({deliverable.get('size')} bytes, {deliverable.get('mediaType')})"
        )
        text = deliverable.get("text")
        lines += _section(
            title, _text(resource, "deliverable.text", str(text)) if text else [deliverable.get("digest", "")]
        )
    others = [a for a in status.get("artifacts", ()) if not deliverable or a["name"] != deliverable.get("name")]
    if others:
        lines += _section("Artifacts", [f"{a['name']} ({a.get('size')} bytes, {a.get('mediaType')})" for a in others])
    return lines


def _request(resource: Resource, now: datetime) -> list[str]:
    from cli.asked import told

    return [line for title, lines in told(resource, now) for line in _section(title, lines)]


def _waiver(resource: Resource, now: datetime) -> list[str]:
    spec = resource.spec
    expires = parse_time(spec["expires"])
    state = f"ends {age(expires, now)}" if now < expires else f"ended {age(expires, now)} ago"
    lines = [f"{state}: {spec['expires']}", f"{spec['owner']} answers for it: {spec['reason']}"]
    used = resource.status.get("used", 0)
    return _section("In force", [*lines, f"let {used} call(s) through"])


def _source(resource: Resource) -> list[str]:
    lines: list[str] = []
    for unit in resource.status.get("units", ()):
        body = [
            f"{unit.get('reason')}: {unit.get('message') or 'in force'}",
            f"applied {unit.get('appliedRevision') or 'nothing'}; {unit.get('objects', 0)} objects",
            *unit.get("errors", ()),
        ]
        for plan in unit.get("pending", ()):
            body += [f"waits: {plan['message']}", *(f"  delete {d}" for d in plan.get("deletes", ()))]
            body += [*(f"  loosen {w}" for w in plan.get("widens", ())), f"release: remit confirm {plan['digest']}"]
        lines += _section(f"Unit {unit.get('path')}", body)
    return lines


def _waits(resource: Resource, now: datetime) -> list[str]:
    blockers = resource.status.get("blockedOn") or []
    rows = [
        f"{b.get('type')}: {b.get('hint') or b.get('ref')} (since {age(parse_time(b['since']), now)}"
        + (f", until {b['until']}" if b.get("until") else "")
        + ")"
        for b in blockers
    ]
    return _section("Waits for", rows) if rows else []


def _conditions(resource: Resource, now: datetime) -> list[str]:
    conditions = resource.to_wire()["status"].get("conditions") or []
    if not conditions:
        return []
    rows = [
        [c["type"], c["status"], c["reason"], age(parse_time(c["lastTransitionTime"]), now), c.get("message", "")]
        for c in conditions
    ]
    return _section("Conditions", table(rows, ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"]).splitlines())


def _transitions(resource: Resource, now: datetime) -> list[str]:
    moves = resource.status.get("transitions") or []
    rows = [
        [
            age(parse_time(m["at"]), now),
            f"{m['fromState']} -> {m['toState']}",
            m["actor"],
            m["reason"],
            m.get("message", ""),
        ]
        for m in moves
    ]
    if not rows:
        return []
    return _section("Transitions", table(rows, ["AGE", "MOVE", "BY", "REASON", "MESSAGE"]).splitlines())


def _events(snapshot: Snapshot, resource: Resource, now: datetime) -> list[str]:
    events = list(reversed(snapshot.events(subject_uid=resource.uid, limit=_EVENTS, newest_first=True)))
    if not events:
        return []
    rows = [[age(e.at, now), e.type, e.reason, str(e.actor), e.message] for e in events]
    return _section("Events", table(rows, ["AGE", "TYPE", "REASON", "BY", "MESSAGE"]).splitlines())
