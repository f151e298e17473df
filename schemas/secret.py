"""Secrets by reference. A value never stands in a spec; it is looked up where it is used and kept nowhere."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import LINE_PATTERN, Model, Name, exactly_one_field


def _no_detour(value: str) -> str:
    if any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError("write names with single slashes between them, without . and ..")
    return value


VaultPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~@=+/-]{1,1000}$"), AfterValidator(_no_detour)]
"""Part of an address: nothing in it can lead to another place of Vault, or to another host."""


class VaultRef(Model):
    """A field of a secret in Vault."""

    path: VaultPath = Field(description="Path of the secret.")
    key: str = Field(min_length=1, max_length=255, pattern=LINE_PATTERN, description="Field of it.")
    mount: VaultPath = Field("secret", description="Where the key-value engine is mounted.")


class AwsSecretRef(Model):
    """A secret in AWS Secrets Manager."""

    secret_id: str = Field(pattern=r"^[A-Za-z0-9/_+=.@:-]{1,2048}$", description="Name or ARN.")
    key: str | None = Field(
        None, max_length=255, pattern=LINE_PATTERN, description="Field of it, when its text is JSON."
    )


class KubernetesSecretRef(Model):
    """A key of a Kubernetes Secret, in the namespace of the cluster that the object's namespace has its Secrets in."""

    name: Name = Field(description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, description="Key in it.")


class ValueFrom(Model):
    """Exactly one place to take a value from."""

    model_config = exactly_one_field()

    env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$", description="Variable of the engine.")
    file: str | None = Field(
        None, min_length=1, max_length=4096, pattern=LINE_PATTERN, description="File; one final newline is dropped."
    )
    vault: VaultRef | None = Field(None, description="Field of a Vault secret.")
    aws_secrets_manager: AwsSecretRef | None = Field(None, description="AWS Secrets Manager.")
    kubernetes_secret: KubernetesSecretRef | None = Field(None, description="Kubernetes Secret.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("name exactly one of env, file, vault, awsSecretsManager, kubernetesSecret")
        return self


class EnvVar(Model):
    """A variable for a program: a plain value or a reference."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$", description="Name of the variable.")
    value: str | None = Field(None, max_length=32_768, description="Plain value; never a secret.")
    value_from: ValueFrom | None = Field(None, description="Where the value is taken from when the run starts.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("give exactly one of value and valueFrom")
        if self.name.startswith("REMIT_"):
            raise ValueError("names that begin with REMIT_ are set by the engine")
        return self
