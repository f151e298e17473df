"""Which hard stop a call runs into: by the name of its tool and by what it touches."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from decisions.policy import commands, globs, shell
from decisions.policy.touched import Facet, Touch
from schemas.policy import HardStop


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PAYMENT = _words(
    "pay pays payment payments payout payouts refund refunds charge charges purchase purchases checkout buy wire"
)
_MONEY = _words("money funds invoice bitcoin crypto")
_MOVING = _words("send transfer move wire settle")
_PUBLIC = _words("publish tweet toot")
_PLACES = _words("social twitter x linkedin facebook instagram mastodon bluesky reddit youtube tiktok blog")
_SAYING = _words("post share upload reply send create")
_DESTRUCTIVE = _words("delete destroy drop purge wipe terminate close deactivate suspend disable revoke")
_ACCOUNTS = _words(
    "account accounts user users tenant organization organisation org workspace database cluster instance server vm "
    "repository repo bucket domain zone system"
)


@functools.lru_cache(maxsize=8192)
def by_name(tool: str) -> tuple[HardStop, ...]:
    """Stops that the name of a tool stands for. The last part of ``mcp:<server>/<tool>`` counts, word by word."""
    words = frozenset(w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", tool.rpartition("/")[2]))
    found = []
    if words & _PAYMENT or (words & _MONEY and words & _MOVING):
        found.append(HardStop.PAYMENTS)
    if tool == "destructive_shell" or (words & _DESTRUCTIVE and words & _ACCOUNTS):
        found.append(HardStop.DESTRUCTIVE_ACCOUNT_ACTION)
    if words & _PUBLIC or (words & _PLACES and words & _SAYING):
        found.append(HardStop.PUBLIC_POSTING)
    return tuple(found)


def by_content(touches: Iterable[Touch], recipients: Iterable[str]) -> list[tuple[HardStop, str]]:
    """Stops that what a call touches runs into, each with what it was. ``recipients`` is the allowlist of mail."""
    found: list[tuple[HardStop, str]] = []
    allowed = tuple(recipients)
    for touch in touches:
        if touch.facet is Facet.EMAIL:
            addresses = globs.recipients_of(touch.value)
            if addresses is None:
                found.append((HardStop.EMAIL_OUTSIDE_ALLOWLIST, "recipients that cannot be told"))
                continue
            outside = [a for a in addresses if globs.matches_recipient(allowed, a) is None]
            if outside:
                found.append((HardStop.EMAIL_OUTSIDE_ALLOWLIST, ", ".join(outside[:3])))
        elif touch.facet is Facet.SHELL and isinstance(touch.value, str):
            for program in shell.programs(touch.value) or ():
                if commands.destroys(program):
                    found.append((HardStop.DESTRUCTIVE_ACCOUNT_ACTION, f"{program.name} as it is called here"))
                    break
    return found
