"""``remit.yaml``: where one engine finds its specs, store and ports. Most keys are also flags and ``REMIT_*``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.admission_config import AdmissionConfig
from schemas.base import Model, Namespace
from schemas.quantities import Duration
from schemas.secret import ValueFrom
from schemas.secrets_config import SecretsConfig
from schemas.source import (
    STATUS_BRANCH,
    Branch,
    CommitPrefix,
    Forge,
    PruneMode,
    SourceSpec,
    SourceType,
    StatusWriteback,
    Verify,
    Webhook,
    WideningMode,
)
from schemas.standup import Standup

Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$", max_length=300)]
"""``host:port``; an IPv6 host stands in brackets."""
HostName = Annotated[
    str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$", max_length=300)
]
"""A host, or ``host:port``."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Profile(StrEnum):
    """How careful the defaults are."""

    WORKSTATION = "Workstation"  # one person on this machine
    STANDALONE = "Standalone"  # a small server behind a proxy
    VPS = "Vps"  # reachable from outside; everything needs a token


class GitSource(Model):
    """Specs in a git repository."""

    url: str = Field("specs", min_length=1, max_length=2048, description="Local path or remote URL.")
    ref: str = Field("main", min_length=1, max_length=255, description="Branch, tag or full ref.")
    path: str = Field(".", min_length=1, max_length=1000, description="Folder in the repository.")
    interval: Duration = Field("60s", description="How often it is looked at, +-10 %.")  # type: ignore[assignment]
    verify: Verify | None = Field(None, description="Which commits are trusted.")
    prune: PruneMode = Field(PruneMode.GUARDED, description="Guarded, Confirm or Never.")
    widening: WideningMode = Field(WideningMode.APPLY, description="Apply or Confirm.")
    quarantine: tuple[CommitPrefix, ...] = Field(
        (), description="Commits that are never applied: full ids, or their first 7 digits or more."
    )
    status_writeback: StatusWriteback | None = Field(
        None, description="How status is written back; Auto, to statusBranch, when absent."
    )
    forge: Forge | None = Field(None, description="Where the outcome of commits is shown.")
    webhook: Webhook | None = Field(None, description="How a forge may ask to look now.")


class DirectorySource(Model):
    """Specs in a plain folder."""

    path: str = Field("specs", min_length=1, max_length=2048, description="The folder.")
    interval: Duration = Field("60s", description="How often it is looked at, +-10 %.")  # type: ignore[assignment]
    prune: PruneMode = Field(PruneMode.GUARDED, description="Guarded, Confirm or Never.")
    widening: WideningMode = Field(WideningMode.APPLY, description="Apply or Confirm.")


class KubernetesSource(Model):
    """Specs as custom resources of a cluster, and their status in the cluster."""

    namespaces: tuple[Namespace, ...] = Field(
        (), max_length=500, description="Namespaces that are followed; all of them when empty."
    )
    shard: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
        description="Follow only namespaces whose label remit.dev/shard has this value.",
    )
    relist_interval: Duration = Field("5m", description="How often everything is listed, whatever the watch said.")  # type: ignore[assignment]
    probe_interval: Duration = Field(
        "20s", description="How often it is checked that the watch still hears what happens."
    )  # type: ignore[assignment]
    prune: PruneMode = Field(PruneMode.GUARDED, description="Guarded, Confirm or Never.")
    widening: WideningMode = Field(WideningMode.APPLY, description="Apply or Confirm.")

    @model_validator(mode="after")
    def _intervals(self) -> Self:
        if min(self.relist_interval.total_seconds(), self.probe_interval.total_seconds()) < 1:
            raise ValueError("relistInterval and probeInterval are at least 1s")
        return self

    def to_spec(self) -> SourceSpec:
        """The Source that the engine keeps for it."""
        place = self.shard or ",".join(self.namespaces)
        values = {"url": f"kubernetes:{place}", "prune": self.prune, "widening": self.widening}
        return SourceSpec.model_validate({"type": SourceType.KUBERNETES, **values})


