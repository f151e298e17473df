"""One mission, and one run of it."""

from __future__ import annotations

from dataclasses import replace

from api.dashboard import links, marks, timelines
from api.dashboard.facts import approvals, objects
from api.dashboard.facts.shapes import (
    Act,
    Acts,
    Cell,
    Chart,
    Detail,
    Empty,
    Fact,
    Row,
    Table,
    Text,
    acts,
    cells,
    columns,
)
from api.dashboard.facts.spending import cost
from api.dashboard.facts.view import View
from api.dashboard.marks import Tone
from api.dashboard.text import block, duration, line, micros, moment, money, number, plain, words
from schemas.base import Key
from schemas.event import EventType
from schemas.resource import Resource
from schemas.run import RunState

RUNS = 50
CALLS = 200
_STORY = 1000
_ENDED = ("Done", "Failed", "Canceled")


@objects.more("Mission")
def mission_detail(view: View, mission: Resource, base: Detail) -> Detail:
    """Its lanes of time, what is declared beside what is, its runs, what it handed in, and what a person can do."""
    status, spec = mission.status, mission.spec
    cap = (spec.get("budget") or {}).get("usd")
    spent = cost(status)
    runs = view.snapshot.objects("Run", namespace=mission.namespace, owner_uid=mission.uid, limit=RUNS)
    runs.sort(key=lambda r: int(r.spec.get("number", 0)))
    facts = [
        *objects.ref_fact("Agent", "Agent", status.get("agent") or spec.get("agentRef"), mission.namespace),
        *objects.ref_fact("Goal", "Goal", spec.get("goalRef"), mission.namespace),
        *objects.ref_fact("Project", "Project", spec.get("projectRef"), mission.namespace),
        Fact("Cost", Cell(f"{spent if spent != '-' else 'nothing'} of {money(cap)}" if cap is not None else spent)),
        Fact("Attempts", Cell(f"{status.get('attempts', 0)} of {(spec.get('retry') or {}).get('maxAttempts', 1)}")),
        Fact("Priority", Cell(str(spec.get("priority", 50)))),
        Fact("Review", Cell(words(str(spec.get("review", ""))))),
    ]
    chart = _story(view, mission, runs)
    main: list[Table | Text | Chart] = [chart] if chart else []
    main += _handed_in(mission)
    main += [_beside(mission), *_waits_for(view, mission)]
    side: list[Table | Text | Chart] = [_runs(view, runs)]
    return objects.widened(base, facts=facts, main=main, side=side, acts=_acts(view, mission))


def _acts(view: View, mission: Resource) -> list[Acts]:
    found: list[Acts] = []
    names = [mission.status.get("reviewRequest"), *(mission.status.get("actionRequests") or ())]
    keys = [Key("ApprovalRequest", mission.namespace, str(n)) for n in names if n]
    for request in view.snapshot.get_many(keys[:5]).values():
        for group in approvals.answer_acts(view, request):
            title = f"{group.title}: {line(request.spec.get('title', ''), 100)}"
            found.append(Acts(title, group.acts))
    commands, key = view.commands, mission.key
    steer = []
    if mission.state in ("Done", "Failed", "Blocked", "InProgress"):
        steer.append(Act(commands.verb("retry", key=key, target=mission.name), label="Begin a new round"))
    if mission.state not in _ENDED:
        steer.append(Act(commands.verb("hold", key=key, end="--for 2h --reason '...'"), label="Hold it"))
        steer.append(
            Act(commands.verb("cancel", key=key, target=mission.name, end="--reason '...'"), label="Give it up")
        )
    found += acts("Steer", *steer)
    if mission.status.get("lastRun"):
        found += acts("Look closer", Act(commands.verb("logs", key=key, end="--tail 50")))
    return found


def _beside(mission: Resource) -> Table:
    """Declared and actual, side by side."""
    spec, status = mission.spec, mission.status
    agent = (status.get("agent") or {}).get("name")
    wanted = (spec.get("agentRef") or {}).get("name") or ("any that fits" if spec.get("agentSelector") else "nobody")
    rows = [
        ("desiredState", str(spec.get("desiredState", "")), words(mission.state),
         spec.get("desiredState") == "Canceled" and mission.state != "Canceled"),
        ("agentRef", wanted, agent or "nobody yet", bool(agent) and wanted not in (agent, "any that fits")),
        ("generation", str(mission.generation), str(status.get("observedGeneration", 0)),
         status.get("observedGeneration") not in (None, mission.generation)),
        ("suspend", plain(bool(spec.get("suspend"))), words(str(status.get("held") or "no")), False),
        ("budget.usd", money((spec.get("budget") or {}).get("usd")), cost(status), False),
        ("retry.maxAttempts", plain((spec.get("retry") or {}).get("maxAttempts", 1)), str(status.get("attempts", 0)),
         False),
    ]  # fmt: skip
    shown = tuple(
        Row(
            f"field-{name}",
            cells(
                Cell(f"spec.{name}", mono=True),
                Cell(want),
                Cell(have, mark=marks.Mark("drift", "differs", Tone.WARN)) if differs else Cell(have),
            ),
            attention=differs,
        )
        for name, want, have, differs in rows
    )
    return Table("beside", columns("Field", "Declared", "Actual*"), shown, Empty(""), title="Declared and actual")


