"""Hears what happens to the custom resources of a cluster, by kopf, and checks that it still hears.

An event marks its object for the reader, and nothing else: no handler changes anything, keeps progress on objects, or
posts. Kopf runs in a thread with a loop of its own, so neither its signals nor its work reach the engine's. A stream
that dies in silence is noticed twice: kopf expects a bookmark every minute, and every few seconds each kind is asked,
over a new request, what happened since; what the stream has not told by then is taken from there, and the streams are
opened anew.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, SystemClock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.sources import kubernetes_objects as objects
from controllers.sources.kubernetes import KINDS, KubernetesReader
from controllers.web.kubernetes import Cluster, ClusterFault, bearer
from schemas.base import API_GROUP, API_VERSION, Key
from schemas.errors import SourceUnreadable
from schemas.registry import KindName

if TYPE_CHECKING:
    import kopf

log = logging.getLogger(__name__)

RETRY_S: Final = 2.0
GRACE_S: Final = 3.0
"""How much later than a question the stream may tell the same."""
SILENT_S: Final = 75.0
"""A stream without a word for so long is opened anew; bookmarks come every minute."""
_GOODBYE_S: Final = 0.25
"""Connections over TLS end in later turns of the event loop, which has to be there for them."""
STOP_S: Final = 10.0
_GONE: Final = 410
_THREADS: Final = 8
_MOST_HEARD: Final = 500_000
_VERSION: Final = API_VERSION.partition("/")[2]

Said = tuple[str, dict[str, Any]]
"""Type of a watch event, and its object."""


class KubernetesWatch:
    """A component. ``hint`` is called, from any thread, when there is something to read. Without ``probe_s`` the
    streams are trusted."""

    def __init__(
        self, cluster: Cluster, reader: KubernetesReader, hint: Callable[[], None], *, clock: Clock,
        blocking: Blocking, probe_s: float = 20.0,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._reader = reader
        self._hint = hint
        self._clock = clock
        self._blocking = blocking
        self._probe_s = probe_s
        self._since: dict[str, str] = {}
        self._heard: dict[Key, int] = {}
        self._lock = threading.Lock()
        self._problem = "the cluster was not listed yet"
        self._stream: _Stream | None = None
        self.restarts = 0
        """How often the streams were opened anew because they said too little."""

    def problem(self) -> str:
        """For /readyz: why what is known may be old, "" while it is not."""
        return self._problem

    async def run(self, life: Lifecycle) -> None:
        """Listen until it is stopped."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_end() -> None:
            loop.call_soon_threadsafe(ended.set)

        try:
            life.ready()
            while not life.stopping.is_set():
                if not await self._listed():
                    await wait_for_any(self._clock, RETRY_S, life.stopping)
                    continue
                if self._stream is None:
                    ended.clear()
                    self._stream = _Stream(self._cluster, self._reader, self._on_event, on_end)
                    self._stream.start()
                await wait_for_any(self._clock, self._probe_s or None, life.stopping, ended)
                if life.stopping.is_set():
                    break
                if ended.is_set():
                    self._problem = "the watch ended; it is opened anew"
                    await self._end_stream()
                    self._reader.doubt()
                    await wait_for_any(self._clock, RETRY_S, life.stopping)
                else:
                    await self._probe(life)
        finally:
            await self._end_stream()

    async def _listed(self) -> bool:
        """Whether everything is known once; reads what is due."""
        if not self._reader.is_due:
            return True
        try:
            await self._blocking.run(self._reader.fetch)
        except SourceUnreadable as error:
            self._problem = str(error)
            self._hint()  # whoever reconciles says it, too
            return False
        self._problem = ""
        self._hint()
        return True

    async def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await self._blocking.run(stream.stop)

    # What is heard.

    def _on_event(self, name: KindName, type_: str, document: Mapping[str, Any]) -> None:
        """From the thread of the streams."""
        self._hear(name, document)
        if self._reader.mark(name.kind, document, gone=type_ == "DELETED"):
            self._hint()

    def _hear(self, name: KindName, document: Mapping[str, Any]) -> None:
        meta = document.get("metadata") or {}
        key = Key(name.kind, str(meta.get("namespace") or ""), str(meta.get("name") or ""))
        with self._lock:
            if len(self._heard) > _MOST_HEARD:
                self._heard.clear()  # what was heard counts for seconds only
            self._heard[key] = max(self._heard.get(key, 0), _number(meta))

    # Whether everything is heard.

    async def _probe(self, life: Lifecycle) -> None:
        try:
            found = await self._blocking.run(self._ask_all)
        except ClusterFault as fault:
            self._problem = f"it cannot be told what happens in the cluster: {fault}"
            return
        if found:
            await wait_for_any(self._clock, GRACE_S, life.stopping)
        missed = [(name, said) for name, said in found if not self._was_heard(name, said[1])]
        if not missed:
            self._problem = ""
            return
        name, (_, document) = missed[0]
        self._problem = (
            f"the watch did not tell {len(missed)} change(s), such as of {name.singular}/"
            f"{(document.get('metadata') or {}).get('name')}: everything is listed, and watched anew"
        )
        log.warning("%s", self._problem)
        self.restarts += 1
        await self._end_stream()
        self._reader.doubt()
        self._hint()

    def _was_heard(self, name: KindName, document: Mapping[str, Any]) -> bool:
        meta = document.get("metadata") or {}
        key = Key(name.kind, str(meta.get("namespace") or ""), str(meta.get("name") or ""))
        with self._lock:
            return self._heard.get(key, 0) >= _number(meta)

    def _ask_all(self) -> list[tuple[KindName, Said]]:
        """What happened since the last question that was answered whole."""
        self._reader.check_shard()
        with concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="remit-probe") as threads:
            found = list(threads.map(self._ask, KINDS))
        for _, versions in found:
            self._since |= versions
        return [(name, said) for name, (told, _) in zip(KINDS, found, strict=True) for said in told]

    def _ask(self, name: KindName) -> tuple[list[Said], dict[str, str]]:
        """What happened to a kind, and from where to ask on, by path."""
        told: list[Said] = []
        versions: dict[str, str] = {}
        if not name.namespaced and not self._reader.scope.whole:
            return told, versions
        for place in self._reader.places(name.namespaced):
            path = f"{place}/{name.plural}"
            since = self._since.get(path)
            here: list[Said] = []
            before = self._version(path)  # ahead of the question, so that nothing falls between the two
            if since is not None:
                try:
                    query = {"resourceVersion": since, "labelSelector": objects.DECLARED}
                    here = self._cluster.happened(path, query)
                except ClusterFault as fault:
                    if fault.status != _GONE:
                        raise
                    self._reader.doubt()  # longer ago than the server remembers
            last = max((_number(document.get("metadata") or {}) for _, document in here), default=0)
            versions[path] = str(max(last, before))
            told += here
        return told, versions

    def _version(self, path: str) -> int:
        """The version that a collection is at now."""
        answer = self._cluster.ask("GET", path, params={"limit": "1"}, timeout_s=10.0)
        return _number(answer.get("metadata") or {})


