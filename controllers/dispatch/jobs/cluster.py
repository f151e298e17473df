"""The few requests to an API server that Jobs take, and what each answer means for whoever asks.

They go out by ``controllers.web.client``, as those to workers behind HTTP do, and not by a Kubernetes client library:
a pod template is handed on as it was written, so typed objects would only stand between; an answer has to say whether
the request certainly did not arrive, may have arrived, or was refused, which libraries fold into one error; every
answer has a bound on its bytes; no kubeconfig may make the engine start a program or read a file; and no extra has to
be installed for it. Connections are not kept: a token that was replaced counts from the next request on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from controllers.dispatch.environment import SecretMissing
from controllers.dispatch.jobs.access import Access
from controllers.dispatch.jobs.document import STORE_LABEL
from controllers.runtime.blocking import Blocking
from controllers.web.client import HttpClient, Opened, StreamBroken
from controllers.web.reply import Fate, Limits, Reply
from schemas.run import RunReason

ANSWER_S = 30.0
LARGEST_ANSWER = 16 * 1024 * 1024
LONGEST_PAUSE_S = 300.0
PAGE = 200
"""Objects of one answer to a list."""
LONGEST_WATCH_S = 300
"""So long an API server is asked to keep a watch open."""
SILENT_S = 75.0
"""A watch without a word for so long is over; bookmarks come every minute."""
SILENT_LOG_S = 300.0
"""A log that nothing was added to for so long is asked for anew: nobody tells a quiet program from a line that died."""
_SHORT_S = 7.0
"""So much longer than it was asked to a short watch may take."""
_TEXT = 300


class Said(StrEnum):
    """What an answer means."""

    DONE = "Done"  # it was done, or here it is
    MISSING = "Missing"  # there is no such object
    CONFLICT = "Conflict"  # there is another one, or another version of it
    REFUSED = "Refused"  # it was not done, and will not be
    BUSY = "Busy"  # it was not done, and may be later
    UNSURE = "Unsure"  # it may have been done: ask again


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of an API server, or what is known without one. ``reason`` fits a run that ends with a refusal."""

    said: Said
    why: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)
    data: bytes = b""
    after_s: float | None = None
    reason: RunReason = RunReason.START_FAILED

    @property
    def done(self) -> bool:
        """Whether it was done."""
        return self.said is Said.DONE

    @property
    def uid(self) -> str:
        """Uid of the object that came back."""
        metadata = self.document.get("metadata")
        return str(metadata.get("uid", "")) if isinstance(metadata, Mapping) else ""

    @property
    def items(self) -> list[Mapping[str, Any]]:
        """The objects of a list."""
        found = self.document.get("items")
        return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


class Cluster(Protocol):
    """One namespace of a cluster. No method raises for what the server or the network does."""

    async def make(self, document: Mapping[str, Any]) -> Answer:
        """Create a Job or a Secret."""
        ...

    async def get(self, kind: str, name: str) -> Answer:
        """A Job or a Secret."""
        ...

    async def change(self, kind: str, name: str, patch: Mapping[str, Any]) -> Answer:
        """Merge ``patch`` into a Job or a Secret."""
        ...

    async def delete(self, kind: str, name: str, uid: str = "") -> Answer:
        """Begin to delete it with what it owns, that first; only the one of that uid when it is given."""
        ...

    async def pods(self, job: str) -> Answer:
        """The pods with the label of a Job."""
        ...

    async def log(self, pod: str, container: str, *, limit: int, lines: int = 0) -> Answer:
        """At most ``limit`` bytes from the beginning of a log, or of its last ``lines`` lines."""
        ...

    async def jobs(self, store: str) -> Answer:
        """Every Job that is labelled with this store."""
        ...


Told = tuple[str, Mapping[str, Any]]
"""Type of a watch event, and its object."""


