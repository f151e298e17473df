"""The part of ``remit.yaml`` that says where secrets lie and who may use which. Operators own it: a spec names a
secret, never the host that a token is sent to."""

from __future__ import annotations

import re
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
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]


class VaultConfig(Model):
    """One Vault, and how the engine proves itself to it."""

    address: Address = Field(description="Where it is; https, or http on this machine.")
    token_file: FilePath | None = Field(None, description="File with the token; VAULT_TOKEN when absent.")
    namespace: str | None = Field(None, pattern=r"^[A-Za-z0-9._/-]{1,255}$", description="Namespace in Vault.")
    ca_file: FilePath | None = Field(None, description="Certificates to trust instead of the system's.")


class AwsConfig(Model):
    """AWS Secrets Manager, and how the engine proves itself to it."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$", description="Such as eu-central-1.")
    endpoint: Address | None = Field(None, description="Another address than that of the region.")
    credentials_file: FilePath | None = Field(None, description="Credentials by profile; AWS_* variables when absent.")
    profile: str = Field("default", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="Profile in credentialsFile.")
    ca_file: FilePath | None = Field(None, description="Certificates to trust instead of the system's.")


class Grant(Model):
    """References that some namespaces may use. Globs: ``*`` stays between slashes, ``**`` crosses them."""

    namespaces: tuple[Namespace, ...] = Field(min_length=1, max_length=1000, description="Whose.")
    env: tuple[Pattern, ...] = Field((), max_length=1000, description="Variables of the engine.")
    files: tuple[Pattern, ...] = Field((), max_length=1000, description="Files, as references name them.")
    vault: tuple[Pattern, ...] = Field((), max_length=1000, description="Secrets in Vault, as mount/path.")
    aws_secrets_manager: tuple[Pattern, ...] = Field((), max_length=1000, description="Names or ARNs of secrets.")


class SecretsConfig(Model):
    """Where secrets lie, and who may use which."""

    folders: tuple[FilePath, ...] = Field(
        (), max_length=100, description="Folders outside of the project that hold secrets, such as /run/secrets."
    )
    vault: VaultConfig | None = Field(None, description="Vault.")
    aws_secrets_manager: AwsConfig | None = Field(None, description="AWS Secrets Manager.")
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