def _handed_in(mission: Resource) -> list[Text]:
    status = mission.status
    found = []
    failure = status.get("failure") or {}
    if failure and mission.state != "Done":
        body, hidden = block(f"{failure.get('reason', '')}: {failure.get('message', '')}")
        found.append(Text("failure", "Last failure", body, hidden, note=str(failure.get("run", ""))))
    deliverable = status.get("deliverable") or {}
    if deliverable:
        body, hidden = block(str(deliverable.get("text") or deliverable.get("digest", "")))
        size = number(deliverable.get("size"))
        note = f"{deliverable.get('name', '')}, {size} bytes, {deliverable.get('mediaType', '')}"
        found.append(Text("deliverable", "Deliverable", body, hidden, note=note))
    for name, title in (
        ("workPlan", "Work plan"),
        ("selfReview", "Self-review"),
        ("feedback", "Remarks for the next run"),
    ):
        if status.get(name):
            body, hidden = block(str(status[name]))
            found.append(Text(name.lower(), title, body, hidden, open=name == "feedback"))
    return found


def _waits_for(view: View, mission: Resource) -> list[Table]:
    keys = [links.ref("Mission", d, mission.namespace) for d in mission.spec.get("dependsOn") or ()]
    known = view.snapshot.get_many(k for k in keys[:100] if k)
    rows = []
    for key in keys[:100]:
        if key is None:
            continue
        found = known.get(key)
        mark = marks.state("Mission", found.state) if found else marks.Mark("unknown", "not there", Tone.WARN)
        rows.append(Row(f"dep-{key.namespace}-{key.name}", cells(Cell(mark=mark), Cell(key.name, links.of(key)))))
    names = columns("State", "Mission*")
    return [Table("depends", names, tuple(rows), Empty(""), title="Comes after")] if rows else []


def run_href(run: Resource) -> str:
    """The page of a run, below its mission."""
    mission = (run.spec.get("missionRef") or {}).get("name", "")
    number_ = run.spec.get("number", 0)
    return f"{links.page('Mission', run.namespace, str(mission))}/runs/{int(number_)}"


def _runs(view: View, runs: list[Resource]) -> Table:
    rows = tuple(
        Row(
            f"run-{r.uid}",
            cells(
                Cell(mark=marks.state("Run", r.state)),
                Cell(f"run {r.spec.get('number', '')}", run_href(r), note=words(str(r.status.get("reason", "")))),
                Cell(duration(moment(r.status.get("startedAt")), moment(r.status.get("endedAt")) or view.now)
                     if r.status.get("startedAt") else "-"),
                Cell(cost(r.status)),
            ),
        )
        for r in reversed(runs)
    )  # fmt: skip
    return Table(
        "runs", columns("State", "Run*", "Took#", "Cost#"), rows, Empty("No run was dispatched yet."), title="Runs"
    )


