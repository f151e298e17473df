"""Source: where specs come from. The engine keeps one for the source of ``remit.yaml``; more can be declared."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from schemas.base import Bool, Line, Model, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Duration, Time
from schemas.secret import ValueFrom


class SourceType(StrEnum):
    """What is read."""

    GIT = "Git"
    DIRECTORY = "Directory"
    KUBERNETES = "Kubernetes"  # of remit.yaml only: the custom resources of the cluster


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


STATUS_BRANCH = "remit/status"
OWN_PREFIX = "remit/"
"""Branches below it belong to the engine: it takes one over whatever it holds, by a commit on top."""
BRANCH_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"


def _branch(value: str) -> str:
    if ".." in value or any(part.endswith((".lock", ".")) for part in value.split("/")):
        raise ValueError("no part of a branch has '..' in it or ends with '.' or '.lock'")
    return value


Branch = Annotated[str, StringConstraints(pattern=BRANCH_PATTERN, max_length=200), AfterValidator(_branch)]
"""A branch by its short name, of characters that every forge and file system takes."""


class WritebackMode(StrEnum):
    """Where status is written back."""

    AUTO = "Auto"  # into a repository on this machine that may be written to; nowhere else
    ALWAYS = "Always"  # also to a remote repository, by push
    NEVER = "Never"  # nowhere


class StatusWriteback(Model):
    """Status of what the source declares, committed to a branch of its own."""

    mode: WritebackMode = Field(WritebackMode.AUTO, description="Auto, Always or Never.")
    branch: Branch = Field(
        STATUS_BRANCH,
        description="The branch. One that does not begin with remit/ is written only if the engine made it.",
    )
    sign: Bool = Field(False, description="Sign its commits with the key that git is configured to sign with.")
    quiet_period: Duration = Field("2s", description="Commit once nothing changed for this long.")  # type: ignore[assignment]
    max_wait: Duration = Field("10s", description="Commit at the latest this long after a change.")  # type: ignore[assignment]

    @model_validator(mode="after")
    def _waits(self) -> Self:
        if self.max_wait < self.quiet_period:
            raise ValueError("maxWait is at least quietPeriod")
        if self.max_wait.total_seconds() > 3600:
            raise ValueError("maxWait is at most 1h")
        return self


class ForgeType(StrEnum):
    """Which API a forge speaks."""

    GITHUB = "GitHub"  # GitHub and GitHub Enterprise Server
    GITLAB = "GitLab"  # GitLab
    GITEA = "Gitea"  # Gitea and Forgejo


REPOSITORY_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){1,19}$"


class Forge(Model):
    """Where the outcome of a commit is shown as a commit status. The host must be one that the engine's configuration
    allows (``forgeHosts``): a commit must not say where tokens go."""

    type: ForgeType = Field(description="GitHub, GitLab or Gitea (also Forgejo).")
    url: str | None = Field(
        None,
        pattern=r"^https?://[^\s\x00-\x1f\x7f]+$",
        max_length=1000,
        description="Address of the API's host, such as https://git.example.org; that of github.com or gitlab.com when"
        " absent. For GitHub Enterprise Server with /api/v3 at its end.",
    )
    repository: str = Field(
        pattern=REPOSITORY_PATTERN, max_length=500, description="owner/name there; for GitLab with all groups."
    )
    token: ValueFrom = Field(description="Token that may write commit statuses.")
    context: Line = Field("remit", description="Name of the commit status.")
    pull_requests: Bool = Field(
        False, description="Open a pull request for each change that an agent proposes; the token must be able to."
    )

    @model_validator(mode="after")
    def _where(self) -> Self:
        if self.type is ForgeType.GITEA and self.url is None:
            raise ValueError("name the url: there is no common host of Gitea and Forgejo")
        if ".." in self.repository or (self.type is not ForgeType.GITLAB and self.repository.count("/") != 1):
            raise ValueError("repository is owner/name")
        return self


class Webhook(Model):
    """Lets a forge say that something was pushed, at ``POST /hooks/<namespace>/<source>`` of the engine's
    ``hookListen``. What it sends is a hint to look, and nothing in it is read."""

    type: ForgeType = Field(description="GitHub, GitLab or Gitea (also Forgejo): how requests prove themselves.")
    secret: ValueFrom = Field(description="The secret that was given to the forge.")


class SourceSpec(Model):
    """A git repository or a directory of specs."""

    type: SourceType = Field(SourceType.GIT, description="Git or Directory. Kubernetes is for remit.yaml only.")
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
    status_writeback: StatusWriteback = Field(
        default_factory=lambda: StatusWriteback.model_validate({}),
        description="Whether and where status is written back; for Git.",
    )
    forge: Forge | None = Field(None, description="Where the outcome of commits is shown; for Git.")
    webhook: Webhook | None = Field(None, description="How a forge may ask to look now; for Git.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.interval.total_seconds() < 1:
            raise ValueError("interval is at least 1s")
        if self.type is not SourceType.GIT and self.verify is not None:
            raise ValueError("only git has commits to verify: use a git source")
        if self.type is not SourceType.GIT and (self.forge is not None or self.webhook is not None):
            raise ValueError("forge and webhook are of git sources")
        branch = self.status_writeback.branch
        if self.type is SourceType.GIT and self.ref in (branch, f"refs/heads/{branch}"):
            raise ValueError("statusWriteback.branch is the branch that specs are read from: name another one")
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
    STATUS_WRITTEN = "StatusWritten"  # the status branch says what the store says
    NOT_WRITABLE = "NotWritable"  # status cannot be written to that repository
    BRANCH_TAKEN = "BranchTaken"  # the status branch holds what the engine did not write
    BRANCH_CHECKED_OUT = "BranchCheckedOut"  # somebody has the status branch checked out in a work tree
    REPOSITORY_BUSY = "RepositoryBusy"  # another git process holds the status branch
    NOT_SIGNED = "NotSigned"  # status commits cannot be signed
    PUSH_REFUSED = "PushRefused"  # the remote did not take the status branch
    PUSH_PENDING = "PushPending"  # status was committed and is on its way to the remote
    FORGE_REPORTED = "ForgeReported"  # the forge shows how the latest commit went
    FORGE_HOST_REFUSED = "ForgeHostRefused"  # forgeHosts does not allow the host of spec.forge
    FORGE_CREDENTIAL_NOT_FOUND = "ForgeCredentialNotFound"  # the reference of spec.forge.token leads to no value
    FORGE_REFUSED = "ForgeRefused"  # the forge refused the commit status
    FORGE_UNREACHABLE = "ForgeUnreachable"  # the forge does not answer, or asks to wait
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

    conditions: Conditions = Field((), description="Ready, StatusWritten, ForgeReported.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    revision: str | None = Field(None, description="Revision that was last seen.")
    refused_revision: str | None = Field(None, description="Revision that is there and was not taken; Ready says why.")
    reported: str = Field("", description="Digest of what was last sent to the forge.")
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
    condition_types=("Ready", "StatusWritten", "ForgeReported"),
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
