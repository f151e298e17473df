"""How long the client keeps trying. Pure arithmetic; the clock and the randomness come in as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Pauses between tries of one call: ``first_s`` doubled each time up to ``longest_s``, each shortened by a random
    share of at most ``jitter`` (so that agents do not come back in step after a restart of the engine).

    ``window_s`` is the time from the first try after which none is begun. It covers a restart of the engine: a closed
    port is not a failure. ``unsound_tries`` bounds the tries that get an answer, but a senseless one (no JSON, or a
    500): a restart does not cure those as surely.
    """

    window_s: float = 120.0
    first_s: float = 0.2
    longest_s: float = 8.0
    jitter: float = 0.5
    unsound_tries: int = 6

    def pause(self, tries: int, chance: float) -> float:
        """Seconds to wait after ``tries`` failed tries (1 or more); ``chance`` is random in [0, 1)."""
        full = min(self.longest_s, self.first_s * float(1 << min(tries - 1, _MAX_DOUBLINGS)))
        return full * (1 - self.jitter * chance)


def retry_after(value: str | None, date: str | None) -> float | None:
    """Seconds named by a Retry-After header, or None when there is none that can be read.

    A moment (RFC 9110 allows both forms) is compared with the answer's own Date header, so that the agent's clock
    does not matter.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    moment, now = _moment(text), _moment(date)
    if moment is None or now is None:
        return None
    return max(0.0, (moment - now).total_seconds())


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    # RFC 9110 dates are GMT; a text without a zone reads as naive and cannot be compared.
    return moment if moment.tzinfo is not None else None