def _story(view: View, mission: Resource, runs: list[Resource]) -> Chart | None:
    """Lanes: states, dispatch, each run, tools, approvals."""
    events = view.snapshot.events(subject_uid=mission.uid, limit=_STORY, newest_first=True)
    events.reverse()
    lanes: list[tuple[str, list[timelines.Bar]]] = [("State", [])]
    moves = [e for e in events if e.type == EventType.TRANSITIONED and e.subject == mission.key]
    for index, move in enumerate(moves):
        to = str(move.data.get("to", ""))
        last = index + 1 == len(moves)
        end = view.now if last else moves[index + 1].at
        if to in _ENDED:
            end = move.at
        mark = marks.state("Mission", to)
        waits = to in ("Inbox", "Assigned", "NeedsApproval", "Review", "Blocked")
        open_ = last and to not in _ENDED
        lanes[0][1].append(timelines.Bar(move.at, end, mark.word, mark.tone, open=open_, waiting=waits))
    tools: list[timelines.Bar] = []
    for run in runs[-12:]:
        begin = moment(run.status.get("startedAt"))
        ordered = run.created_at
        if begin is not None:
            end_of = moment(run.status.get("endedAt"))
            mark = marks.state("Run", run.state)
            name = f"Run {run.spec.get('number', '')}"
            bars = [timelines.Bar(begin, end_of or view.now, mark.word, mark.tone, open=end_of is None)]
            if (begin - ordered).total_seconds() >= 1:
                bars.insert(0, timelines.Bar(ordered, begin, "dispatched", Tone.CALM, waiting=True))
            lanes.append((name, bars))
        tools += _tool_bars(view, run)
    lanes.append(("Tools", tools))
    lanes.append(("Approval", _approval_bars(view, mission)))
    rows = tuple(
        Row(
            f"story-{name}-{i}",
            cells(
                Cell(name),
                Cell(b.text),
                Cell(at=b.begin),
                Cell(duration(b.begin, b.end) + (" so far" if b.open else "")),
            ),
        )
        for name, bars in lanes
        for i, b in enumerate(bars[:100])
    )
    if not rows:
        return None
    twin = Table("story-table", columns("Lane", "What*", "Since", "Took"), rows, Empty(""), title="Timeline")
    svg = timelines.draw(
        lanes, fold=view.query.get("fold") != "0", label=f"Timeline of {mission.name}", width=timelines.NARROW
    )
    return Chart("story", "Timeline", svg, twin)


def _tool_bars(view: View, run: Resource) -> list[timelines.Bar]:
    calls = view.snapshot.objects("ToolCall", namespace=run.namespace, owner_uid=run.uid, limit=CALLS)
    found = []
    for call in calls:
        begin = moment(call.status.get("startedAt")) or call.created_at
        end = moment(call.status.get("endedAt"))
        mark = marks.state("ToolCall", call.state)
        waits = call.state == "Asking"
        until = end or (view.now if waits else begin)
        found.append(timelines.Bar(begin, until, str(call.spec.get("tool", "")), mark.tone, open=waits, waiting=waits))
    return found


def _approval_bars(view: View, mission: Resource) -> list[timelines.Bar]:
    asked = view.snapshot.objects("ApprovalRequest", namespace=mission.namespace, owner_uid=mission.uid, limit=RUNS)
    found = []
    for request in asked:
        end = moment(request.status.get("decidedAt"))
        pending = request.state == "Pending"
        mark = marks.state("ApprovalRequest", request.state)
        found.append(
            timelines.Bar(request.created_at, end or (view.now if pending else request.created_at),
                          "waits for a person" if pending else mark.word, mark.tone, open=pending, waiting=True)
        )  # fmt: skip
    return found


# Runs.


@objects.more("Run")
def run_detail(view: View, run: Resource, base: Detail) -> Detail:
    """What it did: calls, cost, what it handed in, the end of its log."""
    spec, status = run.spec, run.status
    begin, end = moment(status.get("startedAt")), moment(status.get("endedAt"))
    spend = status.get("spend") or {}
    mission = links.ref("Mission", spec.get("missionRef"), run.namespace)
    facts = [
        *objects.ref_fact("Agent", "Agent", spec.get("agentRef"), run.namespace),
        *objects.ref_fact("Executor", "Executor", spec.get("executorRef"), run.namespace),
        *objects.fact("Because", words(str(status.get("reason", "")))),
        Fact("Took", Cell(duration(begin, end or view.now) if begin else "-")),
        Fact("Cost", Cell(cost(status))),
        Fact("Tokens", Cell(f"{number(spend.get('inputTokens', 0))} in, {number(spend.get('outputTokens', 0))} out")),
        *objects.fact("Exit code", status.get("exitCode")),
        Fact("Last sign of life", Cell(at=moment(status.get("lastHeartbeatTime"))))
        if status.get("lastHeartbeatTime")
        else Fact("Attempt", Cell(str(spec.get("attempt", "")))),
    ]
    main: list[Table | Text | Chart] = []
    if status.get("message"):
        body, hidden = block(str(status["message"]))
        main.append(Text("message", "What it ended with" if end else "What it says", body, hidden))
    main += [_calls(view, run), *_usage(status), *_digests(run), *_log(view, run)]
    commands = view.commands
    found = acts("Look closer", Act(commands.verb("logs", key=run.key, end="--tail 50")))
    if run.state in (RunState.PENDING, RunState.RUNNING) and mission is not None:
        found = acts("Talk to it", Act(commands.verb("say", key=mission, target=mission.name, end="'...'"))) + found
    crumbs: tuple[tuple[str, str], ...] = ((mission.name, links.of(mission)),) if mission else ()
    told = objects.widened(base, facts=facts, main=main, acts=found)
    return replace(
        told,
        title=f"{mission.name if mission else run.name}, run {spec.get('number', '')}",
        crumbs=(("Missions", "/missions"), *crumbs),
        lead=line(status.get("progress") or "", 400),
    )


