"""What an engine has in a cluster: where its specs come from, where status goes, and whose turn it is to act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import Clock
from controllers.sources.kubernetes import KubernetesReader, Scope
from controllers.sources.kubernetes_watch import KubernetesWatch
from controllers.status.kubernetes import ClusterStatus
from controllers.web.kubernetes import connect
from controllers.web.kubernetes_lease import LeaseElection, Term
from schemas.base import Key
from schemas.config import KubernetesSource
from store.contract import Store

LEASE = "remit"
_THREADS = 5


class Cluster:
    """The cluster of one engine. Raises Stalled when there is none."""

    def __init__(self, config: KubernetesSource, environment: Mapping[str, str], clock: Clock, random: Random) -> None:
        self._config = config
        self._clock = clock
        self._random = random
        self._blocking = ThreadBlocking(_THREADS, name="remit-cluster")
        self._namespace = environment.get("POD_NAMESPACE", "")
        self.api = connect(environment)
        scope = Scope(config.namespaces, config.shard or "")
        self.reader = KubernetesReader(
            self.api, scope, monotonic=clock.monotonic, relist_s=config.relist_interval.total_seconds()
        )
        self._watch: KubernetesWatch | None = None
        self._status: ClusterStatus | None = None

    def watch(self, hint: Callable[[], None]) -> KubernetesWatch:
        """What hears changes; made once."""
        self._watch = KubernetesWatch(
            self.api, self.reader, hint, clock=self._clock, blocking=self._blocking,
            probe_s=self._config.probe_interval.total_seconds(),
        )  # fmt: skip
        return self._watch

    def status(self, store: Store, source: Key) -> ClusterStatus:
        """What writes for one term of acting."""
        self._status = ClusterStatus(
            store, source, self.reader, clock=self._clock, blocking=self._blocking, random=self._random
        )
        return self._status

    def election(self, identity: str, term: Term, store: Callable[[], str]) -> LeaseElection:
        """Whose turn it is to act for this shard. ``store`` names the store."""
        name = f"{LEASE}-{self._config.shard.lower()}" if self._config.shard else LEASE
        return LeaseElection(
            self.api, self._namespace or self.api.namespace, name, identity, term,
            store=store, clock=self._clock, blocking=self._blocking, random=self._random,
        )  # fmt: skip

    def problem(self) -> str:
        """For /readyz: what is wrong with reading or writing."""
        read = self._watch.problem() if self._watch is not None else ""
        return read or (self._status.problem() if self._status is not None else "")

    def close(self) -> None:
        """Let go of it."""
        self.api.close()
        self._blocking.close(wait=False)
