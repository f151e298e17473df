"""From facts to bytes: templates with escaping on, headers that leave a page no power, and one rendering for everybody
who looks at the same moment."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from api.dashboard import charts, text
from api.dashboard.facts import shapes

ASSETS = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icons.svg": "image/svg+xml",
    "favicon.svg": "image/svg+xml",
}
STATIC = "/dashboard"
"""Where the files of ASSETS lie."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types remit"
)
"""No inline script or style, nothing from elsewhere, no text becomes markup but through one named place."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
KEPT = 128
"""Renderings that are kept."""
_LONGEST = 250_000
_ONCE, _OFTEN = 9, 4
"""How hard what is packed once, and what is packed anew with each change, is packed."""
_ANCHOR = re.compile(r"[^A-Za-z0-9_-]")


@lru_cache(maxsize=len(ASSETS))
def asset(name: str) -> bytes:
    """A file of the package."""
    return resources.files("api.dashboard").joinpath("static", name).read_bytes()


@lru_cache(maxsize=len(ASSETS))
def version(name: str) -> str:
    """Changes with the content of a file."""
    return hashlib.sha256(asset(name)).hexdigest()[:12]


@lru_cache(maxsize=len(ASSETS))
def packed_asset(name: str) -> bytes:
    """The same, packed."""
    return pack(asset(name), _ONCE)


def pack(body: bytes, level: int = _OFTEN) -> bytes:
    """With gzip; the same bytes for the same content."""
    return gzip.compress(body, level, mtime=0)


def asset_url(name: str) -> str:
    """The address of a file; it may be kept for ever, as another content has another address."""
    return f"{STATIC}/{name}?v={version(name)}"


def anchor(value: object) -> str:
    """A text as an id of an element."""
    return _ANCHOR.sub("-", str(value))[:120]


def _shown(value: Any) -> Any:
    """What every expression of a template goes through: texts lose what would mislead an eye. They are escaped after
    it."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return text.visible(value[:_LONGEST])
    return value


def _filter_ago(context: jinja2.runtime.Context, at: datetime) -> str:
    return text.ago(at, context["now"])


def highlighted(value: str, ranges: Sequence[tuple[int, int]]) -> Markup:
    """A text with what was searched for marked."""
    parts, at = [], 0
    for begin, end in ranges:
        parts += [escape(text.line(value[at:begin])), Markup("<mark>"), escape(text.line(value[begin:end]))]
        parts.append(Markup("</mark>"))
        at = end
    return Markup("").join([*parts, escape(text.line(value[at:]))])


class Templates:
    """The templates of the package."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(_source),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            finalize=_shown,
        )
        self._environment.filters |= {
            "ago": jinja2.pass_context(_filter_ago),
            "anchor": anchor,
            "clock": lambda at: at.strftime("%H:%M:%S"),
            "iso": text.iso,
            "line": text.line,
            "number": text.number,
            "stamp": text.stamp,
            "words": text.words,
        }
        self._environment.globals |= {
            "asset": asset_url,
            "highlighted": highlighted,
            "meter": lambda bar: charts.meter(bar.share, bar.label, warn=bar.warn),
            "spark": charts.spark,
        }
        self._environment.tests |= {
            "chart": lambda value: isinstance(value, shapes.Chart),
            "text": lambda value: isinstance(value, shapes.Text),
        }

    def render(self, name: str, values: Mapping[str, Any]) -> bytes:
        """HTML as UTF-8. What no encoding has (lone surrogates) was made an escape before."""
        return self._environment.get_template(name).render(values).encode("utf-8", "replace")


def _source(name: str) -> str | None:
    found = resources.files("api.dashboard").joinpath("templates", name)
    return found.read_text(encoding="utf-8") if found.is_file() else None


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer, ready to be sent to anybody, ``packed`` with gzip to those who take that. ``tag`` changes with its
    content, however it is sent."""

    status: int
    body: bytes
    packed: bytes
    tag: str
    location: str = ""

    @classmethod
    def of(cls, status: int, body: bytes) -> Rendered:
        """With the tag of its body."""
        return cls(status, body, pack(body), f'W/"{hashlib.sha256(body).hexdigest()[:24]}"')

    @classmethod
    def elsewhere(cls, location: str) -> Rendered:
        """What was asked for is at ``location``."""
        return cls(307, b"", b"", "", location)


class Renderings:
    """Keeps renderings by what was asked and what the store held then: many viewers of a change cost one rendering.
    Safe between threads; a rendering that is asked for while it is made is waited for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Rendered] = OrderedDict()
        self._making: dict[tuple[Any, ...], threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...], make: Callable[[], Rendered]) -> Rendered:
        """The rendering of ``key``."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                found = self._kept.get(key)
            if found is not None:
                return found
            try:
                found = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return found
