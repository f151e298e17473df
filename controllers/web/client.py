"""One request: to an address that was checked, without redirects, with a deadline over all of it and a
bound on the answer. Nothing of the surroundings goes along: no proxy, no cookies, no credentials of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from controllers.web import addresses
from controllers.web.addresses import AddressRefused, Resolve
from controllers.web.reply import Fate, Limits, Reply

if TYPE_CHECKING:  # loaded with the first request, which the start of an engine need not wait for
    import httpx2

_CONNECT_S = 10.0


class StreamBroken(Exception):
    """An answer that was read as it came did not come, or broke off. The message says what is known."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The head of an answer, and its body as it comes. ``chunks`` raises StreamBroken."""

    status: int
    chunks: AsyncIterator[bytes]
    retry_after_s: float | None = None


class HttpClient:
    """Sends requests. Belongs to one event loop; keeps no connection."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        resolver: Resolve = addresses.resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``tls`` says which certificates count, and which one is shown; None: those that the machine trusts, and
        none."""
        self._monotonic = monotonic
        self._resolver = resolver
        self._tls = tls

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limits: Limits
    ) -> Reply:
        """Send it and read the whole answer. Never raises for anything that the server or the network does."""
        import httpx2

        began = self._monotonic()
        sent = False

        def over(fate: Fate, error: str) -> Reply:
            return Reply(fate, self._since(began), error)

        try:
            async with asyncio.timeout(limits.timeout_s):
                parts = urlsplit(url)
                host = parts.hostname or ""
                port = parts.port or (443 if parts.scheme == "https" else 80)
                reachable = await addresses.allowed(
                    host, port, allow_private=limits.allow_private, resolver=self._resolver
                )
                fault = ""
                for address in reachable:
                    try:
                        sent = True
                        return await self._exchange(method, url, address, headers, body, limits, began)
                    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                        sent, fault = False, f"no connection to {host}:{port}: {type(error).__name__}"
                return over(Fate.NOT_SENT, fault)
        except AddressRefused as refused:
            return over(Fate.REFUSED, str(refused))
        except TimeoutError:
            fate = Fate.UNCERTAIN if sent else Fate.NOT_SENT
            return over(fate, f"no whole answer within {limits.timeout_s:g} s")
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError, ValueError):
            return over(Fate.REFUSED, "the address cannot be read")
        except OSError as error:
            return over(Fate.NOT_SENT, f"the host {urlsplit(url).hostname} has no address: {type(error).__name__}")
        except _Unreadable as error:
            return over(Fate.UNCERTAIN, str(error))
        except httpx2.HTTPError as error:
            # Its text may hold the address and what was sent: the kind of fault is enough.
            return over(Fate.UNCERTAIN, f"the connection broke: {type(error).__name__}")

    @contextlib.asynccontextmanager
    async def open(
        self, url: str, headers: Mapping[str, str], *, silent_s: float, allow_private: bool
    ) -> AsyncIterator[Opened]:
        """GET, and the answer as it comes, for as long as it comes: it is over when ``silent_s`` pass without a byte.
        Whoever reads it bounds it. Raises StreamBroken."""
        import httpx2

        parts = urlsplit(url)
        async with contextlib.AsyncExitStack() as stack:
            try:
                answer = await self._reached(url, headers, silent_s, allow_private=allow_private, stack=stack)
            except AddressRefused as refused:
                raise StreamBroken(str(refused)) from refused
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
                raise StreamBroken(f"no connection to {parts.hostname}: {type(error).__name__}") from error
            yield Opened(answer.status_code, _chunks(answer), _seconds(answer.headers.get("retry-after", "")))

    async def _reached(
        self, url: str, headers: Mapping[str, str], silent_s: float, *, allow_private: bool,
        stack: contextlib.AsyncExitStack,
    ) -> httpx2.Response:  # fmt: skip
        """The answer of the first address that is there; ``stack`` closes it."""
        import httpx2

        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        reachable = await addresses.allowed(
            parts.hostname or "", port, allow_private=allow_private, resolver=self._resolver
        )
        for address in reachable[:-1]:
            with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._at(address, url, headers, silent_s, stack)
        return await self._at(reachable[-1], url, headers, silent_s, stack)

    async def _at(
        self, address: str, url: str, headers: Mapping[str, str], silent_s: float, stack: contextlib.AsyncExitStack
    ) -> httpx2.Response:
        client, request = self._request("GET", url, address, headers, None, silent_s)
        await stack.enter_async_context(client)
        answer = await client.send(request, stream=True)
        stack.push_async_callback(answer.aclose)
        return answer

    def _request(
        self, method: str, url: str, address: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> tuple[httpx2.AsyncClient, httpx2.Request]:
        """A request to ``address`` in the name of the host, and a client of its own to send it with."""
        import httpx2

        there = httpx2.URL(url)
        named = {**headers, "Host": there.netloc.decode("ascii"), "Accept-Encoding": "identity"}
        # The certificate has to be that of the name, not of the address that the connection goes to.
        extensions = {} if _is_address(there.host) else {"sni_hostname": there.host}
        timeout = httpx2.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s * 0.8))
        client = httpx2.AsyncClient(
            timeout=timeout, follow_redirects=False, trust_env=False, verify=self._context(there)
        )
        to = there.copy_with(host=address)
        return client, client.build_request(method, to, headers=named, content=body, extensions=extensions)

    async def _exchange(
        self, method: str, url: str, address: str, headers: Mapping[str, str], body: bytes | None,
        limits: Limits, began: float,
    ) -> Reply:  # fmt: skip
        client, request = self._request(method, url, address, headers, body, limits.timeout_s)
        async with client, contextlib.aclosing(await client.send(request, stream=True)) as answer:
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise _Unreadable("the answer is compressed, which nobody asked for")
            data = bytearray()
            async for chunk in answer.aiter_raw():
                data += chunk
                if len(data) > limits.max_answer:
                    raise _Unreadable(f"the answer is larger than {limits.max_answer} bytes")
            return Reply(
                Fate.ANSWERED,
                self._since(began),
                status=answer.status_code,
                data=bytes(data),
                location=answer.headers.get("location", ""),
                retry_after_s=_seconds(answer.headers.get("retry-after", "")),
            )

    def _context(self, url: httpx2.URL) -> ssl.SSLContext | bool:
        """What certificates are checked with; made once, as reading the machine's takes long."""
        if url.scheme != "https":
            return False
        if self._tls is None:
            import httpx2

            self._tls = httpx2.create_ssl_context(trust_env=False)
        return self._tls

    def _since(self, began: float) -> int:
        return max(0, round((self._monotonic() - began) * 1000))


async def _chunks(answer: httpx2.Response) -> AsyncIterator[bytes]:
    import httpx2

    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except (httpx2.HTTPError, OSError) as error:
        raise StreamBroken(f"the answer broke off: {type(error).__name__}") from error


class _Unreadable(Exception):
    """An answer that is not read. The message says why."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float | None:
    """What Retry-After says in seconds; a date in it is not read."""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None
