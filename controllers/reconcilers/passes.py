"""Passes: one or several in one transaction, and what they lead to at once in the same one.

Three steps of a mission follow from each other and need nobody else: that its run ended, what the mission makes of
that, and who gets the place. They may be taken one by one, each woken by the change before it, and go on like that
whenever this here fails or is not asked. Taken together they cost one commit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import begun, dispatcher
from controllers.reconcilers.ready import ReadyMissions
from controllers.runtime.recall import Memory, Watched
from controllers.runtime.result import DONE, Result
from schemas.base import Key
from schemas.mission import TERMINAL_STATES
from schemas.resource import Actor, ActorKind, Resource
from schemas.run import ENDED
from store.contract import Store, Transaction

Reconciler = Callable[[Transaction, Key], Result]
Pass = tuple[Result, Memory | None]
"""What a pass answered, and the memory to recall it by."""
Claim = Callable[[Transaction], Callable[[], object]]
"""Takes effects in the transaction that put them into the outbox; what it returns hands them over after the commit."""

RECALLED = frozenset({"Mission", "ApprovalRequest", "ApprovalDecision"})
"""Kinds whose passes are recalled: those that there are many of, and whose reconcilers look at the store only."""
SHARED = frozenset(
    {"Mission", "Agent", "ApprovalRequest", "ApprovalDecision", "Budget", "Policy", "Project", "Provider", "Tenant"}
) | {dispatcher.KIND}
"""Kinds whose passes may share a transaction: they look at the store only, and do not take long."""
_ENDED = frozenset(state.value for state in TERMINAL_STATES)
MOST = 32
"""Passes of one transaction: others wait for its end."""
BROUGHT = 8
"""Missions of one commit that are looked at in the transaction that brings them."""


@functools.cache
def actor_of(kind: str) -> Actor:
    """Who acts in the passes over a kind."""
    return Actor(ActorKind.SYSTEM, f"controller:{kind.lower()}", "Engine")


class Passes:
    """Makes the passes of one engine. Thread-safe as the store is.

    ``stops`` is what stops work beside the Holds in the store; ``claim`` takes the effects of runs that were ordered;
    ``later`` is told, after the commit, of passes that were made along with others and want to be made again by
    themselves; ``keep`` gets the memories of those that nobody asked for.
    """

    def __init__(
        self,
        store: Store,
        reconcilers: Mapping[str, Reconciler],
        ready: ReadyMissions,
        *,
        stops: Stops = other.NONE,
        claim: Claim | None = None,
        later: Callable[[Key, Result], object] = lambda key, result: None,
        keep: Callable[[Mapping[Key, Memory]], object] = lambda memories: None,
    ) -> None:
        self._store = store
        self._reconcilers = reconcilers
        self._ready = ready
        self._stops = stops
        self._claim = claim
        self._later = later
        self._keep = keep

    def one(self, key: Key) -> Pass:
        """A pass in a transaction of its own, and nothing else."""
        with self._store.transaction(actor_of(key.kind)) as tx:
            return self._made(tx, key)

    def several(self, keys: Sequence[Key], *, leads: bool) -> list[Pass]:
        """Passes in one transaction, all or none; places are given out after the others. ``leads`` to go on with what
        they lead to."""
        made: dict[Key, Pass] = {}
        then: Callable[[], object] | None = None
        with self._store.transaction(actor_of(keys[0].kind)) as tx:
            for key in keys:
                if key.kind != dispatcher.KIND:
                    made[key] = self._made(tx, key)
            if leads:
                then = self._go_on(tx, made, [key for key in keys if key.kind == dispatcher.KIND])
            else:
                made |= {key: self._made(tx, key) for key in keys if key.kind == dispatcher.KIND}
        if then is not None:
            then()
        return [made[key] for key in keys]

    def follow(self, tx: Transaction) -> Callable[[], object]:
        """What the changes of this transaction lead to: missions take in how their runs ended, and free places are
        given out. What it returns is called after the commit."""
        return self._go_on(tx, {}, [])

    def brought(self, tx: Transaction, keys: Sequence[Key]) -> Callable[[], object]:
        """What a few new missions lead to, where a look at a source brought nothing else: their passes, and the places
        that they ask for. Else, and where Holds have to count what is new, they are woken by the change as ever. What
        it returns is called after the commit."""
        if len(keys) > BROUGHT or any(key.kind != "Mission" for key in keys) or effective.holds(tx, self._stops):
            return _nothing
        return self._go_on(tx, {}, [], keys)

    def _go_on(
        self, tx: Transaction, made: dict[Key, Pass], asked: Sequence[Key], new: Sequence[Key] = ()
    ) -> Callable[[], object]:
        """Adds its passes to ``made``."""
        before = set(made).union(asked)
        for key in new:
            made[key] = self._made(tx, key)
        places = dict.fromkeys(asked)
        ended = [run for run in self._runs(tx) if run.state in ENDED]
        if ended:
            # What an ESTOP file ended is blocked by its Hold, also where nobody had the time to make that.
            effective.taken_in(tx, self._stops)
        for run in ended:
            mission = tx.get_by_uid(run.owner_uid)
            if mission is not None and mission.key not in made:
                made[mission.key] = self._made(tx, mission.key)
            places[dispatcher.key_of(_agent_of(run, run.spec["agentRef"]))] = None
        for key in tx.touched():
            mission = tx.get(key) if key.kind == "Mission" else None
            named = mission.status.get("agent") if mission is not None else None
            if mission is None or not named or not mission.status.get("readySince"):
                continue
            if not mission.status.get("currentRun"):
                self._ready.learn(mission)
                places[dispatcher.key_of(_agent_of(mission, named))] = None
        made |= {place: self._made(tx, place) for place in places}
        for key in tx.touched():
            mission = tx.get(key) if key.kind == "Mission" else None
            memory = begun.memory(tx, mission, self._stops) if mission is not None else None
            if memory is not None:
                made[key] = (memory.result, memory)
        claimed = self._claim(tx) if self._claim is not None and _ordered(tx) else None
        along = [(key, result) for key, (result, _) in made.items() if key not in before and result is not DONE]
        memories = {key: memory for key, (_, memory) in made.items() if key not in before and memory is not None}

        def then() -> None:
            if memories:
                self._keep(memories)
            if claimed is not None:
                claimed()
            for key, result in along:
                self._later(key, result)

        return then

    @staticmethod
    def _runs(tx: Transaction) -> list[Resource]:
        found = [tx.get(key) for key in tx.touched() if key.kind == "Run"]
        return [run for run in found if run is not None]

    def _made(self, tx: Transaction, key: Key) -> Pass:
        reconciler = self._reconcilers[key.kind]
        with tx.acting(actor_of(key.kind)):
            if key.kind not in RECALLED:
                return reconciler(tx, key), None
            watched = Watched(tx, key, _is_at_rest)
            result = reconciler(watched.as_transaction(), key)
            return result, watched.memory(result)


def _is_at_rest(resource: Resource) -> bool:
    """Whether the next pass over an object, if nothing else happens, finds nothing to do or to wait for."""
    if resource.kind != "Mission" or resource.state not in _ENDED:
        return False
    return resource.spec.get("ttlSecondsAfterFinished") is None


def _nothing() -> None:
    """Nothing follows."""


def _ordered(tx: Transaction) -> bool:
    """Whether a run may have been ordered: then it was written."""
    return any(key.kind == "Run" for key in tx.touched())


def _agent_of(resource: Resource, ref: Mapping[str, str]) -> Key:
    return Key("Agent", ref.get("namespace") or resource.namespace, ref["name"])