class Streams(Protocol):
    """What a namespace of a cluster tells for as long as one listens. Raises StreamBroken, Refused."""

    async def listed(self, kind: str, selector: str) -> Answer:
        """Every Job or pod with these labels; ``version`` of it is where a watch goes on. Never raises."""
        ...

    def told(self, kind: str, selector: str, since: str, *, seconds: int = LONGEST_WATCH_S) -> AsyncGenerator[Told]:
        """What happens to Jobs or pods with these labels after the version ``since``, for at most ``seconds``."""
        ...

    def spoken(self, pod: str, container: str, *, limit: int) -> AsyncGenerator[bytes]:
        """At most ``limit`` bytes of a log from its beginning, and what is added to it, until the container ends."""
        ...


class StreamRefused(StreamBroken):
    """The API server says no."""


class ApiServer:
    """See ``Cluster`` and ``Streams``: a real one."""

    def __init__(self, access: Access, namespace: str, client: HttpClient, blocking: Blocking) -> None:
        self._access = access
        self._namespace = namespace
        self._client = client
        self._blocking = blocking

    async def make(self, document: Mapping[str, Any]) -> Answer:
        """See ``Cluster.make``."""
        return await self._send("POST", self._path(str(document["kind"])), document)

    async def get(self, kind: str, name: str) -> Answer:
        """See ``Cluster.get``."""
        return await self._send("GET", self._path(kind, name))

    async def change(self, kind: str, name: str, patch: Mapping[str, Any]) -> Answer:
        """See ``Cluster.change``."""
        return await self._send("PATCH", self._path(kind, name), patch, "application/merge-patch+json")

    async def delete(self, kind: str, name: str, uid: str = "") -> Answer:
        """See ``Cluster.delete``."""
        policy = "Foreground" if kind == "Job" else "Background"  # a Secret owns nothing that one could wait for
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        if uid:
            options["preconditions"] = {"uid": uid}
        return await self._send("DELETE", self._path(kind, name), options)

    async def pods(self, job: str) -> Answer:
        """See ``Cluster.pods``."""
        query = urlencode({"labelSelector": f"job-name={job}", "limit": PAGE})
        return await self._send("GET", f"{self._path('Pod')}?{query}")

    async def log(self, pod: str, container: str, *, limit: int, lines: int = 0) -> Answer:
        """See ``Cluster.log``."""
        asked: dict[str, Any] = {"container": container, "limitBytes": limit}
        if lines:
            asked["tailLines"] = lines
        return await self._send("GET", f"{self._path('Pod', pod)}/log?{urlencode(asked)}", most=limit + 4096, raw=True)

    async def jobs(self, store: str) -> Answer:
        """See ``Cluster.jobs``."""
        return await self.listed("Job", f"{STORE_LABEL}={store}")

    async def listed(self, kind: str, selector: str) -> Answer:
        """See ``Streams.listed``."""
        items: list[Mapping[str, Any]] = []
        more = ""
        while True:
            asked = {"labelSelector": selector, "limit": PAGE, **({"continue": more} if more else {})}
            answer = await self._send("GET", f"{self._path(kind)}?{urlencode(asked)}")
            if not answer.done:
                return answer  # 410, too: what was read is of another moment, and the next look begins anew
            items += answer.items
            metadata = answer.document.get("metadata")
            metadata = metadata if isinstance(metadata, Mapping) else {}
            more = str(metadata.get("continue") or "")
            if not more:
                return Answer(Said.DONE, document={"items": items, "metadata": metadata})

    async def told(
        self, kind: str, selector: str, since: str, *, seconds: int = LONGEST_WATCH_S
    ) -> AsyncGenerator[Told]:
        """See ``Streams.told``."""
        asked = {
            "watch": "true", "labelSelector": selector, "resourceVersion": since, "timeoutSeconds": seconds,
            "allowWatchBookmarks": "true",
        }  # fmt: skip
        async with self._open(f"{self._path(kind)}?{urlencode(asked)}", min(SILENT_S, seconds + _SHORT_S)) as opened:
            line = bytearray()
            async for chunk in opened.chunks:
                *ended, rest = chunk.split(b"\n")
                for part in ended:
                    event = _document(bytes(line + part))
                    line.clear()
                    found = event.get("object")
                    yield str(event.get("type") or ""), found if isinstance(found, dict) else {}
                line += rest
                if len(line) > LARGEST_ANSWER:
                    raise StreamBroken(f"an event is larger than {LARGEST_ANSWER} bytes")

    async def spoken(self, pod: str, container: str, *, limit: int) -> AsyncGenerator[bytes]:
        """See ``Streams.spoken``."""
        asked = {"container": container, "follow": "true", "limitBytes": limit}
        async with self._open(f"{self._path('Pod', pod)}/log?{urlencode(asked)}", SILENT_LOG_S) as opened:
            async for chunk in opened.chunks:
                yield chunk

    @contextlib.asynccontextmanager
    async def _open(self, path: str, silent_s: float) -> AsyncIterator[Opened]:
        try:
            headers = {"Accept": "*/*", **await self._blocking.run(self._access.headers)}
        except SecretMissing as missing:
            raise StreamBroken(str(missing)) from missing
        url = self._access.server + path
        async with self._client.open(url, headers, silent_s=silent_s, allow_private=True) as opened:
            if opened.status >= 300:
                fault = StreamRefused if opened.status in (401, 403, 404, 405) else StreamBroken
                raise fault(f"the API server answers {opened.status}")
            yield opened

    def _path(self, kind: str, name: str = "") -> str:
        group, plural = {"Job": ("apis/batch/v1", "jobs"), "Secret": ("api/v1", "secrets"), "Pod": ("api/v1", "pods")}[
            kind
        ]
        whole = f"/{group}/namespaces/{quote(self._namespace, safe='')}/{plural}"
        return f"{whole}/{quote(name, safe='')}" if name else whole

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, media_type: str = "application/json",
        *, most: int = LARGEST_ANSWER, raw: bool = False,
    ) -> Answer:  # fmt: skip
        headers = {"Accept": "*/*" if raw else "application/json"}
        try:
            headers |= await self._blocking.run(self._access.headers)
        except SecretMissing as missing:
            return Answer(Said.BUSY, str(missing))
        data = None
        if body is not None:
            headers["Content-Type"] = media_type
            data = json.dumps(body).encode()
        limits = Limits(ANSWER_S, most, allow_private=True)
        return meaning(await self._client.send(method, self._access.server + path, headers, data, limits), raw=raw)


