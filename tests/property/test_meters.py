"""The quick look at a limit says what the long one says."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from decisions import meters
from decisions.meters import Cap, Meter, Reading
from decisions.windows import Span
from schemas.amounts import NOTHING, Amounts
from schemas.budget import OnBreach

SMALL = st.integers(0, 4)
AMOUNTS = st.builds(Amounts, SMALL, SMALL, SMALL, SMALL)
CAPS = st.builds(Cap, *[st.none() | st.integers(0, 8)] * 4)


@given(CAPS, st.builds(Reading, AMOUNTS, AMOUNTS, AMOUNTS), AMOUNTS)
def test_what_fits_has_room_for_what_is_wanted_and_is_not_overdrawn(cap: Cap, reading: Reading, want: Amounts) -> None:
    wanted = Cap(**{f.name: getattr(cap, f.name) if getattr(want, f.name) else None for f in fields(Cap)})
    meter, masked = (Meter("a", c, "budget/a", OnBreach.BLOCK_MISSION, Span("total")) for c in (cap, wanted))
    has_room = meters.room(masked, reading, want) is None
    assert meters.fits(cap, reading, want) == (has_room and not meters.overdrawn(meter, reading))
    assert meters.fits(cap, reading, NOTHING) == (not meters.overdrawn(meter, reading))