class SourceChoice(Model):
    """Exactly one place."""

    git: GitSource | None = Field(None, description="A git repository.")
    directory: DirectorySource | None = Field(None, description="A plain folder.")
    kubernetes: KubernetesSource | None = Field(None, description="Custom resources.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(x is not None for x in (self.git, self.directory, self.kubernetes)) != 1:
            raise ValueError("name exactly one of git, directory and kubernetes")
        return self

    def to_spec(self, status_branch: str = STATUS_BRANCH) -> SourceSpec | None:
        """The Source that the engine keeps for it, as far as commands can read it; None in Kubernetes mode.
        ``status_branch`` is where status goes unless the source says more."""
        if self.git is not None:
            values: dict[str, Any] = self.git.model_dump()
            written = values.pop("status_writeback") or {}
            if self.git.status_writeback is None or "branch" not in self.git.status_writeback.model_fields_set:
                written["branch"] = status_branch
            return SourceSpec.model_validate({"type": SourceType.GIT, **values, "status_writeback": written})
        if self.directory is not None:
            fields: dict[str, Any] = self.directory.model_dump()
            return SourceSpec.model_validate({"type": SourceType.DIRECTORY, "url": fields.pop("path"), **fields})
        return None


class Config(Model):
    """The configuration of one engine. Relative paths start at the project: the folder of ``remit.yaml``, or the one
    that holds ``.remit/``."""

    source: SourceChoice = Field(
        default_factory=lambda: SourceChoice(git=GitSource()), description="Where specs come from."
    )
    store: str = Field(
        "sqlite:///.remit/state.db",
        pattern=r"^(sqlite:///|postgresql(\+psycopg)?://).+",
        max_length=2048,
        description="SQLite file or PostgreSQL database.",
    )
    listen: Address = Field("127.0.0.1:8420", description="Read API and dashboard.")
    listen_token: ValueFrom | None = Field(
        None, description="The token that readers carry; needed by every profile but Workstation."
    )
    listen_hosts: tuple[HostName, ...] = Field(
        (), max_length=100, description="Names that both ports are asked by, beside their addresses and loopback ones."
    )
    agent_listen: Address = Field("127.0.0.1:8421", description="Agent protocol; agents get it as REMIT_URL.")
    estop_file: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="The file that stops everything while it is there; beside the store.",
    )
    status_branch: Branch = Field(STATUS_BRANCH, description="Branch that status is written to.")
    hook_listen: Address | None = Field(None, description="Where forges may ask to look now; nowhere when absent.")
    admission: AdmissionConfig | None = Field(
        None, description="The port that an API server asks before it keeps an object; nowhere when absent."
    )
    forge_hosts: tuple[HostName, ...] = Field(
        (), max_length=100, description="Hosts of forges beside api.github.com and gitlab.com; with a port, only that."
    )
    secrets: SecretsConfig = Field(
        default_factory=SecretsConfig, description="Where secrets lie, and who may use which."
    )
    standup: Standup = Field(
        default_factory=Standup, description="When the daily summary is made, where a Tenant does not say."
    )
    profile: Profile = Field(Profile.WORKSTATION, description="Workstation, Standalone or Vps.")

    @model_validator(mode="after")
    def _loopback(self) -> Self:
        if self.profile is Profile.WORKSTATION:
            addresses = [("listen", self.listen), ("agentListen", self.agent_listen)]
            if self.hook_listen is not None:
                addresses.append(("hookListen", self.hook_listen))
            if self.admission is not None:
                addresses.append(("admission.listen", self.admission.listen))
            for name, address in addresses:
                host, port = address.rsplit(":", 1)
                if host not in LOOPBACK:
                    raise ValueError(
                        f"{name} {address} is reachable from other machines: use 127.0.0.1, or another profile"
                    )
                if int(port) > 65535:
                    raise ValueError(f"{name} {address} has no such port")
        return self
