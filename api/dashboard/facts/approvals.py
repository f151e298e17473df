"""What people are asked, and what they answered."""

from __future__ import annotations

from typing import Any

from api.dashboard import links, marks
from api.dashboard.facts import objects, waiting
from api.dashboard.facts.shapes import (
    Act,
    Acts,
    Cell,
    Chart,
    Detail,
    Empty,
    Fact,
    Listing,
    Row,
    Tab,
    Table,
    Text,
    acts,
    cells,
    columns,
)
from api.dashboard.facts.view import View
from api.dashboard.links import Out
from api.dashboard.text import block, moment, words
from schemas.approval_request import RequestState
from schemas.base import Key
from schemas.identity import is_name
from schemas.resource import Resource

_TABS = ("pending", "decided")
_DECIDED = tuple(s.value for s in RequestState if s is not RequestState.PENDING)


def approvals(view: View) -> Listing:
    """What waits for a person, soonest end first; or what was answered."""
    tab = view.wanted("tab", _TABS) or "pending"
    needs = waiting.needs(view)
    decided = view.snapshot.count("ApprovalRequest", namespace=view.namespace, states=_DECIDED)
    tabs = (
        Tab("Waiting", "/approvals", tab == "pending", needs.total),
        Tab("Answered", "/approvals?tab=decided", tab == "decided", decided),
    )
    part = _decided(view) if tab == "decided" else _waiting(view, needs)
    return Listing("Approvals", (part,), lead="What waits for a person, what runs out first on top.", tabs=tabs)


def _waiting(view: View, needs: waiting.Needs) -> Table:
    rows = tuple(
        Row(
            n.id,
            cells(
                Cell(mark=n.risk or n.mark),
                Cell(n.title, n.href, note=n.who),
                Cell(at=n.since),
                Cell(at=n.until) if n.until else Cell("-"),
                Cell("-", command=n.act),
            ),
            attention=True,
        )
        for n in needs.items
    )
    last = view.snapshot.events(types=["ApprovalDecided"], limit=1, newest_first=True)
    text = "Nothing waits for you." + (f" The last decision was by {last[0].actor.subject}." if last else "")
    return Table("waiting", columns("Risk", "Question*", "Asked~", "Ends", "Answer~"), rows, Empty(text))


def _decided(view: View) -> Table:
    found, more = view.objects("ApprovalRequest", _DECIDED)
    found.sort(key=lambda r: str(r.status.get("decidedAt") or ""), reverse=True)
    rows = tuple(
        Row(
            f"row-{r.uid}",
            cells(
                Cell(mark=marks.state("ApprovalRequest", r.state)),
                Cell(str(r.spec.get("title", "")), links.of(r.key), note=str(r.spec.get("subject", ""))),
                Cell(str(r.status.get("decidedBy") or "-")),
                Cell(at=moment(r.status.get("decidedAt"))),
                Cell(words(str(r.status.get("scope") or "-"))),
            ),
        )
        for r in found
    )
    empty = Empty("Nobody answered anything yet.", href="/approvals", link="What waits")
    return Table("decided", columns("Answer", "Question*", "By", "When", "Reach~"), rows, empty, more=more)


def answer_acts(view: View, request: Resource) -> list[Acts]:
    """The commands that answer it. They carry the digest: what was read is what is approved."""
    spec, commands = request.spec, view.commands
    kind, digest = str(spec.get("type", "")), str(spec.get("actionDigest", ""))
    if request.state != "Pending":
        open_leave = request.status.get("scope") not in (None, "Once") or not request.status.get("uses")
        if request.state == "Approved" and kind == "Action" and open_leave:
            command = commands.answer("deny", request.key, digest, end="--revoke --reason '...'")
            return acts("Take the leave back", Act(command))
        return []
    deny = commands.answer("deny", request.key, digest, end="--reason '...'")
    if kind == "Change":
        made = request.status.get("proposal") or {}
        out = links.https("Review and merge it", made.get("pullRequest")) or _ready(view, request)
        note = "" if out else "Merge its branch to accept it; nobody approves it from here."
        return acts("Decide", Act(out=out), Act(note=note), Act(deny, label="Turn it down"))
    found = [Act(commands.answer("approve", request.key, digest), label="Accept exactly this")]
    found.append(Act(deny, label="Refuse"))
    if kind == "Review":
        found.append(Act(commands.answer("deny", request.key, digest, end="--changes --reason '...'"),
                         label="Send it back"))  # fmt: skip
    if kind == "Action":
        found.append(Act(commands.answer("approve", request.key, digest, end="--for 8h"),
                         label="Allow the same for 8 hours"))  # fmt: skip
    return acts("Decide", *found)


