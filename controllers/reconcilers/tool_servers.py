"""ToolServer: which of the tools that it offers are accepted, and who is told of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controllers.reconcilers import alerts, writing
from controllers.runtime.result import DONE, Result
from decisions import tools
from decisions.tools import QUARANTINED
from schemas.alert import AlertState, AlertType, Severity
from schemas.base import Key
from schemas.conditions import Conditions, set_condition
from schemas.event import EventType
from schemas.redaction import Redactor
from schemas.resource import RECONCILE_REQUESTED_AT, Resource, digest
from schemas.tool_server import SeenTool, ToolServerReason, ToolServerSpec, ToolServerStatus, ToolState
from store.contract import Transaction

_NAMED = 5
_SHAPES = Redactor()


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a ToolServer."""
    server = tx.get(key)
    if server is None:
        _forget(tx, key)
        return writing.gone(tx, key)
    if server.deletion_at is not None:
        tx.event(EventType.DELETED, server, reason="Finalized", message="nothing to undo")
        tx.remove(tx.put_finalizers(server, ()) if server.finalizers else server)
        return DONE
    spec = ToolServerSpec.model_validate(server.spec)
    status = ToolServerStatus.model_validate(server.status)
    found = tools.judged(status.tools, spec.pins)
    waiting = [tool for tool in found if tool.state in QUARANTINED]
    accepted = sum(tool.state is ToolState.ACCEPTED for tool in found)
    conditions = _conditions(tx, server, spec, status, found)
    token = server.annotations.get(RECONCILE_REQUESTED_AT, "")
    told = _fingerprint(waiting)
    new = status.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": server.generation,
            "tools": found,
            "accepted": accepted,
            "quarantined": len(waiting),
            "alerted": told,
            "last_handled_reconcile": token or status.last_handled_reconcile,
        }
    )
    server = writing.put_status(tx, server, new)
    writing.note_ready(tx, server, status.conditions, conditions)
    _note(tx, server, status.tools, found)
    if told != status.alerted:
        _tell(tx, server, waiting)
    return DONE


def take_in(
    tx: Transaction, server: Resource, definitions: Iterable[Mapping[str, Any]], run: str
) -> list[tools.Offered]:
    """What the proxy of a run saw: kept in the status where it is news, for the next pass to judge. Returns what could
    be read. A run can tell anything; what agents may use follows from the pins alone."""
    found = tools.offered(definitions)
    status = ToolServerStatus.model_validate(server.status)
    known = {tool.name: tool.digest for tool in status.tools if tool.digest}
    if status.last_seen is not None and known == {each.name: each.digest for each in found}:
        return found
    shown = tuple(
        tool.model_copy(update={"definition": _SHAPES.json(tool.definition)})
        for tool in tools.seen(status.tools, found, tx.now)
    )
    # Where they stand is left as it was: the pass that follows compares, and tells.
    new = status.model_copy(update={"tools": shown, "last_seen": tx.now, "seen_by": run})
    tx.put_status(server, new.to_wire())
    tx.event(
        EventType.TOOLS_CHANGED,
        server,
        reason="Seen",
        message=f"{len(found)} tools are offered, told by {run}",
        data={"run": run, "tools": {each.name: each.digest for each in found[:100]}},
    )
    return found


