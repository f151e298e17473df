"""Which page stands at which address, and what the navigation shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from api.dashboard.facts import (
    agents,
    approvals,
    budgets,
    fleet,
    log,
    mission,
    missions,
    objects,
    plan,
    policies,
    sync,
    tools,
    work,
)
from api.dashboard.facts.view import View
from schemas import registry
from schemas.base import Key
from schemas.errors import NotFound
from schemas.identity import is_namespace
from schemas.resource import Resource


@dataclass(frozen=True, slots=True)
class Page:
    """``path`` as FastAPI writes it, ``nav`` the entry of the navigation that it belongs to. ``read`` gives the title
    and the facts."""

    path: str
    template: str
    nav: str
    read: Callable[[View], tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the navigation; ``key`` follows ``g`` on the keyboard."""

    text: str
    href: str
    glyph: str
    key: str


NAV: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Operate", (
        Entry("Fleet", "/", "fleet", "f"),
        Entry("Missions", "/missions", "missions", "m"),
        Entry("Approvals", "/approvals", "ask", "a"),
        Entry("Agents", "/agents", "agents", "w"),
        Entry("Projects", "/projects", "projects", "p"),
        Entry("Goals", "/goals", "goals", "g"),
        Entry("To-dos", "/todos", "todos", "t"),
        Entry("Chat", "/chat", "chat", "h"),
        Entry("Event log", "/events", "log", "e"),
    )),
    ("Plan", (
        Entry("Schedule", "/schedule", "schedule", "s"),
        Entry("Cron", "/cron", "cron", "c"),
        Entry("Channels", "/channels", "channels", "n"),
    )),
    ("Govern", (
        Entry("Policies", "/policies", "policy", "l"),
        Entry("Budgets", "/budgets", "money", "b"),
        Entry("Skills and tools", "/skills", "skills", "k"),
        Entry("Sync", "/sync", "sync", "y"),
        Entry("Settings", "/settings", "settings", "o"),
    )),
)  # fmt: skip


DETAILS = (mission,)
"""Modules that add to the page of an object by being imported."""


def _titled(read: Callable[[View], Any]) -> Callable[[View], tuple[str, Any]]:
    def found(view: View) -> tuple[str, Any]:
        value = read(view)
        return value.title, value

    return found


def _named(title: str, read: Callable[[View], Any]) -> Callable[[View], tuple[str, Any]]:
    return lambda view: (title, read(view))


def _object(kind: str) -> Callable[[View], tuple[str, Any]]:
    def found(view: View) -> tuple[str, Any]:
        value = objects.detail(view, view.one(kind))
        return value.title, value

    return found


def _any_object(view: View) -> tuple[str, Any]:
    """An object of a kind that the path names by its plural."""
    value = objects.detail(view, view.one(_kind(view)))
    return value.title, value


def _kind(view: View) -> str:
    plural = view.place.get("plural", "")
    for name in registry.NAMES:
        if name.plural == plural and not name.info.own_table:
            return name.kind
    raise NotFound(f"there is no page {plural[:80]!r}")


def _any_list(view: View) -> tuple[str, Any]:
    _kind(view)
    value = log.others(view)
    return value.title, value


def run_of(view: View) -> Resource:
    """The run that the path names by its mission and its number. Raises NotFound."""
    mission = view.one("Mission")
    number = view.place.get("number", "")
    if number.isdigit() and len(number) < 9:
        from schemas.run import run_name

        run = view.snapshot.get(Key("Run", mission.namespace, run_name(mission.name, int(number))))
        if run is not None:
            return run
    raise NotFound(f"mission {mission.name} has no run {number[:20]!r}")


def _run(view: View) -> tuple[str, Any]:
    value = objects.detail(view, run_of(view))
    return value.title, value


def _org(view: View) -> tuple[str, Any]:
    """The fleet of one tenant. Raises NotFound for a namespace that nothing is in."""
    name = view.place.get("org", "")
    narrowed = replace(view, query={**view.query, "ns": name})
    known = is_namespace(name) and (
        view.snapshot.get(Key("Tenant", "", name)) is not None
        or any(view.snapshot.count(kind, namespace=name) for kind in ("Agent", "Mission", "Source"))
    )
    if not known:
        raise NotFound(f"there is no tenant {name[:80]!r}")
    return f"Fleet of {name}", fleet.fleet(narrowed)


