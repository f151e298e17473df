"""``/metrics`` for Prometheus: states of objects, health of components, figures of the process. Labels are words of our
own only (states, components), so their number is bounded whatever is declared."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from api.read.answers import Reader, json_response
from api.read.engine import EngineFacts
from api.read.summary import is_true, needs_a_person
from schemas.alert import AlertState
from schemas.approval_request import RequestState
from schemas.mission import MissionState
from schemas.run import RunState
from store.contract import EffectState, Snapshot

_STATES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("missions", "Mission", tuple(MissionState)),
    ("runs", "Run", tuple(RunState)),
    ("approval_requests", "ApprovalRequest", tuple(RequestState)),
    ("alerts", "Alert", tuple(AlertState)),
)
_COUNTED = (
    "Agent",
    "Executor",
    "Goal",
    "Todo",
    "Schedule",
    "Project",
    "Policy",
    "Budget",
    "Hold",
    "Session",
    "Message",
)
_EFFECTS = 10_000


class _Scrape:
    """One scrape as a collector: everything was read at one moment before."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def add_metrics(app: FastAPI, reader: Reader, facts: EngineFacts, version: str) -> None:
    """``/metrics`` and the same figures as JSON."""

    @app.get("/metrics", tags=["health"], summary="Figures for Prometheus", operation_id="prometheus",
             response_class=PlainTextResponse)  # fmt: skip
    async def metrics() -> Response:
        """Text in the exposition format."""
        found = await reader.read(lambda snapshot: gauges(snapshot, facts, version))
        return Response(_exposed(found), media_type=CONTENT_TYPE_LATEST)

    @app.get("/api/v1/metrics", tags=["figures"], summary="The same figures as JSON", operation_id="metrics")
    async def metrics_json() -> Response:
        """A list of ``{name, labels, value}``."""
        found = await reader.read(lambda snapshot: gauges(snapshot, facts, version))
        samples = [{"name": s.name, "labels": s.labels, "value": s.value} for m in found for s in m.samples]
        return json_response({"metrics": samples})


def gauges(snapshot: Snapshot, facts: EngineFacts, version: str) -> list[Metric]:
    """Everything that is told, at this moment."""
    found: list[Metric] = []
    info = GaugeMetricFamily("remit_build_info", "The version that runs.", labels=["version"])
    info.add_metric([version], 1)
    found.append(info)
    for name, kind, states in _STATES:
        family = GaugeMetricFamily(f"remit_{name}", f"{kind} objects by state.", labels=["state"])
        for state in states:
            family.add_metric([str(state)], snapshot.count(kind, states=[str(state)]))
        found.append(family)
    objects = GaugeMetricFamily("remit_objects", "Objects by kind.", labels=["kind"])
    for kind in _COUNTED:
        objects.add_metric([kind], snapshot.count(kind))
    found.append(objects)
    agents = snapshot.objects("Agent")
    found += [
        _gauge("remit_agents_ready", "Agents that work can be given to.", sum(is_true(a, "Ready") for a in agents)),
        _gauge("remit_needs_person", "Things that wait for a person.", len(needs_a_person(snapshot))),
        _gauge("remit_resource_version", "The version that the last write was given.", snapshot.latest_version()),
    ]
    newest = snapshot.events(limit=1, newest_first=True)
    found.append(_gauge("remit_events", "Rows of the event log.", newest[0].seq if newest else 0))
    effects = GaugeMetricFamily("remit_effects", "Outside acts that wait, at most 10,000.", labels=["state"])
    for state in (EffectState.PENDING, EffectState.CLAIMED):
        effects.add_metric([state.value], len(snapshot.effects(states=[state], limit=_EFFECTS)))
    found.append(effects)
    up = GaugeMetricFamily("remit_component_ready", "Whether a component does its work.", labels=["component"])
    restarts = GaugeMetricFamily("remit_component_restarts", "Crashes of a component.", labels=["component"])
    for health in facts.health():
        up.add_metric([health.name], int(health.ok))
        restarts.add_metric([health.name], health.restarts)
    found += [up, restarts]
    found += [_gauge(f"remit_{name}", "A figure of the process.", value) for name, value in facts.figures().items()]
    return found


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _exposed(found: list[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(found))
    return generate_latest(registry)
