"""Carries out the containment of a mission that goes around in circles: the loop summary, and the alert."""

from __future__ import annotations

from controllers.reconcilers import alerts
from controllers.runs.artifacts import digest_of
from controllers.runs.run_record import RunRecord
from decisions import loops
from decisions.containment import said
from schemas.alert import AlertType, Severity
from schemas.base import Key
from schemas.event import EventType
from schemas.loop import LoopFinding, MissionLoop
from schemas.mission import Artifact, MissionStatus
from schemas.quantities import format_time
from schemas.resource import Resource
from store.contract import Transaction


def contain(tx: Transaction, mission: Resource, status: MissionStatus, finding: LoopFinding) -> MissionStatus:
    """Raise the alert and keep the summary, in the transaction that blocks the mission; its status as it is then. The
    summary is an artifact of the open run, where there is one, and of the mission."""
    loop = status.loop or MissionLoop()
    text = loops.summary(mission.key.short, finding, loop.contained_at or tx.now)
    run_name = status.current_run or status.last_run or ""
    artifact = Artifact(
        name=_free_name(status),
        media_type="text/markdown",
        size=len(text.encode()),
        digest=digest_of(text.encode()),
        text=text,
        run=run_name,
    )
    run = tx.get(Key("Run", mission.namespace, status.current_run)) if status.current_run else None
    if run is not None:
        record = RunRecord(tx, run)
        if not record.ended:
            artifact = artifact.model_copy(update={"name": _free_name(status, record)})
            record.attach(artifact, reason="LoopSummary")
            record.save()
    alert = alerts.raise_alert(
        tx,
        AlertType.LOOP_DETECTED,
        mission,
        severity=Severity.HIGH,
        title=f"{mission.key.short} goes around in circles: {finding.signal}",
        message=f"{said(finding)}. Read {artifact.name} (remit describe {mission.key.short}), then approve a new "
        "round, reset the counts or cancel it",
        details={
            "signal": finding.signal.value,
            "what": finding.what,
            "count": finding.count,
            "limit": finding.limit,
            "source": finding.source,
            "calls": list(finding.calls),
            "run": finding.run or run_name,
            "session": finding.session,
            "foundAt": format_time(finding.found_at),
            "summary": artifact.digest,
        },
        related=[run.uid] if run is not None else [],
    )
    if run is None:
        tx.event(
            EventType.ARTIFACT_ADDED,
            mission,
            reason="LoopSummary",
            message=f"{artifact.name}, {artifact.size:,} bytes",
            data={"name": artifact.name, "digest": artifact.digest, "size": artifact.size},
        )
    return status.model_copy(
        update={"artifacts": (*status.artifacts, artifact), "loop": loop.model_copy(update={"alert": alert.name})}
    )


def _free_name(status: MissionStatus, record: RunRecord | None = None) -> str:
    """Agents name their artifacts as they like: none of them can keep the summary out."""
    taken = {a.name for a in status.artifacts}
    if record is not None:
        taken |= {a.name for a in record.status.artifacts}
    name, number = f"{loops.SUMMARY}.md", 1
    while name in taken:
        number += 1
        name = f"{loops.SUMMARY}-{number}.md"
    return name
