"""What the sync pipeline asks about signatures: may this revision be applied, who vouches for it, and who made the
acts that it brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from controllers.sources.git import GitReader
from controllers.sources.git_trust import Trust
from controllers.sources.tree import OBJECT_MISSING, Entry, SourceReader, Version
from decisions.identity import Identity, Prover
from decisions.plan import Action, Plan
from schemas.approval_decision import Transport
from schemas.base import Key
from schemas.errors import SourceUnreadable
from schemas.resource import Declared
from schemas.source import SourceReason, SourceSpec


def trusted(reader: SourceReader, spec: SourceSpec) -> Trust | None:
    """Whose signatures count at this look; None where the source asks for none.

    Raises SourceUnreadable when that cannot be told: then nothing new is applied.
    """
    if spec.verify is None:
        return None
    trust = reader.trust() if isinstance(reader, GitReader) else None
    if trust is None:
        raise SourceUnreadable(
            "spec.verify is set, and this source has no commits to check", reason=SourceReason.SIGNATURE_UNCHECKED
        )
    return trust


def signer(reader: SourceReader, trust: Trust | None, head: str, now: datetime) -> str:
    """The verified signer of the current revision, "" where no signature is asked for.

    Raises SourceUnreadable with one of the Signature reasons when it is not signed by somebody who is trusted.
    """
    if trust is None or not isinstance(reader, GitReader):
        return ""
    verdict = reader.verdict(head, trust, now)
    if verdict.problem is not None:
        advice = f"; {verdict.advice}" if verdict.advice else ""
        raise SourceUnreadable(f"{verdict.message}: what was in force stays{advice}", reason=verdict.problem)
    return verdict.principal


def rewritten(reader: SourceReader, old: str | None, new: str) -> str:
    """How the history of a source was replaced between two revisions that share a part of it, in words; "" when ``new``
    only adds to ``old``.

    In a shallow clone it may be impossible to tell: that counts as replaced, since the warning is harmless and its
    absence would not be.
    """
    if old is None or old == new or not isinstance(reader, GitReader):
        return ""
    try:
        if reader.is_ancestor(old, new):
            return ""
        if reader.is_ancestor(new, old):
            return f"the history went back from {old} to {new}"
    except SourceUnreadable as error:
        if error.reason != OBJECT_MISSING:
            raise
        return f"the history may have been rewritten between {old} and {new}: the clone is shallow"
    return f"the history was rewritten: {old} is no part of {new}"


def follows(reader: SourceReader, old: str, new: str) -> bool:
    """Whether the history of ``new`` is known to go on from ``old``, as it nearly always does."""
    try:
        return isinstance(reader, GitReader) and reader.is_ancestor(old, new)
    except SourceUnreadable:
        return False  # whoever asks more closely is told why


class GitProver:
    """Proves by the signature of the commit that brought a file. What the file, or the author field of the commit, says
    counts for nothing."""

    transport = Transport.GIT

    def __init__(self, reader: GitReader, trust: Trust | None, tree: Version, now: datetime) -> None:
        self._reader = reader
        self._trust = trust
        self._tree = tree
        self._now = now

    def identify(self, evidence: Entry | None) -> Identity:
        """Who signed the commit that brought this file of the tree."""
        if self._trust is None:
            return self._unproven("its source has no spec.verify, so no signature is checked")
        if evidence is None:
            return self._unproven("its file is not in the tree")
        verdict = self._reader.bringer(self._tree, evidence, self._trust, self._now)
        if verdict.problem is not None:
            return self._unproven(f"{verdict.message} ({verdict.problem})")
        if not verdict.person:
            return self._unproven(
                f"the commit {verdict.oid[:12]} that brought it is signed by {verdict.principal}, no person"
            )
        return Identity(self.transport, f"user:{verdict.principal}", proof=f"commit {verdict.oid}")

    def _unproven(self, why: str) -> Identity:
        advice = "make a new one, under another name, in a commit that you sign"
        return Identity(self.transport, unproven=f"{why}; {advice}")


def act_statuses(
    reader: SourceReader, trust: Trust | None, tree: Version, plan: Plan, declared: Mapping[Key, Declared],
    now: datetime,
) -> dict[Key, dict[str, Any]]:  # fmt: skip
    """The first status of each ApprovalDecision that the plan creates: who made it, as git proves it, or why nobody is
    proven."""
    if not isinstance(reader, GitReader):
        return {}
    new = list(_new_decisions(plan))
    prover: Prover[Entry | None] = GitProver(reader, trust, tree, now)
    statuses = {}
    for key in new:
        origin = declared[key].provenance
        entry = reader.find(tree, origin.path) if origin is not None else None
        statuses[key] = prover.identify(entry).first_status().to_wire()
    return statuses


def _new_decisions(plan: Plan) -> Iterable[Key]:
    return (e.key for e in plan.entries if e.action is Action.CREATE and e.key.kind == "ApprovalDecision")
