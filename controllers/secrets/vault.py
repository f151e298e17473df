"""HashiCorp Vault and OpenBao: the key-value engine, version 2, over HTTP with a token.

The address and the token come from ``remit.yaml``; a reference names mount, path and field only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controllers.secrets import http
from controllers.secrets.files import SecretFiles
from controllers.secrets.source import LARGEST, SecretMissing, SecretUnavailable, shown
from schemas.secret import ValueFrom
from schemas.secrets_config import VaultConfig

TOKEN_VARIABLE = "VAULT_TOKEN"  # noqa: S105  the name of a variable
_PASSING = {412, 429, 472, 473, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class VaultSecrets:
    """``variables`` is the engine's environment; ``project`` is where relative files start."""

    config: VaultConfig
    project: Path
    monotonic: Callable[[], float]
    variables: Mapping[str, str] = field(repr=False)

    def fetch(self, reference: ValueFrom) -> str:
        """The value as Vault has it now. Raises SecretMissing, SecretUnavailable."""
        assert reference.vault is not None
        what, ref = shown(reference), reference.vault
        headers = {"X-Vault-Token": self._token(what), "X-Vault-Request": "true"}
        if self.config.namespace is not None:
            headers["X-Vault-Namespace"] = self.config.namespace
        url = f"{self.config.address.rstrip('/')}/v1/{ref.mount}/data/{ref.path}"
        ca = None if self.config.ca_file is None else self.project / self.config.ca_file
        status, data = http.ask("GET", url, headers, None, what=what, monotonic=self.monotonic, ca_file=ca)
        if status == 200:
            return _value(data, ref.key, what)
        if status in _PASSING:
            sealed = status == 503 and b"sealed" in data[:4096].lower()
            why = "Vault is sealed" if sealed else f"Vault answers HTTP {status}"
            raise SecretUnavailable(f"cannot look up {what}: {why}")
        why = {
            400: "it does not take the request; is the mount a key-value engine of version 2?",
            403: "the engine's token is not accepted, or may not read that",
            404: "there is no such secret, or its latest version was deleted",
        }.get(status, f"it answers HTTP {status}; is that the address of Vault?")
        raise SecretMissing(f"cannot look up {what}: {why}")

    def _token(self, what: str) -> str:
        if self.config.token_file is not None:
            # Read anew each time: agents of Vault write a fresh one before the old one ends.
            file = self.project / self.config.token_file
            try:
                token = SecretFiles(folders=(file.parent,)).read(str(file), self.project).strip()
            except SecretMissing as error:
                raise SecretMissing(f"cannot look up {what}: secrets.vault.tokenFile: {error}") from None
        else:
            token = self.variables.get(TOKEN_VARIABLE, "").strip()
        if not http.credential(token):
            raise SecretMissing(
                f"cannot look up {what}: the engine has no token for Vault; set {TOKEN_VARIABLE}, or"
                " secrets.vault.tokenFile in remit.yaml"
            )
        return token


def _value(data: bytes, key: str, what: str) -> str:
    answer = http.as_object(data)
    outer = answer.get("data") if answer is not None else None
    fields = outer.get("data") if isinstance(outer, dict) else None
    if not isinstance(fields, dict):
        raise SecretMissing(f"cannot look up {what}: the answer is not one of a key-value engine of version 2")
    value = fields.get(key)
    if value is None:
        raise SecretMissing(f"cannot look up {what}: the secret has no field of that name")
    if not isinstance(value, str):
        raise SecretMissing(f"cannot look up {what}: the field is not a text")
    if len(value.encode("utf-8", "surrogatepass")) > LARGEST:
        raise SecretMissing(f"cannot look up {what}: it is larger than {LARGEST} bytes")
    return value
