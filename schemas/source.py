"""Source: where specs come from. The engine keeps one for the source of ``remit.yaml``; more can be declared."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from schemas.base import Bool, Model, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Duration, Time


class SourceType(StrEnum):
    """What is read."""

    GIT = "Git"
    DIRECTORY = "Directory"


class VerifyMode(StrEnum):
    """Which signatures are asked for."""

    HEAD = "Head"  # the commit that is applied, or the annotated tag that names it, must be signed by an allowed signer


class Verify(Model):
    """Which commits are trusted. The files must lie outside the governed repository: who may commit to it must not
    say whom to trust."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["allowedSigners"]}, {"required": ["gpgKeyring"]}]}
    )

    mode: VerifyMode = Field(VerifyMode.HEAD, description="Head.")
    allowed_signers: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="File of SSH keys and whose they are (ALLOWED SIGNERS of ssh-keygen), outside the governed path. "
        "A validity in it counts at the time that the commit carries; times without Z are UTC. A key that must no "
        "longer be trusted is taken out of the file.",
    )
    gpg_keyring: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="File of GPG public keys that are trusted (gpg --export), outside the governed path. The principal "
        "of a key is the e-mail address of its first user id, else its fingerprint. A key that has expired by now "
        "counts no more.",
    )
    principals: tuple[str, ...] = Field(
        (), description="Principals that are allowed, for GPG also full fingerprints; empty for all in the files."
    )
    forges: tuple[str, ...] = Field(
        (),
        description="Principals that are machines, such as the web merge key of a forge: what they sign is applied, "
        "but proves nobody's identity.",
    )

    @model_validator(mode="after")
    def _keys(self) -> Self:
        if self.allowed_signers is None and self.gpg_keyring is None:
            raise ValueError("name allowedSigners, gpgKeyring, or both")
        return self


CommitPrefix = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")]
"""A commit id or its first digits, at least 7."""


class PruneMode(StrEnum):
    """What happens to objects that a source no longer declares."""

    GUARDED = "Guarded"  # deleted, unless the guard asks for confirmation first
    CONFIRM = "Confirm"  # every deletion waits for confirmation
    NEVER = "Never"  # kept, and shown as orphaned


class WideningMode(StrEnum):
    """What happens to an edit that loosens a limit."""

    APPLY = "Apply"  # applies with the commit, shown on top of the plan
    CONFIRM = "Confirm"  # waits for confirmation


