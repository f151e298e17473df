"""Credentials of AWS that a machine or a container has by its role. Asked for only where the configuration says so.

Source: "Use instance metadata to get credentials" (version 2 of the metadata service, with a session token) in the EC2
User Guide, and "Container credential provider" in the AWS SDKs and Tools Reference.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from controllers.secrets import http
from controllers.secrets.files import SecretFiles
from controllers.secrets.sigv4 import Credentials
from controllers.secrets.source import SecretMissing, SecretUnavailable
from schemas.quantities import parse_time
from schemas.secrets_config import AwsRole

INSTANCE = "http://169.254.169.254"
CONTAINER = "http://169.254.170.2"
_CONTAINER_HOSTS = {"127.0.0.1", "localhost", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"}
"""Where containers have their credentials: of this machine and of AWS. Elsewhere only by https."""
_SESSION_S = 300
_ROLE = re.compile(r"[A-Za-z0-9+=,.@_-]{1,128}")
BEFORE_END = timedelta(minutes=5)
"""Credentials are fetched anew so long before they end."""
AT_MOST = timedelta(minutes=15)
"""And at the latest after this, so that a role that was taken away is noticed."""


@dataclass(slots=True)
class RoleCredentials:
    """``address`` is where to ask instead of the usual place; ``variables`` is the engine's environment.
    Thread-safe."""

    role: AwsRole
    address: str | None
    project: Path
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    variables: Mapping[str, str] = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _known: Credentials | None = field(default=None, repr=False)
    _until: datetime | None = None

    def get(self, what: str) -> Credentials:
        """The credentials that hold now. ``what`` names the reference. Raises SecretMissing, SecretUnavailable."""
        with self._lock:
            if self._known is None or self._until is None or self.now() >= self._until:
                self._known = None
                data = self._instance(what) if self.role is AwsRole.INSTANCE else self._container(what)
                self._known, self._until = self._taken(data, what)
            return self._known

    def _instance(self, what: str) -> bytes:
        """A session first: without one a request that was forged elsewhere could read the credentials too."""
        base = (self.address or INSTANCE).rstrip("/")
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_SESSION_S)}
        token = self._ask("PUT", f"{base}/latest/api/token", lifetime, what).decode("ascii", "replace").strip()
        if not http.credential(token):
            raise SecretUnavailable(f"cannot look up {what}: the metadata service of the machine gives no session")
        session = {"X-aws-ec2-metadata-token": token}
        place = f"{base}/latest/meta-data/iam/security-credentials/"
        role = self._ask("GET", place, session, what).decode("ascii", "replace").strip()
        if _ROLE.fullmatch(role) is None:
            raise SecretMissing(f"cannot look up {what}: the machine has no role of AWS")
        return self._ask("GET", place + role, session, what)

    def _container(self, what: str) -> bytes:
        full, relative = (
            self.variables.get(f"AWS_CONTAINER_CREDENTIALS_{name}_URI", "") for name in ("FULL", "RELATIVE")
        )
        base = (self.address or CONTAINER).rstrip("/")
        url = base + relative if relative.startswith("/") else full
        if not url or not _may_be_asked(url):
            raise SecretMissing(
                f"cannot look up {what}: the engine's container has no role of AWS"
                " (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI)"
            )
        token = self._token(what)
        return self._ask("GET", url, {"Authorization": token} if token else {}, what)

    def _token(self, what: str) -> str:
        name = self.variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "")
        if name:
            file = self.project / name
            try:
                token = SecretFiles(folders=(file.parent,)).read(str(file), self.project).strip()
            except SecretMissing as error:
                text = f"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: {error}"
                raise SecretMissing(f"cannot look up {what}: {text}") from None
        else:
            token = self.variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "").strip()
        if token and not (token.isascii() and token.isprintable()):
            raise SecretMissing(f"cannot look up {what}: the token for the role of the container is none")
        return token

    def _ask(self, method: str, url: str, headers: Mapping[str, str], what: str) -> bytes:
        status, data = http.ask(method, url, headers, None, what=what, monotonic=self.monotonic)
        if status == 200:
            return data
        text = f"cannot look up {what}: asked for its role, {self.role} answers HTTP {status}"
        raise SecretMissing(text) if status in (400, 401, 403, 404) else SecretUnavailable(text)

    def _taken(self, data: bytes, what: str) -> tuple[Credentials, datetime]:
        answer = http.as_object(data) or {}
        values = [answer.get(name) for name in ("AccessKeyId", "SecretAccessKey", "Token")]
        key, secret, session = (value if isinstance(value, str) else "" for value in values)
        try:
            end = parse_time(str(answer.get("Expiration", "")))
        except ValueError:
            end = self.now() + AT_MOST
        if not http.credential(key) or not http.credential(secret) or (session and not http.credential(session)):
            raise SecretUnavailable(f"cannot look up {what}: the answer of the role holds no credentials")
        return Credentials(key, secret, session), min(end - BEFORE_END, self.now() + AT_MOST)


def _may_be_asked(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _CONTAINER_HOSTS)
