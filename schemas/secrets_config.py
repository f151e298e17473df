"""The part of ``remit.yaml`` that says where secrets lie and who may use which. Operators own it: a spec names a
secret, never the host that a token is sent to."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import Model, Namespace
from schemas.quantities import Duration

_ADDRESS = re.compile(r"(https?)://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def _address(value: str) -> str:
    parts = _ADDRESS.fullmatch(value)
    if parts is None or int((parts[3] or ":443")[1:]) > 65535:
        raise ValueError("write an address such as https://vault.example.org:8200, without user, query or fragment")
    if parts[1] != "https" and parts[2] not in _LOOPBACK:
        raise ValueError("tokens travel there: use https://, or http:// to this machine only")
    return value


Address = Annotated[
    str, StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://[^\s\x00-\x1f]+$"),
    AfterValidator(_address),
]  # fmt: skip
_METADATA = re.compile(r"http://(169\.254\.[0-9]{1,3}\.[0-9]{1,3}|\[fd00:ec2::[0-9a-f]{1,4}\])(:[0-9]{1,5})?/?")


def _role_address(value: str) -> str:
    return value if _METADATA.fullmatch(value) else _address(value)


RoleAddress = Annotated[
    str, StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://[^\s\x00-\x1f]+$"),
    AfterValidator(_role_address),
]  # fmt: skip
"""As other addresses; also the link-local ones, which lead to nobody but the host of the machine."""
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]


class VaultConfig(Model):
    """One Vault, and how the engine proves itself to it."""

    address: Address = Field(description="Where it is; https, or http on this machine.")
    token_file: FilePath | None = Field(None, description="File with the token; VAULT_TOKEN when absent.")
    namespace: str | None = Field(None, pattern=r"^[A-Za-z0-9._/-]{1,255}$", description="Namespace in Vault.")
    ca_file: FilePath | None = Field(None, description="Certificates to trust instead of the system's.")


class AwsRole(StrEnum):
    """Whose role the engine works in."""

    INSTANCE = "Instance"  # that of the machine, by version 2 of its metadata service
    CONTAINER = "Container"  # that of the container or pod, as AWS_CONTAINER_CREDENTIALS_* say


class AwsConfig(Model):
    """AWS Secrets Manager, and how the engine proves itself to it."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$", description="Such as eu-central-1.")
    endpoint: Address | None = Field(None, description="Another address than that of the region.")
    credentials_file: FilePath | None = Field(None, description="Credentials by profile; AWS_* variables when absent.")
    profile: str = Field("default", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="Profile in credentialsFile.")
    ca_file: FilePath | None = Field(None, description="Certificates to trust instead of the system's.")
    role: AwsRole | None = Field(None, description="Instance or Container: take the credentials of that role.")
    role_address: RoleAddress | None = Field(None, description="Another address than the usual one for the role.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.role is not None and self.credentials_file is not None:
            raise ValueError("secrets.awsSecretsManager: name credentialsFile or role, not both")
        if self.role is None and self.role_address is not None:
            raise ValueError("secrets.awsSecretsManager: roleAddress is for a role: name it")
        return self


_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class KubernetesConfig(Model):
    """The API server of a cluster, and how the engine proves itself to it: as the service account of its pod."""

    address: Address = Field("https://kubernetes.default.svc", description="Where it is.")
    token_file: FilePath = Field(f"{_ACCOUNT}/token", description="File with the token.")
    ca_file: FilePath | None = Field(f"{_ACCOUNT}/ca.crt", description="Certificates to trust.")
    namespaces: dict[Namespace, Namespace] = Field(
        default_factory=dict, description="Where namespaces have their Secrets; in one of the same name else."
    )


class Grant(Model):
    """References that some namespaces may use. Globs: ``*`` stays between slashes, ``**`` crosses them."""

    namespaces: tuple[Namespace, ...] = Field(min_length=1, max_length=1000, description="Whose.")
    env: tuple[Pattern, ...] = Field((), max_length=1000, description="Variables of the engine.")
    files: tuple[Pattern, ...] = Field((), max_length=1000, description="Files, as references name them.")
    vault: tuple[Pattern, ...] = Field((), max_length=1000, description="Secrets in Vault, as mount/path.")
    aws_secrets_manager: tuple[Pattern, ...] = Field((), max_length=1000, description="Names or ARNs of secrets.")
    kubernetes_secret: tuple[Pattern, ...] = Field((), max_length=1000, description="Names of Kubernetes Secrets.")


class SecretsConfig(Model):
    """Where secrets lie, and who may use which."""

    folders: tuple[FilePath, ...] = Field(
        (), max_length=100, description="Folders outside of the project that hold secrets, such as /run/secrets."
    )
    vault: VaultConfig | None = Field(None, description="Vault.")
    aws_secrets_manager: AwsConfig | None = Field(None, description="AWS Secrets Manager.")
    kubernetes_secret: KubernetesConfig | None = Field(None, description="Secrets of a Kubernetes cluster.")
    cache: Duration = Field("30s", description="How long what a service said is used again.")  # type: ignore[assignment]
    grants: tuple[Grant, ...] = Field(
        (), max_length=1000, description="What namespaces may use; default everything, others nothing when not named."
    )

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        for folder in self.folders:
            if not folder.startswith("/") or ".." in folder.split("/"):
                raise ValueError(f"secrets.folders: {folder} is not an absolute path without ..")
        return self