class SourceSpec(Model):
    """A git repository or a directory of specs."""

    type: SourceType = Field(SourceType.GIT, description="Git or Directory.")
    url: str = Field(
        min_length=1, max_length=2048, description="Local path or remote URL of the repository; the folder."
    )
    ref: str = Field("main", min_length=1, max_length=255, description="Branch, tag or full ref; for Git.")
    path: str = Field(".", min_length=1, max_length=1000, description="Folder in the repository that holds the specs.")
    interval: Duration = Field("60s", description="How often it is looked at, +-10 %.")  # type: ignore[assignment]
    verify: Verify | None = Field(None, description="Which commits are trusted.")
    prune: PruneMode = Field(PruneMode.GUARDED, description="Guarded, Confirm or Never.")
    widening: WideningMode = Field(WideningMode.APPLY, description="Apply or Confirm.")
    quarantine: tuple[CommitPrefix, ...] = Field(
        (), description="Commits that are never applied: full ids, or their first 7 digits or more."
    )
    suspend: Bool = Field(False, description="Apply nothing new while true.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.interval.total_seconds() < 1:
            raise ValueError("interval is at least 1s")
        if self.type is SourceType.DIRECTORY and self.verify is not None:
            raise ValueError("a directory has no commits to verify: use a git source")
        return self


class SourceReason(StrEnum):
    """Reasons of a Source's conditions and of its units'."""

    SYNCED = "Synced"  # every unit is at the revision
    SYNCING = "Syncing"  # it is being read
    SUSPENDED = "Suspended"  # spec.suspend
    INVALID_SPEC = "InvalidSpec"  # a unit does not compile; its last good revision stays
    PRUNE_BLOCKED = "PruneBlocked"  # deletions wait for `remit confirm`
    WIDENING_PENDING = "WideningPending"  # a looser limit waits for `remit confirm`
    REPOSITORY_UNREACHABLE = "RepositoryUnreachable"  # it cannot be opened or fetched
    FETCH_TIMEOUT = "FetchTimeout"  # the remote did not answer in time
    AUTHENTICATION_FAILED = "AuthenticationFailed"  # the remote refused
    REF_NOT_FOUND = "RefNotFound"  # no such branch or tag
    REF_DAMAGED = "RefDamaged"  # the ref holds no commit
    PATH_NOT_FOUND = "PathNotFound"  # spec.path is not there
    EMPTY_REPOSITORY = "EmptyRepository"  # it has no commit
    OBJECT_DAMAGED = "ObjectDamaged"  # an object does not match its hash
    OBJECT_MISSING = "ObjectMissing"  # an object is not there
    HISTORY_REWRITTEN = "HistoryRewritten"  # the new head does not descend from the applied one
    ADDRESS_REFUSED = "AddressRefused"  # the URL, ref or path is not of an accepted form
    FILE_UNREADABLE = "FileUnreadable"  # a file of a directory cannot be opened
    SOURCE_CHANGING = "SourceChanging"  # a directory did not hold still while it was read
    LIMIT_EXCEEDED = "LimitExceeded"  # more or larger files than allowed
    DISK_FULL = "DiskFull"  # no room to fetch
    SIGNATURE_UNSIGNED = "SignatureUnsigned"  # the commit or tag carries no signature
    SIGNATURE_UNTRUSTED = "SignatureUntrusted"  # it is signed, but not by an allowed signer
    SIGNATURE_EXPIRED = "SignatureExpired"  # the signer's key was not valid at the time that counts
    SIGNATURE_REVOKED = "SignatureRevoked"  # the signer's key was revoked
    SIGNATURE_INVALID = "SignatureInvalid"  # the signature does not fit what it stands on
    SIGNATURE_UNCHECKED = "SignatureUnchecked"  # ssh-keygen or gpg is missing or gave no answer
    ALLOWED_SIGNERS_REFUSED = "AllowedSignersRefused"  # the file of trusted keys is unreadable or in the governed path
    QUARANTINED = "Quarantined"  # the revision is in spec.quarantine
    STORE_UNAVAILABLE = "StoreUnavailable"  # the plan could not be applied
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; this version does not follow it
    DELETING = "Deleting"  # deletionTimestamp is set


class PendingPlan(StatusModel):
    """A plan that waits for confirmation."""

    digest: str = Field(description="What `remit confirm` takes.")
    guard: SourceReason = Field(description="PruneBlocked or WideningPending.")
    revision: str = Field(description="Revision it was made for.")
    deletes: tuple[str, ...] = Field((), description="What it would delete, at most 50.")
    widens: tuple[str, ...] = Field((), description="What it would loosen, at most 50.")
    message: str = Field("", description="Why the guard holds it.")
    since: Time = Field(description="Since when.")


class UnitStatus(StatusModel):
    """One sync unit: it is applied as a whole or not at all."""

    path: str = Field(description='Folder below the source path, "." for all that is in no other unit.')
    revision: str | None = Field(None, description="Revision that was last seen.")
    applied_revision: str | None = Field(None, description="Revision that is in force.")
    reason: SourceReason = Field(SourceReason.SYNCING, description="Where it stands.")
    message: str = Field("", description="For people.")
    errors: tuple[str, ...] = Field((), description="What does not compile: file:line:column, at most 50.")
    objects: int = Field(0, description="Objects in its inventory.")
    applied_at: Time | None = Field(None, description="When a change was last applied.")
    drift_corrected: int = Field(0, description="How often a declared field was put back.")
    pending: tuple[PendingPlan, ...] = Field((), description="Parts of the plan that wait for confirmation.")


class SourceStatus(StatusModel):
    """How far it is applied."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    revision: str | None = Field(None, description="Revision that was last seen.")
    signer: str = Field("", description="Who signed that revision, as verified; empty without spec.verify.")
    last_sync_time: Time | None = Field(None, description="When it was last read with success.")
    units: tuple[UnitStatus, ...] = Field((), description="Its units, by path.")
    last_handled_reconcile: str | None = Field(None, description="Latest `remit sync` token acted on.")


KIND = KindInfo(
    kind="Source",
    plural="sources",
    short_names=("src",),
    object_class=ObjectClass.INTENT,
    spec=SourceSpec,
    status=SourceStatus,
    reasons=SourceReason,
    description="Where specs come from.",
    columns=(
        Column("READY", "status.conditions[Ready].status"),
        Column("REASON", "status.conditions[Ready].reason"),
        Column("REVISION", "status.revision"),
        Column("SYNCED", "status.lastSyncTime", "date"),
        Column("URL", "spec.url", wide=True),
        Column("MESSAGE", "status.conditions[Ready].message", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
