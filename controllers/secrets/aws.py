"""AWS Secrets Manager: the current value of a secret, or one field of it.

Region, address and credentials come from the configuration and the engine's environment; a reference names a secret
and a field only.
"""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from controllers.secrets import http
from controllers.secrets.aws_role import RoleCredentials
from controllers.secrets.files import SecretFiles
from controllers.secrets.sigv4 import Credentials, signed
from controllers.secrets.source import LARGEST, SecretMissing, SecretUnavailable, shown
from schemas.secret import ValueFrom
from schemas.secrets_config import AwsConfig

_CODE = re.compile(r"[A-Za-z]{1,80}")
_PASSING = {"ThrottlingException", "Throttling", "InternalServiceError", "InternalServiceErrorException"}
_WORDS = {
    "ResourceNotFoundException": "there is no such secret in the region",
    "AccessDeniedException": "the engine's credentials may not read that",
    "UnrecognizedClientException": "the engine's credentials are not accepted",
    "InvalidSignatureException": "the engine's credentials are not accepted",
    "ExpiredTokenException": "the engine's credentials have expired",
    "InvalidRequestException": "the secret is marked for deletion",
    "DecryptionFailure": "its key may not be used",
}


@dataclass(frozen=True, slots=True)
class AwsSecrets:
    """``variables`` is the engine's environment; ``project`` is where relative files start."""

    config: AwsConfig
    project: Path
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    variables: Mapping[str, str] = field(repr=False)
    role: RoleCredentials | None = None

    def fetch(self, reference: ValueFrom) -> str:
        """The value as AWS has it now. Raises SecretMissing, SecretUnavailable."""
        assert reference.aws_secrets_manager is not None
        what, ref = shown(reference), reference.aws_secrets_manager
        region = self.config.region
        url = (self.config.endpoint or f"https://secretsmanager.{region}.amazonaws.com").rstrip("/") + "/"
        body = json.dumps({"SecretId": ref.secret_id}).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "secretsmanager.GetSecretValue",
        }
        parts = urlsplit(url)
        headers = signed(
            "POST", parts.netloc, parts.path, headers, body,
            credentials=self._credentials(what), region=region, service="secretsmanager", now=self.now(),
        )  # fmt: skip
        ca = None if self.config.ca_file is None else self.project / self.config.ca_file
        status, data = http.ask("POST", url, headers, body, what=what, monotonic=self.monotonic, ca_file=ca)
        if status == 200:
            return _value(data, ref.key, what)
        raise _fault(status, data, what)

    def _credentials(self, what: str) -> Credentials:
        if self.role is not None:
            return self.role.get(what)
        file = self.config.credentials_file
        if file is not None:
            values = self._profile(self.project / file, what)
        else:
            values = {name.lower(): value for name, value in self.variables.items() if name.startswith("AWS_")}
        found = Credentials(
            values.get("aws_access_key_id", "").strip(),
            values.get("aws_secret_access_key", "").strip(),
            values.get("aws_session_token", "").strip(),
        )
        if not http.credential(found.access_key) or not http.credential(found.secret_key):
            raise SecretMissing(
                f"cannot look up {what}: the engine has no credentials for AWS; set AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY, or secrets.awsSecretsManager.credentialsFile or role in remit.yaml"
            )
        if found.session and not http.credential(found.session):
            raise SecretMissing(f"cannot look up {what}: the session token of the engine is no token")
        return found

    def _profile(self, file: Path, what: str) -> Mapping[str, str]:
        parser = configparser.ConfigParser(interpolation=None, default_section="\0none")
        try:
            parser.read_string(SecretFiles(folders=(file.parent,)).read(str(file), self.project))
            return dict(parser[self.config.profile])
        except SecretMissing as error:
            raise SecretMissing(f"cannot look up {what}: secrets.awsSecretsManager.credentialsFile: {error}") from None
        except (configparser.Error, KeyError):
            # The parser quotes the line that it stumbled over.
            text = f"secrets.awsSecretsManager.credentialsFile has no profile {self.config.profile}"
            raise SecretMissing(f"cannot look up {what}: {text}") from None


def _value(data: bytes, key: str | None, what: str) -> str:
    answer = http.as_object(data)
    text = answer.get("SecretString") if answer is not None else None
    if not isinstance(text, str):
        binary = answer is not None and "SecretBinary" in answer
        why = "it is binary; only texts can be used" if binary else "the answer is not one of Secrets Manager"
        raise SecretMissing(f"cannot look up {what}: {why}")
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        raise SecretMissing(f"cannot look up {what}: it is larger than {LARGEST} bytes")
    if key is None:
        return text
    fields = http.as_object(text.encode("utf-8", "surrogatepass"))
    value = fields.get(key) if fields is not None else None
    if not isinstance(value, str):
        why = "the secret is not a JSON object" if fields is None else "it has no field of that name that is a text"
        raise SecretMissing(f"cannot look up {what}: {why}")
    return value


def _fault(status: int, data: bytes, what: str) -> SecretMissing | SecretUnavailable:
    answer = http.as_object(data)
    told = str((answer or {}).get("__type", "")).rpartition("#")[2]
    code = told if _CODE.fullmatch(told) else ""
    if status >= 500 or status == 429 or code in _PASSING:
        return SecretUnavailable(f"cannot look up {what}: AWS answers HTTP {status} {code}".rstrip())
    why = _WORDS.get(code) or (f"AWS says {code}" if code else f"HTTP {status}; is that the address of the service?")
    return SecretMissing(f"cannot look up {what}: {why}")
