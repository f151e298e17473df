"""Who may use which reference. The namespace ``default`` is the operators'; a tenant's may use what was granted."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable

from controllers.secrets.source import SecretMissing, shown
from decisions.policy import globs
from schemas.base import DEFAULT_NAMESPACE
from schemas.secret import ValueFrom
from schemas.secrets_config import Grant, SecretsConfig

_ENGINE = re.compile(
    r"REMIT_.*|VAULT_TOKEN|AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)|PGPASSWORD|AWS_CONTAINER_AUTHORIZATION_TOKEN"
)
"""Variables that the engine itself lives on: nobody's secret, whatever is granted."""


def require(config: SecretsConfig, reference: ValueFrom, namespaces: Iterable[str]) -> None:
    """Raise SecretMissing unless each of the namespaces may use the reference."""
    if reference.env is not None and _ENGINE.fullmatch(reference.env):
        raise SecretMissing(
            f"{shown(reference)} is the engine's own and handed to nobody; give the secret a variable of another name"
        )
    for namespace in namespaces:
        if not granted(config, reference, namespace):
            raise SecretMissing(
                f"the namespace {namespace} may not use {shown(reference)}: an operator can grant it in"
                " secrets.grants of remit.yaml"
            )


def granted(config: SecretsConfig, reference: ValueFrom, namespace: str) -> bool:
    """Whether a namespace may use the reference. Without a grant of its own, ``default`` may use every one, and others
    none."""
    grants = [grant for grant in config.grants if namespace in grant.namespaces]
    if not grants:
        return namespace == DEFAULT_NAMESPACE
    return any(_covers(grant, reference) for grant in grants)


def _covers(grant: Grant, reference: ValueFrom) -> bool:
    if reference.env is not None:
        return _any(grant.env, reference.env)
    if reference.file is not None:
        path = os.path.normpath(reference.file)
        return _any((_rooted(pattern) for pattern in grant.files), _rooted(path))
    if reference.vault is not None:
        return _any(grant.vault, f"{reference.vault.mount}/{reference.vault.path}")
    if reference.aws_secrets_manager is not None:
        return _any(grant.aws_secrets_manager, reference.aws_secrets_manager.secret_id)
    if reference.kubernetes_secret is not None:
        return _any(grant.kubernetes_secret, reference.kubernetes_secret.name)
    return False


def _any(patterns: Iterable[str], text: str) -> bool:
    return globs.matches_path(patterns, text) is not None


def _rooted(path: str) -> str:
    """An absolute path under a name of its own: ``/run/x`` is not ``run/x`` of the project."""
    return f"(root){path}" if path.startswith("/") else path