_ONE = "/{namespace}/{name}"

PAGES: tuple[Page, ...] = (
    Page("/", "fleet.html", "/", _named("Fleet", fleet.fleet)),
    Page("/o/{org}", "fleet.html", "/", _org),
    Page("/missions", "missions.html", "/missions", _named("Missions", missions.missions)),
    Page(f"/missions{_ONE}", "detail.html", "/missions", _object("Mission")),
    Page(f"/missions{_ONE}/runs/{{number}}", "detail.html", "/missions", _run),
    Page("/approvals", "listing.html", "/approvals", _titled(approvals.approvals)),
    Page(f"/approvals{_ONE}", "detail.html", "/approvals", _object("ApprovalRequest")),
    Page("/agents", "listing.html", "/agents", _titled(agents.agents)),
    Page(f"/agents{_ONE}", "detail.html", "/agents", _object("Agent")),
    Page("/projects", "listing.html", "/projects", _titled(work.projects)),
    Page(f"/projects{_ONE}", "detail.html", "/projects", _object("Project")),
    Page("/goals", "goals.html", "/goals", _named("Goals", work.goals)),
    Page(f"/goals{_ONE}", "detail.html", "/goals", _object("Goal")),
    Page("/todos", "listing.html", "/todos", _titled(work.todos)),
    Page(f"/todos{_ONE}", "detail.html", "/todos", _object("Todo")),
    Page("/chat", "listing.html", "/chat", _titled(plan.chats)),
    Page(f"/chat{_ONE}", "detail.html", "/chat", _object("Session")),
    Page("/schedule", "listing.html", "/schedule", _titled(plan.schedule)),
    Page("/cron", "listing.html", "/cron", _titled(plan.crons)),
    Page(f"/cron{_ONE}", "detail.html", "/cron", _object("Schedule")),
    Page("/channels", "listing.html", "/channels", _titled(plan.channels)),
    Page(f"/channels{_ONE}", "detail.html", "/channels", _object("Channel")),
    Page("/policies", "listing.html", "/policies", _titled(policies.policies)),
    Page(f"/policies{_ONE}", "detail.html", "/policies", _object("Policy")),
    Page("/budgets", "listing.html", "/budgets", _titled(budgets.budgets)),
    Page(f"/budgets{_ONE}", "detail.html", "/budgets", _object("Budget")),
    Page("/skills", "listing.html", "/skills", _titled(tools.skills)),
    Page(f"/skills{_ONE}", "detail.html", "/skills", _object("ToolServer")),
    Page("/sync", "listing.html", "/sync", _titled(sync.sync)),
    Page(f"/sync{_ONE}", "detail.html", "/sync", _object("Source")),
    Page("/events", "listing.html", "/events", _titled(log.events)),
    Page("/search", "listing.html", "", _titled(log.search)),
    Page("/notifications", "listing.html", "", _titled(log.notifications)),
    Page("/settings", "listing.html", "/settings", _titled(log.settings)),
)
"""Every page with an address of its own. Objects of other kinds are at ``/{plural}/{namespace}/{name}``."""
LOG_FILE = f"/missions{_ONE}/runs/{{number}}/log"
"""The log of a run, as a file."""
OTHERS = tuple(
    name.plural
    for name in registry.NAMES
    if name.plural not in {p.path.lstrip("/").split("/")[0] for p in PAGES}
    and name.kind not in ("Event", "Timer", "Effect")
)
"""Kinds whose list and objects have the plain page."""
PLAIN_LIST = Page("/{plural}", "listing.html", "", _any_list)
PLAIN_OBJECT = Page("/{plural}/{namespace}/{name}", "detail.html", "", _any_object)
PLAIN_GLOBAL = Page("/{plural}/{name}", "detail.html", "", _any_object)