def _calls(view: View, run: Resource) -> Table:
    calls = view.snapshot.objects("ToolCall", namespace=run.namespace, owner_uid=run.uid, limit=CALLS)
    calls.sort(key=lambda c: (str(c.status.get("startedAt") or ""), c.name))
    rows = tuple(
        Row(
            f"call-{c.uid}",
            cells(
                Cell(mark=marks.state("ToolCall", c.state)),
                Cell(str(c.spec.get("tool", "")), links.of(c.key), note=str(c.spec.get("target", ""))),
                Cell(mark=marks.risk(str(c.status.get("risk") or ""))) if c.status.get("risk") else Cell("-"),
                Cell(str(c.status.get("rule") or "-")),
                Cell(at=moment(c.status.get("startedAt")) or c.created_at),
                Cell(cost(c.status)),
            ),
            attention=c.state == "Asking",
        )
        for c in calls
    )
    note = f"The first {CALLS} by name." if len(calls) == CALLS else ""
    names = columns("State", "Tool*", "Risk~", "Decided by~", "When", "Cost#")
    return Table("calls", names, rows, Empty("It asked for no tool."), title="Tool calls", note=note)


def _usage(status: dict[str, object]) -> list[Table]:
    usage = status.get("usage")
    if not isinstance(usage, list | tuple) or not usage:
        return []
    rows = tuple(
        Row(
            f"usage-{i}",
            cells(
                Cell(str(u.get("model") or "not named")), Cell(words(str(u.get("source", "")))),
                Cell(money(u.get("usd"))), Cell(number(u.get("inputTokens", 0))),
                Cell(number(u.get("outputTokens", 0))),
            ),
        )
        for i, u in enumerate(usage)
    )  # fmt: skip
    names = columns("Model*", "Known from", "Cost#", "Tokens in#", "Tokens out#")
    return [Table("usage", names, rows, Empty(""), title="Cost by model")]


def _digests(run: Resource) -> list[Table]:
    artifacts = run.status.get("artifacts") or ()
    rows = tuple(
        Row(
            f"artifact-{i}",
            cells(
                Cell(str(a.get("name", ""))), Cell(str(a.get("mediaType", ""))), Cell(number(a.get("size"))),
                Cell(str(a.get("digest", "")), mono=True),
            ),
        )
        for i, a in enumerate(artifacts[:100])
    )  # fmt: skip
    names = columns("Name*", "Type~", "Bytes#", "Digest~")
    return [Table("artifacts", names, rows, Empty(""), title="Handed in")] if rows else []


def _log(view: View, run: Resource) -> list[Text]:
    found = view.site.log_of(view.snapshot, run)
    if found is None:
        return []
    body, hidden = block("\n".join(found.lines), 200_000)
    note = "the end of it" if found.cut else ""
    return [Text("log", "Log", body, hidden, numbered=True, anchored=True, note=note,
                 file=f"{run_href(run)}/log")]  # fmt: skip


@objects.more("ToolCall")
def call_detail(view: View, call: Resource, base: Detail) -> Detail:
    """What was asked and what was answered."""
    spec, status = call.spec, call.status
    run = links.ref("Run", spec.get("runRef"), call.namespace)
    facts = [
        *objects.fact("Target", spec.get("target")),
        *objects.ref_fact("Run", "Run", spec.get("runRef"), call.namespace),
        *objects.ref_fact("Agent", "Agent", spec.get("agentRef"), call.namespace),
        Fact("Risk", Cell(mark=marks.risk(str(status.get("risk") or "")))),
        *objects.fact("Decided by", status.get("rule")),
        *objects.fact("Said", status.get("message")),
        *objects.fact("To allow it", status.get("remedy") if call.state in ("Denied", "Asking") else ""),
        Fact("Cost", Cell(micros(0) if not status.get("spend") else cost(status))),
    ]
    main: list[Table | Text | Chart] = [objects.args_text("args", "Arguments, redacted", spec.get("args") or {})]
    found: list[Acts] = []
    asked = status.get("approvalRequest")
    if asked:
        request = view.snapshot.get(Key("ApprovalRequest", call.namespace, str(asked)))
        if request is not None:
            found = approvals.answer_acts(view, request)
            facts.append(Fact("Question", Cell(request.name, links.of(request.key))))
    crumbs = ((run.name, links.of(run)),) if run else ()
    return objects.widened(
        base, facts=facts, main=main, acts=found, crumbs=crumbs, title=line(spec.get("tool", ""), 120)
    )
