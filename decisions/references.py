"""Which objects a spec names, and cycles among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from schemas.base import Key


class Reference(NamedTuple):
    """One reference: the field that makes it (dotted, below the document) and what it names."""

    field: tuple[str | int, ...]
    target: Key


# Field name -> kind. Every reference in Remit is an object `fooRef: {name, namespace?}`; these are all there are.
_REF_FIELDS = {
    "agentRef": "Agent",
    "executorRef": "Executor",
    "providerRef": "Provider",
    "projectRef": "Project",
    "goalRef": "Goal",
    "policyRef": "Policy",
    "budgetRef": "Budget",
    "channelRef": "Channel",
}
_REF_LISTS = {"dependsOn": "Mission", "policyRefs": "Policy"}
_CLUSTER_SCOPED = {"Tenant"}
HOLDS_DELETION = frozenset(
    {"agentRef", "executorRef", "providerRef", "policyRef", "budgetRef", "dependsOn", "policyRefs"}
)
"""Fields whose target is needed to work: deleting it waits with InUse."""


def references(namespace: str, spec: Mapping[str, Any]) -> list[Reference]:
    """Every reference in a canonical spec, in field order, found at any depth (mission templates included).
    Free-form fields (``input``, ``podTemplate``, JSON Schemas) are not searched."""
    found: list[Reference] = []
    _walk(spec, ("spec",), namespace, found)
    return found


_FREE_FORM = {"input", "podTemplate", "inputSchema", "outputSchema", "args"}


_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Most of a spec is of these, and names nothing."""


def _walk(node: Mapping[str, Any] | Iterable[Any], path: tuple[str | int, ...], namespace: str,
          found: list[Reference]) -> None:  # fmt: skip
    if type(node) is not dict and not isinstance(node, Mapping):
        for index, item in enumerate(node):
            if isinstance(item, dict | Mapping | list | tuple):
                _walk(item, (*path, index), namespace, found)
        return
    for name, value in node.items():
        if type(value) in _PLAIN or not value or name in _FREE_FORM:
            continue
        if name in _REF_FIELDS and isinstance(value, dict | Mapping):
            found.append(Reference((*path, name), _target(_REF_FIELDS[name], value, namespace)))
        elif name in _REF_LISTS and isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if isinstance(item, dict | Mapping):
                    found.append(Reference((*path, name, index), _target(_REF_LISTS[name], item, namespace)))
        elif isinstance(value, dict | Mapping | list | tuple):
            _walk(value, (*path, name), namespace, found)


def _target(kind: str, ref: Mapping[str, Any], namespace: str) -> Key:
    return Key(
        kind, "" if kind in _CLUSTER_SCOPED else str(ref.get("namespace") or namespace), str(ref.get("name", ""))
    )


def find_cycles(edges: Mapping[Key, Iterable[Key]]) -> list[tuple[Key, ...]]:
    """Cycles of a graph: one per strongly connected part, each as the way around from its smallest node back to it
    (first and last are the same). Deterministic; iterative, so depth does not matter."""
    graph = {node: sorted(set(targets) & edges.keys()) for node, targets in edges.items()}
    index: dict[Key, int] = {}
    low: dict[Key, int] = {}
    on_stack: set[Key] = set()
    stack: list[Key] = []
    parts: list[set[Key]] = []
    for root in sorted(graph):
        if root in index:
            continue
        work: list[tuple[Key, int]] = [(root, 0)]
        while work:
            node, child = work.pop()
            if child == 0:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            descended = False
            for position in range(child, len(graph[node])):
                target = graph[node][position]
                if target not in index:
                    work.append((node, position + 1))
                    work.append((target, 0))
                    descended = True
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            if descended:
                continue
            if low[node] == index[node]:
                part: set[Key] = set()
                while True:
                    member = stack.pop()
                    on_stack.discard(member)
                    part.add(member)
                    if member == node:
                        break
                if len(part) > 1 or node in graph[node]:
                    parts.append(part)
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
    return sorted(_way_around(graph, part) for part in parts)


def _way_around(graph: Mapping[Key, list[Key]], part: set[Key]) -> tuple[Key, ...]:
    """The shortest way from the smallest member back to itself (breadth first)."""
    start = min(part)
    came_from: dict[Key, Key] = {}
    queue = [start]
    for node in queue:
        for target in graph[node]:
            if target == start:
                way = [node]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return (*reversed(way), start)
            if target in part and target not in came_from:
                came_from[target] = node
                queue.append(target)
    raise AssertionError("a strongly connected part leads back to its start")