class _Stream:
    """Kopf in a thread, once. ``ended`` is called from that thread when it ends, also by a fault."""

    def __init__(
        self, cluster: Cluster, reader: KubernetesReader,
        on_event: Callable[[KindName, str, Mapping[str, Any]], None], ended: Callable[[], None],
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._reader = reader
        self._on_event = on_event
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flag: asyncio.Event | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._main, name="remit-kopf", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End it; a thread that does not end in time is left: it can only mark."""
        self._stopped.set()
        loop, flag = self._loop, self._flag
        if loop is not None and flag is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself
                loop.call_soon_threadsafe(flag.set)
        self._thread.join(STOP_S)

    def _main(self) -> None:
        try:
            asyncio.run(self._listen())
        except Exception as error:
            log.warning("the watch of the cluster failed: %s", type(error).__name__, exc_info=error)
        finally:
            if not self._stopped.is_set():
                self._ended()

    async def _listen(self) -> None:
        import kopf  # lazily: 1.4 s, and only an engine that has a cluster needs it

        # It tells every object that it looks at; and that signals are not its own is as it should be.
        logging.getLogger("kopf").setLevel(logging.ERROR)
        self._loop = asyncio.get_running_loop()
        self._flag = asyncio.Event()
        if self._stopped.is_set():
            return
        registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.process.ultimate_exiting_timeout = None
        settings.watching.inactivity_timeout = SILENT_S
        settings.watching.chunk_size = 500
        settings.queueing.idle_timeout = 1.0
        kopf.on.login(registry=registry)(self._login)
        whole = self._reader.scope.whole
        for name in KINDS:
            if not name.namespaced and not whole:
                continue
            settings.watching.label_selectors[API_GROUP, name.plural] = objects.DECLARED
            handler = self._handler(name)
            kopf.on.event(API_GROUP, _VERSION, name.plural, id=name.plural, registry=registry)(handler)
        await kopf.operator(
            registry=registry, settings=settings, standalone=True, clusterwide=self._reader.scope.cluster_wide,
            namespaces=self._reader.scope.namespaces, stop_flag=self._flag,
        )  # fmt: skip
        await SystemClock().sleep(_GOODBYE_S)

    def _handler(self, name: KindName) -> Callable[..., Any]:
        async def on_event(event: Mapping[str, Any], **_: object) -> None:
            if not self._stopped.is_set():
                self._on_event(name, str(event.get("type") or ""), event.get("object") or {})

        return on_event

    async def _login(self, **_: object) -> kopf.ConnectionInfo:
        import kopf

        config = self._cluster.config
        user = config.user
        token = await asyncio.to_thread(bearer, self._cluster)
        file = config.abs_file

        return kopf.ConnectionInfo(
            server=config.cluster.server,
            ca_path=str(file(config.cluster.certificate_auth)) if config.cluster.certificate_auth else None,
            ca_data=None if config.cluster.certificate_auth else config.cluster.certificate_auth_data,
            insecure=config.cluster.insecure or None,
            token=token or None,
            scheme="Bearer" if token else None,
            certificate_path=str(file(user.client_cert)) if user is not None and user.client_cert else None,
            certificate_data=user.client_cert_data if user is not None and not user.client_cert else None,
            private_key_path=str(file(user.client_key)) if user is not None and user.client_key else None,
            private_key_data=user.client_key_data if user is not None and not user.client_key else None,
        )


def _number(meta: Mapping[str, Any]) -> int:
    version = str(meta.get("resourceVersion") or "")
    return int(version) if version.isdecimal() else 0