def _ready(view: View, request: Resource) -> Out | None:
    """The page that opens a pull request for the branch, once that is pushed."""
    action, made = request.spec.get("action") or {}, request.status.get("proposal") or {}
    if not made.get("commit") or made.get("closed"):
        return None
    name = str(action.get("source") or "default").rpartition("/")[2]
    source = view.snapshot.get(Key("Source", "default", name)) if is_name(name) else None
    if source is None:
        return None
    base = str(source.spec.get("branch") or "main")
    return links.compare(str(source.spec.get("url", "")), base, str(action.get("branch", "")))


@objects.more("ApprovalRequest")
def request_detail(view: View, request: Resource, base: Detail) -> Detail:
    """One question: who asks, what exactly, why, what it risks, who may answer, and what happens without an answer."""
    spec, status = request.spec, request.status
    pending = request.state == "Pending"
    subject = str(spec.get("subject", ""))
    facts = [
        *objects.fact("Asked by", str(spec.get("requester", "")), href=_requester(spec)),
        *objects.fact("About", subject, href=links.to(subject)),
        *objects.fact("Run", spec.get("run"), href=links.page("Run", request.namespace, str(spec.get("run", "")))),
        Fact("Risk", Cell(mark=marks.risk(str(spec.get("risk", ""))))),
        *objects.fact("Because of", spec.get("rule")),
        *objects.fact("Digest", spec.get("actionDigest"), mono=True),
        *objects.fact("Who may answer", status.get("mayAnswer") or ", ".join(spec.get("approverRoles", ()))),
        *objects.fact("Approvals", status.get("quorum") or f"0/{spec.get('quorum', 1)}"),
    ]
    if pending:
        end = "it is closed" if spec.get("type") == "Change" else words(str(spec.get("onTimeout", "")))
        facts.append(Fact("Ends", Cell(f"Without an answer: {end}", at=moment(spec.get("expiresAt")))))
    elif status.get("decidedAt"):
        by = f"{status.get('decidedBy', '')} via {status.get('decidedVia', '')}"
        facts.append(Fact("Answered", Cell(by, at=moment(status["decidedAt"]))))
    main: list[Table | Text | Chart] = list(_what(spec))
    given = _given(status)
    return objects.widened(base, facts=facts, main=[*main, *given], acts=answer_acts(view, request))


def _requester(spec: dict[str, Any]) -> str:
    place = str(spec.get("requester", "")).removeprefix("agent:")
    namespace, slash, name = place.partition("/")
    return links.page("Agent", namespace, name) if slash else ""


def _what(spec: dict[str, Any]) -> list[Text]:
    action = spec.get("action") or {}
    if spec.get("type") != "Change":
        text = objects.args_text("action", "What exactly", action)
        return [text]
    found = []
    for name, title in (("widens", "It loosens a limit"), ("changes", "Fields"), ("effects", "Effects"),
                        ("diff", "Lines")):  # fmt: skip
        rows = action.get(name) or ()
        if rows:
            body, hidden = block("\n".join(str(r) for r in rows))
            found.append(Text(f"action-{name}", title, body, hidden))
    return found


def _given(status: dict[str, Any]) -> list[Table]:
    rows = tuple(
        Row(
            f"given-{i}",
            cells(
                Cell(str(a.get("subject", ""))),
                Cell(str(a.get("transport", ""))),
                Cell(words(str(a.get("scope", "")))),
                Cell(at=moment(a.get("at"))),
                Cell(str(a.get("reason") or "-")),
            ),
        )
        for i, a in enumerate(status.get("approvals") or ())
    )
    names = columns("By", "Proven by", "Reach", "When", "Note*")
    return [Table("given", names, rows, Empty(""), title="Approvals that counted")] if rows else []
