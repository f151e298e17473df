"""Who gave an answer, as the way it came proves it. Never what a text says of itself.

A transport is one way in: a command on this machine, a verified commit, a token, a chat account. Each proves in its own
manner and hands over an ``Identity``; from there on all are alike. A new one is a value of ``Transport`` and something
that fits ``Prover``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from schemas.approval_decision import ApprovalDecisionStatus, Transport

Evidence_contra = TypeVar("Evidence_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody proven, or why nobody is. ``subject`` is ``user:<name>``, "" when nobody was proven; ``groups`` are
    those that the transport vouches for; ``proof`` names what proved it."""

    transport: Transport
    subject: str = ""
    groups: tuple[str, ...] = ()
    proof: str = ""
    unproven: str = ""

    def first_status(self) -> ApprovalDecisionStatus:
        """The status with which a decision of theirs begins."""
        return ApprovalDecisionStatus(
            subject=self.subject,
            transport=self.transport.value,
            groups=self.groups,
            proof=self.proof,
            unproven=self.unproven,
        )


class Prover(Protocol[Evidence_contra]):
    """One transport. ``identify`` never raises for evidence that proves nobody: it says why in ``unproven``."""

    @property
    def transport(self) -> Transport:
        """Its name in the record."""

    def identify(self, evidence: Evidence_contra) -> Identity:
        """Who stands behind the evidence."""