def _conditions(
    tx: Transaction,
    server: Resource,
    spec: ToolServerSpec,
    status: ToolServerStatus,
    found: tuple[SeenTool, ...],
) -> Conditions:
    waiting = [tool for tool in found if tool.state in QUARANTINED]
    accepted = [tool for tool in found if tool.state is ToolState.ACCEPTED]
    gone = [tool for tool in found if tool.state is ToolState.GONE]
    pinned: tuple[bool | None, ToolServerReason, str]
    ready: tuple[bool | None, ToolServerReason, str]
    if status.last_seen is None:
        pinned = (None, ToolServerReason.NOT_SEEN_YET, "no proxy has told yet what it offers")
    elif waiting:
        pinned = (False, ToolServerReason.TOOLS_QUARANTINED, f"{words(waiting)}; to accept: remit pin {server.name}")
    else:
        more = f"; gone: {_some(tool.name for tool in gone)}" if gone else ""
        pinned = (True, ToolServerReason.ALL_PINNED, f"{len(accepted)} tools are accepted{more}")
    if spec.suspend:
        ready = (False, ToolServerReason.SUSPENDED, "spec.suspend: none of its tools is served")
    elif status.last_seen is None:
        ready = (None, ToolServerReason.NOT_SEEN_YET, pinned[2])
    elif not accepted:
        ready = (False, ToolServerReason.NO_TOOLS, "none of its tools is accepted")
    else:
        ready = (True, ToolServerReason.RECONCILED, f"agents can use {len(accepted)} tools")
    conditions = status.conditions
    for type_, (value, reason, message) in (("Ready", ready), ("Pinned", pinned)):
        conditions = set_condition(conditions, type_, value, reason, message, now=tx.now, generation=server.generation)
    return conditions


def words(waiting: Iterable[SeenTool]) -> str:
    """What is quarantined, and why, for people: ``changed: search (description); new: wipe``."""
    listed = list(waiting)
    changed = [
        f"{tool.name} ({', '.join(tool.changed)})" if tool.changed else tool.name
        for tool in listed
        if tool.state is ToolState.CHANGED
    ]
    new = [tool.name for tool in listed if tool.state is ToolState.NEW]
    parts = [f"changed: {_some(changed)}"] if changed else []
    parts += [f"new: {_some(new)}"] if new else []
    return "; ".join(parts)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def _note(tx: Transaction, server: Resource, old: tuple[SeenTool, ...], new: tuple[SeenTool, ...]) -> None:
    before = {tool.name: tool.state for tool in old}
    moved = {tool.name: tool.state for tool in new if before.get(tool.name) is not tool.state}
    accepted = sorted(name for name, state in moved.items() if state is ToolState.ACCEPTED)
    held = [tool for tool in new if tool.name in moved and tool.state in QUARANTINED]
    if accepted:
        tx.event(
            EventType.TOOLS_CHANGED, server, reason="Accepted", message=f"accepted: {_some(accepted)}",
            data={"tools": accepted[:100]},
        )  # fmt: skip
    if held:
        tx.event(
            EventType.TOOLS_CHANGED, server, reason="Quarantined", message=words(held),
            data={"tools": {tool.name: list(tool.changed) for tool in held[:100]}},
        )  # fmt: skip


def _fingerprint(waiting: list[SeenTool]) -> str:
    return digest([[tool.name, tool.digest] for tool in waiting]) if waiting else ""


def _alert(server: Resource) -> Key:
    return Key("Alert", server.namespace, alerts.alert_name(AlertType.TOOLS_QUARANTINED, server.uid))


def _forget(tx: Transaction, key: Key) -> None:
    """Nobody needs to look at the tools of a server that is gone."""
    for alert in tx.objects("Alert", namespace=key.namespace, states=[AlertState.OPEN, AlertState.ACKNOWLEDGED]):
        if alert.spec["type"] == AlertType.TOOLS_QUARANTINED and alert.spec["subject"] == str(key):
            alerts.clear(tx, alert.key, "the tool server is gone")


def _tell(tx: Transaction, server: Resource, waiting: list[SeenTool]) -> None:
    if not waiting:
        alerts.clear(tx, _alert(server), "nothing is quarantined any more")
        return
    changed = any(tool.state is ToolState.CHANGED for tool in waiting)
    alerts.raise_alert(
        tx,
        AlertType.TOOLS_QUARANTINED,
        server,
        severity=Severity.HIGH if changed else Severity.LOW,
        title=f"{server.key.short}: {words(waiting)}"[:200],
        message="agents do not see these tools and calls are refused until `remit pin` or a commit accepts them",
        details={"tools": {tool.name: {"state": tool.state.value, "digest": tool.digest} for tool in waiting[:50]}},
    )
