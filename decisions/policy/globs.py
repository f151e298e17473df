"""Names, paths, hosts and recipients: when a pattern of a Policy speaks of one. What cannot be told matches nothing."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable

from decisions.policy import wild

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\@\s]*)([/?#][^\s\\]*)?")
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ssh": 22, "git": 9418, "ftp": 21}
_RECIPIENT = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?"
)
MAX_RECIPIENTS = 1_000
MAX_PATH = 1_024
"""Longest path that is looked at, in characters."""


def is_glob(pattern: str) -> bool:
    """Whether it can match more than itself."""
    return any(mark in pattern for mark in "*?[")


def matches_name(pattern: str, name: str) -> bool:
    """Whether a tool is called like that. Case counts; a star also crosses ``/`` and ``.``."""
    if not is_glob(pattern):
        return pattern == name
    return wild.fits(wild.compile_wild(pattern), name)


@functools.lru_cache(maxsize=4096)
def _path_pattern(pattern: str) -> tuple[str, ...]:
    return tuple(part for part in pattern.split("/") if part not in ("", "."))


def clean_path(path: str) -> str | None:
    """A path below the workspace without detours; None for anything that leads out, or that two readers could see
    differently. Links are followed by whoever opens the file: they are not seen here."""
    if not path or len(path) > MAX_PATH or path.startswith(("/", "~")) or "\\" in path:
        return None
    if not path.isprintable():
        return None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    return "/".join(parts)


def matches_path(patterns: Iterable[str], path: str) -> str | None:
    """The first pattern that the path is below, or None. ``*`` stays in a folder, ``**`` crosses folders."""
    clean = clean_path(path)
    if clean is None:
        return None
    parts = clean.split("/")
    return next((p for p in patterns if wild.fits_path(_path_pattern(p), parts)), None)


def host_of(text: str) -> tuple[str, int | None] | None:
    """(host, port) of a URL, ``host`` or ``host:port``; None when two readers could see different hosts."""
    if not text.isascii() or len(text) > 8192:
        return None
    default: int | None = None
    if "://" in text:
        match = _URL.fullmatch(text)
        if match is None:
            return None
        default = _PORTS.get(match[1].lower())
        text = match[2]
    text = text.lower()
    bracketed = text.startswith("[")
    if bracketed:
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if port and (re.fullmatch(r"[0-9]{1,5}", port) is None or not 0 < int(port) < 65536):
        return None
    number = int(port) if port else default
    try:
        return str(ipaddress.ip_address(host)), number
    except ValueError:
        pass
    if bracketed:
        return None
    host = host.removesuffix(".")
    # A host whose last part is a number is read as an address by some resolvers: 2130706433, 127.1, 0x7f.1.
    if _HOST.fullmatch(host) is None or re.fullmatch(r"0x[0-9a-f]*|[0-9]+", host.rpartition(".")[2]):
        return None
    return host, number


def matches_host(patterns: Iterable[str], text: str) -> str | None:
    """The first pattern that speaks of the host, or None. A pattern without a port holds for all of them; ``*.name``
    is any host below the name, and not the name itself."""
    found = host_of(text)
    if found is None:
        return None
    host, port = found
    return next((p for p in patterns if _host_fits(p, host, port)), None)


@functools.lru_cache(maxsize=4096)
def _network(pattern: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return None


def _host_fits(pattern: str, host: str, port: int | None) -> bool:
    network = _network(pattern)
    if network is not None:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    name, colon, wanted = pattern.partition(":")
    if colon and str(port) != wanted:
        return False
    if name == "*":
        return True
    if name.startswith("*."):
        return host.endswith(name[1:])
    return host == name


def recipients_of(value: object) -> tuple[str, ...] | None:
    """The mail addresses in an argument: a text, separated by commas or semicolons, or a list of texts. None when one
    of them is not a plain address."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else None
    if texts is None:
        return None
    found: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            return None
        for part in re.split(r"[,;]", text):
            address = part.strip(" ").lower()
            if len(address) > 320 or _RECIPIENT.fullmatch(address) is None:
                return None
            found.append(address)
    return tuple(found) if 0 < len(found) <= MAX_RECIPIENTS else None


def matches_recipient(patterns: Iterable[str], address: str) -> str | None:
    """The first pattern that speaks of the address, or None; ``*@domain`` is everybody there and nowhere below."""
    local, _, domain = address.rpartition("@")
    for pattern in patterns:
        name, _, place = pattern.rpartition("@")
        if place == domain and name in ("*", local):
            return pattern
    return None
