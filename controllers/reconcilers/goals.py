"""Goal: looked at every cadence; makes missions from its templates within what it allows, and says how far it is."""

from __future__ import annotations

import json
from dataclasses import dataclass

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import owned, spending, writing
from controllers.reconcilers.standings import Standing, Standings
from controllers.runtime.result import DONE, Result
from decisions import goals as decisions
from decisions.finalizers import finalizers
from decisions.goals import GoalDecision, GoalFacts, TemplateFacts
from decisions.holds import Held, strictest
from decisions.references import references
from schemas.base import Key, ObjectRef
from schemas.conditions import Conditions, is_true, set_condition
from schemas.event import EventType
from schemas.goal import GoalReason, GoalSpec, GoalStatus, MissionCounts, TemplateStatus
from schemas.mission import TERMINAL_STATES, MissionSpec, MissionState, MissionStatus
from schemas.mission_template import NamedMissionTemplate
from schemas.resource import RECONCILE_REQUESTED_AT, Declared, Resource
from schemas.todo import TodoSpec
from store.contract import Transaction

_TRIES = 20
"""So many names are tried for a mission, where somebody else's have them."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a pass has to say in the conditions."""

    spec: GoalSpec
    decision: GoalDecision
    held: Held | None
    missing: str


class Goals:
    """Reconciles Goals. ``stops`` is what stops work beside the Holds in the store."""

    def __init__(self, standings: Standings, stops: Stops = other.NONE) -> None:
        self._standings = standings
        self._stops = stops

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """One pass over a Goal."""
        goal = tx.get(key)
        if goal is None:
            return writing.gone(tx, key)
        if goal.deletion_at is not None:
            return self._delete(tx, goal)
        spec, status = GoalSpec.model_validate(goal.spec), GoalStatus.model_validate(goal.status)
        token = goal.annotations.get(RECONCILE_REQUESTED_AT)
        asked = token is not None and token != status.last_handled_reconcile
        looked_at = asked or status.observed_generation != goal.generation
        templates = {t.name: _seen(tx, goal, t, forgive=looked_at) for t in status.templates}
        standing = self._standings.of(goal.key)
        held = self._held(tx, goal, spec)
        decision = decisions.decide(
            GoalFacts(
                spec=spec,
                total=standing.total,
                done=standing.done,
                figure=_figure(tx, spec, standing, status.value),
                templates={t.name: TemplateFacts(t.state, t.failures) for t in templates.values()},
                reviewed_at=status.last_review_time,
                stands=spec.suspend or held is not None,
            ),
            tx.now,
            asked=asked,
        )
        made = [self._make(tx, goal, spec, name, templates) for name in decision.make]
        missing = next((r for r in references(goal.namespace, goal.spec) if tx.get(r.target) is None), None)
        hint = f"{'.'.join(map(str, missing.field))}: there is no {missing.target.short}" if missing else ""
        conditions = _conditions(status.conditions, goal, _Found(spec, decision, held, hint), tx)
        new = status.model_copy(
            update={
                "conditions": conditions,
                "observed_generation": goal.generation,
                "progress": decision.progress,
                "value": decision.value,
                "spend": spending.spent(tx, spending.in_all(goal.key)),
                "missions": MissionCounts(
                    total=standing.total, active=standing.active, done=standing.done, failed=standing.failed
                ),
                "templates": tuple(sorted(templates.values(), key=lambda t: t.name)),
                "todos": _todos(tx, goal, spec),
                "last_review_time": tx.now if decision.due else status.last_review_time,
                "next_review_time": decision.next_review,
                "last_handled_reconcile": token or status.last_handled_reconcile,
            }
        )
        goal = writing.put_status(tx, goal, new)
        writing.note_ready(tx, goal, status.conditions, conditions)
        if any(made):
            names = ", ".join(name for name in made if name)
            tx.event(EventType.GOAL_REVIEWED, goal, reason="Made", message=f"made {names}", data={"missions": made})
        if decision.reached != is_true(status.conditions, "Reached"):
            text = f"{decision.value:g}" if decision.value is not None else "nothing is measured"
            reason = "Reached" if decision.reached else "NoLonger"
            tx.event(EventType.GOAL_REACHED, goal, reason=reason, message=text)
        wakes = [decision.next_review]
        if spec.deadline is not None and tx.now < spec.deadline:
            wakes.append(spec.deadline)
        return writing.wake_at(tx, goal, min(wakes))

    def _held(self, tx: Transaction, goal: Resource, spec: GoalSpec) -> Held | None:
        found = effective.holds(tx, self._stops)
        if not found:
            return None
        objects: list[tuple[Key, dict[str, str]]] = [(goal.key, dict(goal.labels))]
        if spec.project_ref is not None:
            target = spec.project_ref.key("Project", goal.namespace)
            there = tx.get(target)
            objects.append((target, dict(there.labels) if there is not None else {}))
        return strictest(found, objects, tx.now)

    def _make(
        self, tx: Transaction, goal: Resource, spec: GoalSpec, name: str, templates: dict[str, TemplateStatus]
    ) -> str:
        """Make the next mission of a template; its name, "" when none could be had."""
        template = next(t for t in spec.mission_templates if t.name == name)
        known = templates.get(name, TemplateStatus(name=name))
        wanted, notes = _mission_spec(goal, spec, template)
        for number in range(known.made + 1, known.made + 1 + _TRIES):
            title = decisions.mission_name(goal.name, name, number)
            mission = owned.make_mission(
                tx, goal, title, template, wanted, finalizers=finalizers("Mission"), annotations=notes
            )
            if mission is not None:
                templates[name] = known.model_copy(
                    update={"made": number, "mission": mission.name, "state": MissionState.INBOX}
                )
                return mission.name
        return ""

    def _delete(self, tx: Transaction, goal: Resource) -> Result:
        left = owned.let_go(tx, goal, ("Mission", "Todo"))
        others = self._standings.of(goal.key).active - left
        if left <= 0 and others <= 0:
            return owned.finish(tx, goal, "its missions and to-dos are gone")
        status = GoalStatus.model_validate(goal.status)
        reason = GoalReason.DELETING if left else GoalReason.IN_USE
        text = f"deletion waits for {left} of its own missions and to-dos, and {max(0, others)} missions that name it"
        conditions = set_condition(
            status.conditions, "Ready", False, reason, text, now=tx.now, generation=goal.generation
        )
        goal = writing.put_status(tx, goal, status.model_copy(update={"conditions": conditions}))
        writing.note_ready(tx, goal, status.conditions, conditions)
        tx.clear_timer(goal.key, writing.WAKE)
        return DONE


