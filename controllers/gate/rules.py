"""The Policies and Waivers that hold for an agent, compiled once for each of their revisions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

from controllers.reconcilers import policies, waivers
from decisions.policy.compiled import (
    CompiledPolicy,
    CompiledWaiver,
    PolicySet,
    compile_policy,
    compile_waiver,
    in_force,
)
from schemas.base import Key
from schemas.parsed import parsed
from schemas.resource import Resource
from schemas.tenant import TenantSpec
from store.contract import Transaction

K = TypeVar("K")
V = TypeVar("V")
_COMPILED = 2000
_SETS = 2000

Revision = tuple[str, int, str]
"""uid, generation and place: what was compiled is the same while these are."""


class Kept(Generic[K, V]):
    """The latest ``most`` values, by key. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, or None."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> V:
        """Keep it; returns it."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


class Rulebook:
    """What holds for each agent. Shared by every thread of a process; holds nothing that the store does not."""

    def __init__(self) -> None:
        self._policies: Kept[Revision, CompiledPolicy] = Kept(_COMPILED)
        self._waivers: Kept[Revision, CompiledWaiver] = Kept(_COMPILED)
        self._sets: Kept[tuple[object, ...], PolicySet] = Kept(_SETS)

    def of(self, tx: Transaction, agent: Resource) -> PolicySet:
        """The Policies and Waivers in force for an agent, as they stand in this transaction. A Policy that is being
        deleted holds until it is gone; a Waiver that is being deleted holds no more."""
        tenant_policies = _named_by_tenant(tx, agent.namespace)
        spaces = {agent.namespace, *(key.namespace for key in tenant_policies)}
        declared = [p for space in sorted(spaces) for p in tx.objects("Policy", namespace=space)]
        excepted = [w for w in tx.objects("Waiver", namespace=agent.namespace) if w.deletion_at is None]
        key = (
            agent.namespace,
            tuple(sorted(agent.labels.items())),
            tenant_policies,
            tuple(map(_revision, declared)),
            tuple(map(_revision, excepted)),
        )
        known = self._sets.get(key)
        if known is not None:
            return known
        made = in_force(
            self._compiled_policies(declared),
            self._compiled_waivers(excepted),
            namespace=agent.namespace,
            labels=agent.labels,
            tenant_policies=tenant_policies,
        )
        return self._sets.put(key, made)

    def _compiled_policies(self, found: Iterable[Resource]) -> list[CompiledPolicy]:
        return [
            self._policies.get(_revision(p)) or self._policies.put(_revision(p), compile_policy(policies.document(p)))
            for p in found
        ]

    def _compiled_waivers(self, found: Iterable[Resource]) -> list[CompiledWaiver]:
        return [
            self._waivers.get(_revision(w)) or self._waivers.put(_revision(w), compile_waiver(waivers.document(w)))
            for w in found
        ]


def _revision(resource: Resource) -> Revision:
    return resource.uid, resource.generation, resource.provenance.place if resource.provenance is not None else ""


def _named_by_tenant(tx: Transaction, namespace: str) -> tuple[Key, ...]:
    tenant = tx.get(Key("Tenant", "", namespace))
    if tenant is None:
        return ()
    refs = parsed(TenantSpec, tenant.spec).defaults.policy_refs
    return tuple(sorted(ref.key("Policy", namespace) for ref in refs))
