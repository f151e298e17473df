"""One POST to a service, at an address that was checked: no redirect, no proxy of the surroundings, a deadline, an
answer of bounded size."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controllers.notify.addresses import AddressRefused, Resolve, checked, system_resolve
from schemas.errors import Retry, Terminal

for _name in ("httpx2", "httpcore2"):  # they log the address of each request, and some addresses hold a token
    logging.getLogger(_name).setLevel(logging.WARNING)

STEP_S = 10.0
WHOLE_S = 30.0
LONGEST_WAIT_S = 3600.0
_LARGEST = 65_536
_PASSING = frozenset({401, 403, 408, 409, 423, 425, 429})
"""Beside 5xx: what a person or time may mend without the message being another one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and the beginning of the body. ``after`` is Retry-After in seconds, None without one."""

    status: int
    body: bytes
    after: float | None


def post(
    url: str, headers: Mapping[str, str], body: bytes, *, what: str, private: bool, monotonic: Callable[[], float],
    resolve: Resolve = system_resolve,
) -> Answer:  # fmt: skip
    """Post once. ``what`` names the service in errors, which never hold the address. Raises Retry when nobody answers
    in time, Terminal for an address that may not be used."""
    import httpx2  # loaded with the first message, which the start of an engine need not wait for

    until = monotonic() + WHOLE_S
    try:
        wanted = httpx2.URL(url)
        port = wanted.port or (443 if wanted.scheme == "https" else 80)
        address = checked(wanted.host, port, private=private, resolve=resolve)
    except AddressRefused as error:
        raise Terminal(f"{what}: {error}: allowPrivate, in the namespace default, would let it") from None
    except (httpx2.InvalidURL, ValueError):
        raise Terminal(f"{what}: the address is none") from None
    except OSError:
        raise Retry(f"{what}: its host has no address") from None
    literal = f"[{address}]" if ipaddress.ip_address(address.partition("%")[0]).version == 6 else address
    try:
        with httpx2.Client(timeout=STEP_S, follow_redirects=False, trust_env=False) as client:
            request = client.build_request(
                "POST", wanted.copy_with(host=literal), content=body,
                headers={**headers, "host": wanted.netloc.decode().rpartition("@")[2], "accept-encoding": "identity"},
                extensions={"sni_hostname": wanted.host},
            )  # fmt: skip
            answer = client.send(request, stream=True)
            try:
                data = bytearray()
                for chunk in answer.iter_raw():
                    data += chunk
                    if len(data) > _LARGEST or monotonic() > until:
                        break
                return Answer(answer.status_code, bytes(data[:_LARGEST]), _after(answer.headers.get("retry-after")))
            finally:
                answer.close()
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        # Its text may hold the address and what was sent: the kind of fault is enough.
        raise Retry(f"{what}: {type(error).__name__}") from None


def require_taken(answer: Answer, what: str, said: str = "") -> None:
    """Raise unless the service took it: Retry for what may pass, Terminal for the rest. ``said`` is what the service
    says, in words that were cleaned."""
    status, words = answer.status, f": {said}" if said else ""
    if 200 <= status < 300:
        return
    if status in _PASSING or status >= 500:
        raise Retry(f"{what} answers {status}{words}", after=answer.after)
    if 300 <= status < 400:
        raise Terminal(f"{what} answers {status}: redirects are not followed")
    raise Terminal(f"{what} answers {status}{words}")


def _after(text: str | None) -> float | None:
    return min(float(text), LONGEST_WAIT_S) if text is not None and text.isascii() and text.isdigit() else None
