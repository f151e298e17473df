"""Project: the stage in force, its missions and what they used."""

from __future__ import annotations

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import owned, spending, writing
from controllers.reconcilers.standings import Standings
from controllers.runs import threads
from controllers.runtime.result import DONE, Result
from decisions.holds import strictest
from schemas.base import Key
from schemas.conditions import Conditions, set_condition
from schemas.event import EventType
from schemas.project import ProjectReason, ProjectSpec, ProjectStatus, Stage, is_legal_stage_move
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from store.contract import Transaction


class Projects:
    """Reconciles Projects. ``stops`` is what stops work beside the Holds in the store."""

    def __init__(self, standings: Standings, stops: Stops = other.NONE) -> None:
        self._standings = standings
        self._stops = stops

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """One pass over a Project."""
        project = tx.get(key)
        if project is None:
            return writing.gone(tx, key)
        standing = self._standings.of(project.key)
        if project.deletion_at is not None and standing.active == 0:
            threads.forget(tx, project)
            return owned.finish(tx, project, "no mission that has not ended names it")
        spec, status = ProjectSpec.model_validate(project.spec), ProjectStatus.model_validate(project.status)
        legal = status.stage is None or is_legal_stage_move(status.stage, spec.stage)
        stage = spec.stage if legal or status.stage is None else status.stage
        conditions = self._conditions(tx, project, spec, status.conditions, stage, standing.active)
        new = status.model_copy(
            update={
                "conditions": conditions,
                "observed_generation": project.generation,
                "stage": stage,
                "open_missions": standing.active,
                "done_missions": standing.done,
                "spend": spending.spent(tx, spending.in_all(project.key)),
                "last_handled_reconcile": project.annotations.get(RECONCILE_REQUESTED_AT)
                or status.last_handled_reconcile,
            }
        )
        project = writing.put_status(tx, project, new)
        writing.note_ready(tx, project, status.conditions, conditions)
        if status.stage is not None and stage is not status.stage:
            text = f"{status.stage} -> {stage}"
            tx.event(EventType.STAGE_CHANGED, project, reason=stage, message=text, data={"from": status.stage.value})
        return DONE

    def _conditions(
        self, tx: Transaction, project: Resource, spec: ProjectSpec, old: Conditions, stage: Stage, active: int
    ) -> Conditions:
        ready, reason, message = True, ProjectReason.RECONCILED, f"{stage}"
        held = strictest(effective.holds(tx, self._stops), [(project.key, project.labels)], tx.now)
        channel = spec.channel_ref.key("Channel", project.namespace) if spec.channel_ref is not None else None
        if project.deletion_at is not None:
            ready, reason = False, ProjectReason.IN_USE
            message = f"deletion waits for {active} missions that name it to end"
        elif held is not None:
            ready, reason, message = False, ProjectReason.HELD, held.hint
        elif stage is not spec.stage:
            ready, reason = False, ProjectReason.STAGE_SKIPPED
            message = f"{spec.stage} is more than one step ahead of {stage}; declare the next stage first"
        elif channel is not None and tx.get(channel) is None:
            ready, reason = False, ProjectReason.REFERENCE_NOT_FOUND
            message = f"spec.channelRef: there is no {channel.short}"
        return set_condition(old, "Ready", ready, reason, message, now=tx.now, generation=project.generation)
