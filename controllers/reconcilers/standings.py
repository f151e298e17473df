"""How the missions of each Project and Goal stand, kept from the changes: a count costs what changed, not what is
there. In memory, learnt anew at each start; what was spent is in the ledger."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from schemas.base import Key
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.resource import Resource

_LATEST = 20
"""So many Done missions are remembered for the figures that they report."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Missions by how they stand; ``latest`` are those that were Done last, newest first."""

    total: int = 0
    active: int = 0
    done: int = 0
    failed: int = 0
    latest: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    state: str
    finished: str
    of: frozenset[Key]


class Standings:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._missions: dict[Key, _Known] = {}
        self._states: dict[Key, Counter[str]] = {}
        self._latest: dict[Key, list[tuple[str, Key]]] = {}

    def learn(self, mission: Resource) -> frozenset[Key]:
        """Take in where a mission stands; returns the Projects and Goals that count differently now."""
        owners = set()
        for kind, field in (("Project", "projectRef"), ("Goal", "goalRef")):
            ref = mission.spec.get(field)
            if ref:
                owners.add(Key(kind, ref.get("namespace") or mission.namespace, ref["name"]))
        key = mission.key
        with self._lock:
            known = self._missions.get(key)
            if known is None and not owners:
                return frozenset()
            state = mission.state or MissionState.INBOX.value
            new = _Known(state, str(mission.status.get("finishedAt") or ""), frozenset(owners))
            if known == new:
                return frozenset()
            touched = self._drop(key) | new.of
            self._missions[key] = new
            for owner in new.of:
                self._states.setdefault(owner, Counter())[state] += 1
                if state == MissionState.DONE:
                    latest = self._latest.setdefault(owner, [])
                    latest.append((new.finished, key))
                    latest.sort(reverse=True)
                    del latest[_LATEST:]
            return touched

    def forget(self, mission: Key) -> frozenset[Key]:
        """It is gone; returns who counts differently now."""
        with self._lock:
            return self._drop(mission)

    def _drop(self, mission: Key) -> frozenset[Key]:
        known = self._missions.pop(mission, None)
        if known is None:
            return frozenset()
        for owner in known.of:
            states = self._states[owner]
            states[known.state] -= 1
            if not +states:
                del self._states[owner]
            latest = [entry for entry in self._latest.get(owner, ()) if entry[1] != mission]
            if latest:
                self._latest[owner] = latest
            else:
                self._latest.pop(owner, None)
        return known.of

    def of(self, owner: Key) -> Standing:
        """Missions of a Project or Goal."""
        with self._lock:
            states = Counter(self._states.get(owner, Counter()))
            latest = tuple(key for _, key in self._latest.get(owner, ()))
        total = states.total()
        ended = sum(states[state] for state in TERMINAL_STATES)
        return Standing(
            total=total,
            active=total - ended,
            done=states[MissionState.DONE],
            failed=states[MissionState.FAILED],
            latest=latest,
        )
