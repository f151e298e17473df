"""UsageRecords: what a run cost, by model, as the ledger counts it; written when its reservation ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controllers.runs.pinned import spec_of
from controllers.runs.run_record import RunRecord, unpriced
from schemas.base import ObjectRef
from schemas.mission import MissionSpec
from schemas.parsed import parsed
from schemas.quantities import from_micros, to_micros
from schemas.resource import Declared
from schemas.usage_record import UsageRecordSpec, UsageRecordStatus, UsageSource
from store.contract import Amounts

MANAGER = "controller/runs"


def write(record: RunRecord, booked: Amounts) -> None:
    """One record for each model and price, and one of source Unknown for what was booked beyond them: together they
    come to ``booked``, also in whole numbers. In the transaction that settles the run, so that records and ledger never
    differ."""
    money, tokens, calls = booked.usd_micros, booked.tokens, booked.tool_calls
    parts: list[dict[str, Any]] = []
    for used in record.status.usage:
        micros = None if used.usd is None else min(to_micros(used.usd), money)
        money -= micros or 0
        tokens = max(0, tokens - used.input_tokens - used.output_tokens)
        parts.append(
            {
                "source": used.source,
                "model": used.model,
                "usd": None if micros is None else from_micros(micros),
                "input_tokens": used.input_tokens,
                "output_tokens": used.output_tokens,
                "cache_read_tokens": used.cache_read_tokens,
                "cache_write_tokens": used.cache_write_tokens,
                "price": used.price,
                "provider_ref": _provider(record, used.provider),
                "unpriced": unpriced(used),
            }
        )
    unknown_calls = max(0, calls - record.status.tool_calls)
    if not parts or money or tokens or unknown_calls:
        parts.append(
            {
                "source": UsageSource.UNKNOWN,
                "usd": from_micros(money),
                "unknown_tokens": tokens,
                "tool_calls": unknown_calls,
            }
        )
    parts[0]["tool_calls"] = parts[0].get("tool_calls", 0) + calls - unknown_calls
    parts[0]["wall_time"] = timedelta(milliseconds=booked.wall_ms)
    about = _about(record)
    for number, part in enumerate(parts, start=1):
        key = f"settle/run/{record.run.uid}/{number}"
        spec = UsageRecordSpec.model_validate({**about, **part, "at": record.tx.now, "idempotency_key": key})
        name = f"{record.run.uid}-{number}"
        record.tx.create(
            Declared("UsageRecord", record.run.namespace, name, spec.to_wire()),
            manager=MANAGER,
            status=UsageRecordStatus().to_wire(),
            fresh=True,
        )


def _about(record: RunRecord) -> dict[str, Any]:
    """What the run was for. The mission counts as it was when the run started."""
    spec = record.spec
    pinned = spec_of(record.tx, spec.mission_uid, spec.mission_generation)
    mission = None if pinned is None else parsed(MissionSpec, pinned)
    return {
        "run_ref": ObjectRef(name=record.run.name),
        "mission_ref": spec.mission_ref,
        "agent_ref": spec.agent_ref,
        "project_ref": None if mission is None else mission.project_ref,
        "goal_ref": None if mission is None else mission.goal_ref,
    }


def _provider(record: RunRecord, provider: str) -> ObjectRef | None:
    namespace, _, name = provider.partition("/")
    if not name:
        return None
    return ObjectRef(name=name, namespace=None if namespace == record.run.namespace else namespace)
