"""What everybody who needs a secret sees of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from schemas.errors import Retry
from schemas.secret import ValueFrom

LARGEST = 65_536
"""Bytes of a secret."""


class SecretMissing(Exception):
    """A reference leads to no value, or may not be used. The message names the reference and never a value."""


class SecretUnavailable(Retry):
    """Where the secret lies does not answer now. The message names the reference and never a value."""


class SecretSource(Protocol):
    """Looks up references, for whoever ``of`` names."""

    def resolve(self, reference: ValueFrom, project_root: Path) -> str:
        """The value. May block for some seconds. Raises SecretMissing, SecretUnavailable."""
        ...

    def check(self, reference: ValueFrom, project_root: Path) -> None:
        """Raise SecretMissing where ``resolve`` would for a reason that can be told on this machine, without asking
        anybody. Reads files at most."""
        ...

    def of(self, *namespaces: str) -> SecretSource:
        """The same for users who live in these namespaces: a reference must be granted to each of them."""
        ...


def shown(reference: ValueFrom) -> str:
    """The reference as messages name it."""
    if reference.env is not None:
        return f"the variable {reference.env} of the engine"
    if reference.file is not None:
        return f"the file {reference.file}"
    if reference.vault is not None:
        vault = reference.vault
        return f"the field {vault.key} of {vault.mount}/{vault.path} in Vault"
    if reference.aws_secrets_manager is not None:
        secret = reference.aws_secrets_manager
        field = f"the field {secret.key} of " if secret.key is not None else ""
        return f"{field}{secret.secret_id} in AWS Secrets Manager"
    assert reference.kubernetes_secret is not None
    return f"the key {reference.kubernetes_secret.key} of the Kubernetes Secret {reference.kubernetes_secret.name}"