Reach = Callable[[Access, str], Cluster]
"""A namespace of a cluster."""


def meaning(reply: Reply, *, raw: bool = False) -> Answer:
    """What a reply means. Pure."""
    if reply.fate is not Fate.ANSWERED:
        said = Said.UNSURE if reply.fate is Fate.UNCERTAIN else Said.BUSY
        return Answer(said, f"the API server of the cluster: {reply.error}")
    code = reply.status or 0
    document: dict[str, Any] = {}
    if not raw or code >= 300:
        document = _document(reply.data)
    if 200 <= code < 300:
        if not raw and not document:
            return Answer(Said.UNSURE, f"the API server answers {code}, but with nothing that can be read")
        return Answer(Said.DONE, document=document, data=reply.data)
    text = " ".join(str(document.get("message") or "no reason given").split())[:_TEXT]
    why = f"the API server answers {code}: {text}"
    after_s = None if reply.retry_after_s is None else min(reply.retry_after_s, LONGEST_PAUSE_S)
    if code == 404:
        return Answer(Said.MISSING, why)
    if code == 409:
        return Answer(Said.CONFLICT, why)
    if code == 401 or code == 429 or (code == 403 and "exceeded quota" in text):
        return Answer(Said.BUSY, why, after_s=after_s)
    if code >= 500 or code in (408, 410):
        return Answer(Said.UNSURE, why, after_s=after_s)
    return Answer(Said.REFUSED, why)


def _document(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