def _seen(tx: Transaction, goal: Resource, known: TemplateStatus, *, forgive: bool) -> TemplateStatus:
    """How the last mission of a template stands; failures in a row are counted once each. Whoever edited the goal or
    asked for a look has seen them."""
    failures = 0 if forgive else known.failures
    mission = tx.get(Key("Mission", goal.namespace, known.mission)) if known.mission else None
    if mission is None or mission.owner_uid != goal.uid:
        state = known.state if known.state in TERMINAL_STATES else None
        return known.model_copy(update={"failures": failures, "state": state})
    state = MissionState(mission.state or MissionState.INBOX)
    if state in TERMINAL_STATES and known.state not in TERMINAL_STATES:
        failures = failures + 1 if state is MissionState.FAILED else 0 if state is MissionState.DONE else failures
    return known.model_copy(update={"failures": failures, "state": state})


def _figure(tx: Transaction, spec: GoalSpec, standing: Standing, known: float | None) -> float | None:
    """The latest value of the metric: a number of that name in the deliverable, which is a JSON object then."""
    if spec.metric is None or spec.metric.source == decisions.SHARE_DONE:
        return None
    for key in standing.latest:
        mission = tx.get(key)
        deliverable = MissionStatus.model_validate(mission.status).deliverable if mission is not None else None
        value = _number(deliverable.text, spec.metric.source) if deliverable is not None else None
        if value is not None:
            return value
    return known


def _number(text: str | None, name: str) -> float | None:
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    value = found.get(name) if isinstance(found, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) < 1e300 else None


def _mission_spec(goal: Resource, spec: GoalSpec, template: NamedMissionTemplate) -> tuple[MissionSpec, dict[str, str]]:
    """(spec of the mission, annotations). Of a type that may not start by itself it names no agent: a person gives it
    to one."""
    wanted = template.spec
    changes: dict[str, object] = {"goal_ref": ObjectRef(name=goal.name)}
    if wanted.project_ref is None:
        changes["project_ref"] = spec.project_ref
    if wanted.type not in spec.auto_execute.classes:
        changes |= {"agent_ref": None, "agent_selector": None}
        notes = {owned.PROPOSED_AGENT: wanted.agent_ref.name} if wanted.agent_ref is not None else {}
        return wanted.model_copy(update=changes), notes
    if wanted.agent_ref is None and wanted.agent_selector is None:
        changes["agent_selector"] = spec.agent_selector
    return wanted.model_copy(update=changes), {}


def _todos(tx: Transaction, goal: Resource, spec: GoalSpec) -> tuple[str, ...]:
    """Make the to-dos that it declares, once; what people make of them is theirs."""
    there = {t.name for t in tx.objects("Todo", namespace=goal.namespace, owner_uid=goal.uid)}
    for todo in spec.todos:
        name = f"{goal.name}-{todo.name}"
        if name in there or tx.get(Key("Todo", goal.namespace, name)) is not None:
            continue
        made = TodoSpec(
            title=todo.title, assignee=todo.assignee, due_date=todo.due_date, goal_ref=ObjectRef(name=goal.name)
        )
        resource = tx.create(
            Declared("Todo", goal.namespace, name, made.to_wire()),
            manager="controller/goal",
            owner_uid=goal.uid,
            finalizers=finalizers("Todo"),
        )
        tx.event(EventType.CREATED, resource, reason="Goal", message=f"for {goal.key.short}")
        there.add(name)
    return tuple(sorted(there))


def _conditions(old: Conditions, goal: Resource, found: _Found, tx: Transaction) -> Conditions:
    decision, spec = found.decision, found.spec
    ready, reason, message = True, GoalReason.RECONCILED, "it is looked at every cadence"
    if spec.suspend:
        ready, reason, message = False, GoalReason.SUSPENDED, "spec.suspend is set"
    elif found.held is not None:
        ready, reason, message = False, GoalReason.HELD, found.held.hint
    elif found.missing:
        ready, reason, message = False, GoalReason.REFERENCE_NOT_FOUND, found.missing
    elif decision.failing and not decision.reached:
        names = ", ".join(decision.failing)
        ready, reason = False, GoalReason.MISSIONS_FAIL
        message = f"the last {decisions.MOST_FAILURES} missions of {names} failed; edit the goal, or ask for a look"
    new = set_condition(old, "Ready", ready, reason, message, now=tx.now, generation=goal.generation)
    told = "nothing has told the figure yet" if decision.value is None else f"{decision.value:g}"
    if decision.reached:
        reason, message = GoalReason.REACHED, told
    elif decision.overdue:
        reason, message = GoalReason.OVERDUE, f"{told}; the deadline is over"
    elif decision.value is None:
        reason, message = GoalReason.NO_FIGURE, told
    else:
        reason, message = GoalReason.IN_PROGRESS, told
    return set_condition(new, "Reached", decision.reached, reason, message, now=tx.now, generation=goal.generation)
