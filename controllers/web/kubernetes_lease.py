"""A Lease of the cluster: of several engines, one acts. The others stand by, with everything read and open.

What was done is in the store, and a Lease says which store: an engine over another one does not know which missions
ran, and would run them again. It stands by, and says so.

Time is measured on each engine's own monotonic clock, as "the Lease has not moved for so long": clocks of several
machines differ. Who cannot renew gives up well before another may step in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from random import Random
from typing import Any, Final

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.web.kubernetes import Api, ClusterFault
from schemas.base import API_GROUP

log = logging.getLogger(__name__)

TTL_S: Final = 15.0
"""A Lease that has not moved for so long may be taken."""
GIVE_UP_S: Final = 10.0
"""Who could not renew for so long acts no more."""
RENEW_S: Final = 3.0
LOOK_S: Final = 2.0
"""How often an engine that stands by looks, +-20 %."""
STORE: Final = f"{API_GROUP}/store"
"""The annotation of a Lease that says over which store its holder acts."""
_ASK_S: Final = 5.0

Term = Callable[[asyncio.Event], Awaitable[None]]
"""What the holder does: act until the event is set, then return soon."""


class LeaseElection:
    """A component that holds the Lease whenever it may, and runs ``term`` meanwhile. ``identity`` is unique to this
    process, ``store`` to what it writes to."""

    def __init__(
        self, api: Api, namespace: str, name: str, identity: str, term: Term, *, store: Callable[[], str],
        clock: Clock, blocking: Blocking, random: Random,
    ) -> None:  # fmt: skip
        self._store = store
        self._api = api
        self._place = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._term = term
        self._clock = clock
        self._blocking = blocking
        self._random = random
        self._seen: tuple[tuple[str, str], float] = (("", ""), 0.0)
        self._lease: dict[str, Any] = {}
        self._problem = self._other = ""
        self.holds = False

    def problem(self) -> str:
        """Why nobody can tell who acts; "" while it can be told. Standing by is no problem."""
        return self._problem

    async def run(self, life: Lifecycle) -> None:
        """Stand by and act in turns until it is stopped."""
        life.ready()
        while not life.stopping.is_set():
            if await self._try(self._campaign):
                await self._act(life)
            await wait_for_any(self._clock, LOOK_S * self._random.uniform(0.8, 1.2), life.stopping)

    async def _act(self, life: Lifecycle) -> None:
        ends = asyncio.Event()
        term = asyncio.create_task(self._ending(ends), name="lease-term")
        self.holds = True
        log.info("this engine holds the Lease %s/%s", self._namespace, self._name)
        renewed_s = self._clock.monotonic()
        try:
            while not await wait_for_any(self._clock, RENEW_S, life.stopping, ends):
                asked_s = self._clock.monotonic()
                kept = await self._try(self._renew)
                if kept:
                    renewed_s = asked_s
                elif kept is False or self._clock.monotonic() - renewed_s > GIVE_UP_S:
                    log.warning("the Lease %s/%s is gone; this engine stands by", self._namespace, self._name)
                    break
            ends.set()
            await term
        finally:
            self.holds = False
            term.cancel()
        await self._try(self._release)

    async def _ending(self, ends: asyncio.Event) -> None:
        try:
            await self._term(ends)
        except Exception:
            log.exception("acting failed")  # another engine may do better; this one tries again as well
        finally:
            ends.set()

    async def _try(self, step: Callable[[], bool]) -> bool | None:
        """What a step says; None when the API server did not answer it."""
        try:
            done = await self._blocking.run(step)
        except ClusterFault as fault:
            if fault.status == 409:
                return False
            self._problem = f"the Lease {self._namespace}/{self._name} cannot be had: {fault}"
            log.warning("%s", self._problem)
            return None
        self._problem = self._other
        return done

    def _campaign(self) -> bool:
        """Take the Lease if it is free, or has not moved for longer than its holder may be silent."""
        try:
            lease = self._ask("GET", f"/{self._name}")
        except ClusterFault as fault:
            if fault.status != 404:
                raise
            self._lease = self._ask("POST", "", self._document({}, changes=0))
            return True
        other = ((lease.get("metadata") or {}).get("annotations") or {}).get(STORE, "")
        if other and other != self._store():
            self._other = (
                f"the Lease {self._namespace}/{self._name} is of another store, which knows what was done: give this"
                f" engine that store, or, to begin anew, take the annotation {STORE} from the Lease"
            )
            return False
        self._other = ""
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if holder and holder != self._identity and not self._is_silent(holder, str(spec.get("renewTime"))):
            return False
        self._lease = self._put(lease, changes=int(spec.get("leaseTransitions") or 0) + (holder != self._identity))
        return True

    def _is_silent(self, holder: str, renewed: str) -> bool:
        moment = self._clock.monotonic()
        if self._seen[0] != (holder, renewed):
            self._seen = ((holder, renewed), moment)
        return moment - self._seen[1] > TTL_S

    def _renew(self) -> bool:
        """Whether it is still ours; a Lease that somebody edited is taken up as it is now."""
        changes = int((self._lease.get("spec") or {}).get("leaseTransitions") or 0)
        try:
            self._lease = self._put(self._lease, changes=changes)
        except ClusterFault as fault:
            if fault.status not in (404, 409):
                raise
            lease = self._ask("GET", f"/{self._name}")
            if str((lease.get("spec") or {}).get("holderIdentity") or "") != self._identity:
                return False
            self._lease = self._put(lease, changes=changes)
        return True

    def _release(self) -> bool:
        spec = {**(self._lease.get("spec") or {}), "holderIdentity": ""}
        self._ask("PUT", f"/{self._name}", {**self._lease, "spec": spec})
        return True

    def _put(self, lease: dict[str, Any], *, changes: int) -> dict[str, Any]:
        return self._ask("PUT", f"/{self._name}", self._document(lease, changes=changes))

    def _document(self, lease: dict[str, Any], *, changes: int) -> dict[str, Any]:
        now = _micro(self._clock.now())
        spec = {**(lease.get("spec") or {})}
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(TTL_S),
            "leaseTransitions": changes,
            "renewTime": now,
        }
        metadata = {"name": self._name, "namespace": self._namespace, **(lease.get("metadata") or {})}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), STORE: self._store()}
        metadata.pop("managedFields", None)
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    def _ask(self, method: str, rest: str, body: Any = None) -> dict[str, Any]:
        return self._api.ask(method, f"{self._place}{rest}", body=body, timeout_s=_ASK_S)


def _micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
