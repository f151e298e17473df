"""Missions that said they wait for a place, kept from the changes in the order in which they are served: giving out a
place costs what shares it, not what waits."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime

from controllers.reconcilers import pools
from decisions.dispatch import Candidate, Lane, Lead, Shares, Waiting
from decisions.mission_summary import FULL
from schemas.base import Key
from schemas.quantities import parse_time
from schemas.resource import Resource

SHOWN_MOST = 500
"""So many of the missions that wait for a pool are looked at anew when it begins or ends to pause, the next ones
first: each says then until when. The others say what they wait for, and the Provider until when."""


class ReadyMissions:
    """Who waits, for which agent, and which agents share what. Thread-safe.

    What a pass takes it gives back, unless a run was ordered: then the change says so. Until that was read, a candidate
    counts as taken, and ``doubtful`` names it, so that a transaction which was lost takes nobody out of the queue.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = Waiting()
        self._taken: dict[Key, dict[Key, Candidate]] = {}  # by agent
        self._pool_of: dict[Key, Key] = {}
        self._sharing: dict[Key, set[Key]] = {}  # agents by pool
        self._shares: dict[Key, Shares] = {}  # by pool, or by agent where it has none
        self._spawned: set[Key] = set()
        self._capped: dict[str, set[Key]] = {}  # agents that wait for a place of their tenant
        self._parked: dict[str, dict[Key, tuple[int, datetime, Key]]] = {}  # missions above the ceiling, by tenant

    # Learning.

    def learn(self, mission: Resource) -> None:
        """Take in where a mission stands now."""
        ready = mission.status.get("readySince")
        assigned = mission.status.get("agent")
        priority = int(mission.spec.get("priority", 50))
        key = mission.key
        with self._lock:
            self._untake(key)
            self._park(mission, priority)
            if not ready or not assigned or mission.status.get("currentRun") or mission.deletion_at is not None:
                self._waiting.discard(key)
                return
            agent = Key("Agent", assigned.get("namespace") or mission.namespace, assigned["name"])
            lane = Lane(mission.namespace, _project(mission), agent)
            self._waiting.add(Candidate(key, priority, parse_time(ready), lane))

    def learn_agent(self, agent: Resource) -> None:
        """Take in which pool an agent shares."""
        pool = pools.key_of(agent.namespace, agent.spec)
        with self._lock:
            self._drop_agent(agent.key)
            if agent.status.get("spawned"):
                self._spawned.add(agent.key)
            if pool is not None:
                self._pool_of[agent.key] = pool
                self._sharing.setdefault(pool, set()).add(agent.key)

    def forget(self, key: Key) -> None:
        """It is gone."""
        with self._lock:
            if key.kind == "Mission":
                self._untake(key)
                self._waiting.discard(key)
                parked = self._parked.get(key.namespace)
                if parked is not None:
                    parked.pop(key, None)
            elif key.kind == "Agent":
                self._drop_agent(key)

    def _drop_agent(self, agent: Key) -> None:
        self._spawned.discard(agent)
        pool = self._pool_of.pop(agent, None)
        if pool is not None:
            self._sharing[pool].discard(agent)
            if not self._sharing[pool]:
                del self._sharing[pool]
        self._shares.pop(agent, None) if pool is not None else None

    def _untake(self, mission: Key) -> None:
        for agent in [agent for agent, taken in self._taken.items() if mission in taken]:
            del self._taken[agent][mission]
            if not self._taken[agent]:
                del self._taken[agent]

    def _park(self, mission: Resource, priority: int) -> None:
        over = any(
            b.get("type") == "Tenant" and b.get("ref", "").endswith(FULL) for b in mission.status.get("blockedOn", ())
        )
        if over:
            rank = (-priority, mission.created_at, mission.key)
            self._parked.setdefault(mission.namespace, {})[mission.key] = rank
        elif mission.namespace in self._parked:
            self._parked[mission.namespace].pop(mission.key, None)
            if not self._parked[mission.namespace]:
                del self._parked[mission.namespace]

    # Asking.

    def pool_of(self, agent: Key) -> Key | None:
        """The pool that an agent shares."""
        with self._lock:
            return self._pool_of.get(agent)

    def domain(self, agent: Key) -> Key:
        """What an agent shares with others: its pool; itself where it has none."""
        with self._lock:
            return self._pool_of.get(agent, agent)

    def sharing(self, pool: Key) -> list[Key]:
        """Agents of a pool that somebody waits for, by name."""
        with self._lock:
            return self._agents(pool)

    def _agents(self, domain: Key) -> list[Key]:
        return sorted(self._sharing.get(domain, set()) & self._waiting.agents())

    def heirs(self, pool: Key, besides: Key) -> bool:
        """Whether a sub-agent waits for a slot, or ``besides`` is one: it may take over that of its parent's run."""
        with self._lock:
            heirs = self._spawned & self._sharing.get(pool, set())
            return besides in heirs or bool(heirs & self._waiting.agents())

    def count(self, tenant: str) -> int:
        """Missions of a tenant that wait for a place."""
        with self._lock:
            return self._waiting.count(tenant)

    def waits(self, mission: Key) -> bool:
        """Whether it is among those that wait."""
        with self._lock:
            return mission in self._waiting

    def waiting_for(self, pool: Key) -> int:
        """Missions that wait for a slot."""
        with self._lock:
            return self._waiting.of_agents(self._sharing.get(pool, ()))

    def next_of(self, pool: Key) -> list[Key]:
        """The missions that would get a slot of the pool next, SHOWN_MOST at most."""
        with self._lock:
            found = (c for a in self._sharing.get(pool, ()) for c in self._waiting.heads(a, SHOWN_MOST))
            return [c.key for c in sorted(found, key=lambda c: (-c.priority, c.ready_since, c.key))][:SHOWN_MOST]

    # Giving out.

    def doubtful(self, domain: Key) -> list[Candidate]:
        """Candidates of the domain that were taken, and of which no change said yet what became of them."""
        with self._lock:
            agents = self._sharing.get(domain) or ({domain} if domain.kind == "Agent" else set())
            return [c for agent in sorted(agents & self._taken.keys()) for c in self._taken[agent].values()]

    def settle(self, candidate: Candidate, *, waits: bool) -> None:
        """What became of a doubtful one: it waits still, or a run of it was ordered."""
        with self._lock:
            self._untake(candidate.key)
            if waits:
                self._waiting.add(candidate)

    def take(self, domain: Key, without: set[Key], now: datetime) -> tuple[Candidate, Lead] | None:
        """The next of those that share ``domain``, and the lead of its lane, without the agents ``without``. It is
        taken out until it is given back, or learnt anew."""
        with self._lock:
            agents = self._sharing.get(domain) if domain.kind != "Agent" else {domain}
            shares = self._shares.setdefault(domain, Shares())
            found = self._waiting.first(sorted((agents or set()) - without), shares, now)
            if found is not None:
                candidate, _ = found
                self._waiting.discard(candidate.key)
                self._taken.setdefault(candidate.lane.agent, {})[candidate.key] = candidate
            return found

    def give_back(self, candidates: Iterable[Candidate]) -> None:
        """They did not get a place; unless something newer was learnt of them, they wait as before."""
        with self._lock:
            for candidate in candidates:
                taken = self._taken.get(candidate.lane.agent, {})
                if candidate.key in taken:
                    self._untake(candidate.key)
                    self._waiting.add(candidate)

    def charge(self, domain: Key, lane: Lane) -> None:
        """A run of the lane was ordered."""
        with self._lock:
            agents = self._sharing.get(domain) if domain.kind != "Agent" else {domain}
            self._shares.setdefault(domain, Shares()).charge(lane, self._waiting.lanes(agents or ()))

    # Limits of tenants.

    def cap(self, tenant: str, agent: Key) -> None:
        """An agent has to wait until another of its tenant is idle."""
        with self._lock:
            self._capped.setdefault(tenant, set()).add(agent)

    def uncap(self, tenant: str) -> list[Key]:
        """Those that waited for that, who is next first; they have to ask again."""
        with self._lock:
            agents = self._capped.pop(tenant, set())
            heads = {agent: self._waiting.heads(agent, 1) for agent in agents}
        late = sorted(agents, key=lambda a: (not heads[a], [(-c.priority, c.ready_since) for c in heads[a]], a))
        return late

    def unparked(self, tenant: str, room: int) -> list[Key]:
        """Missions above the ceiling that may be taken in now, the most urgent first, then the oldest."""
        with self._lock:
            parked = self._parked.get(tenant, {})
            return [key for _, _, key in sorted(parked.values())[: max(0, room)]]

    def has_parked(self, tenant: str) -> bool:
        """Whether any waits above the ceiling."""
        with self._lock:
            return tenant in self._parked


def _project(mission: Resource) -> str:
    ref = mission.spec.get("projectRef")
    return "" if not ref else f"{ref.get('namespace') or mission.namespace}/{ref['name']}"
