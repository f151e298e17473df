"""The pools that agents share, as one transaction sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from decisions.pools import UNNAMED, PoolFacts
from schemas.base import Key
from schemas.parsed import parsed
from schemas.provider import ProviderSpec, ProviderStatus
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES
from store.contract import Snapshot


def key_of(namespace: str, agent_spec: Mapping[str, Any]) -> Key | None:
    """The Provider whose slots an agent uses; None for an agent without a model. One whose model names no Provider uses
    that of the name ``default``."""
    model = agent_spec.get("model")
    if not model:
        return None
    ref = model.get("providerRef")
    if not ref:
        return Key("Provider", namespace, UNNAMED)
    return Key("Provider", ref.get("namespace") or namespace, ref["name"])


def of_run(run: Resource) -> Key | None:
    """The Provider whose slot a run takes."""
    ref = run.spec.get("providerRef")
    return None if not ref else Key("Provider", ref.get("namespace") or run.namespace, ref["name"])


def active(snapshot: Snapshot) -> list[Resource]:
    """Every open run, by namespace and name."""
    return snapshot.objects("Run", states=ACTIVE_STATES)


def in_use(runs: Iterable[Resource]) -> Counter[Key]:
    """Slots that are taken, by pool. A run that waits for one which its agent spawned leaves its slot to it: else
    parents that wait for their sub-agents would hold all slots for ever."""
    runs = list(runs)
    left = {(of_run(run), run.spec.get("spawnedBy")) for run in runs if run.spec.get("spawnedBy")}
    return Counter(pool for run in runs if (pool := of_run(run)) is not None and (pool, run.uid) not in left)


def facts(snapshot: Snapshot, key: Key, used: int) -> PoolFacts:
    """The pool, with the built-in defaults where nobody declared the Provider."""
    provider = snapshot.get(key)
    if provider is None:
        return PoolFacts(key, ProviderSpec(), ProviderStatus(), used, declared=False)
    return PoolFacts(
        key,
        parsed(ProviderSpec, provider.spec),
        parsed(ProviderStatus, provider.status),
        used,
        deleting=provider.deletion_at is not None,
    )
