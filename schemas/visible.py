"""Text from specs, agents and other people's services, made harmless for whoever displays it."""

from __future__ import annotations

import re

# C0 and C1 controls, soft hyphen, bidirectional and other format characters, separators, surrogates, tags: whatever
# a terminal obeys or a reader cannot see.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f\u205f-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """``text`` on one line, with control, bidirectional and invisible characters written as escapes."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
