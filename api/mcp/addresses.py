"""Where a ToolServer may be: no address that a spec names leads the proxy, and its credentials, somewhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import httpx2

from decisions import addresses
from decisions.addresses import Address, Place
from schemas.tool_server import Network

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class AddressRefused(Exception):
    """The server is where the spec says that it is not. The message names the host."""


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as this machine finds them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def allowed(address: Address, network: Network) -> bool:
    """Whether a server of this network may have this address."""
    match addresses.place(address):
        case Place.PUBLIC:
            return network is not Network.LOOPBACK
        case Place.PRIVATE:
            return network is Network.PRIVATE
        case Place.LOOPBACK:
            return network is Network.LOOPBACK
        case Place.NOWHERE:
            return False


async def checked(host: str, port: int, network: Network, resolve: Resolve) -> str:
    """One address of the host to connect to; every one of them must be allowed, so that no second look at the name
    can lead elsewhere. Raises AddressRefused, OSError."""
    name = host.strip("[]")
    literal = addresses.read(name)
    found: Sequence[str] = [str(literal)] if literal is not None else await resolve(name, port)
    if not found:
        raise OSError("the host has no address")
    for text in found:
        address = addresses.read(text)
        if address is None or not allowed(address, network):
            raise AddressRefused(f"{name[:200]} is not in the network that spec.http.network allows ({network})")
    return found[0]


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Connects to the address that was checked, under the name that was asked for, to one origin only; an answer has
    at most ``most`` bytes."""

    def __init__(
        self, origin: httpx2.URL, network: Network, *, most: int, resolve: Resolve = system_resolve,
        inner: httpx2.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._origin = _origin(origin)
        self._network = network
        self._most = most
        self._resolve = resolve
        self._inner = inner or httpx2.AsyncHTTPTransport(
            trust_env=False, limits=httpx2.Limits(max_connections=50, max_keepalive_connections=10)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2. Raises AddressRefused as ConnectError."""
        url = request.url
        if _origin(url) != self._origin:
            raise httpx2.ConnectError("the server sends its client to another origin", request=request)
        try:
            address = await checked(url.host, url.port or _port(url), self._network, self._resolve)
        except AddressRefused as error:
            raise httpx2.ConnectError(str(error), request=request) from None
        except OSError:
            raise httpx2.ConnectError("its host has no address", request=request) from None
        host = request.headers.get("host") or url.netloc.decode()
        request.url = url.copy_with(host=address)
        request.headers["host"] = host
        request.headers["accept-encoding"] = "identity"  # what is packed could be any size once it is unpacked
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.ReadError("the answer is packed, which was not asked for", request=request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._most)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, most: int) -> None:
        self._inner = inner
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self._inner:
            seen += len(chunk)
            if seen > self._most:
                raise httpx2.ReadError("the answer is larger than spec.maxResultKilobytes allows")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _port(url: httpx2.URL) -> int:
    return 443 if url.scheme == "https" else 80


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _port(url)
