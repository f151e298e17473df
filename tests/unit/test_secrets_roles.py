"""Roles of machines and containers on AWS, and Secrets of a cluster, against stand-ins on this machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from controllers.runtime.clock import SystemClock
from controllers.secrets.aws_role import CONTAINER, INSTANCE, RoleCredentials
from controllers.secrets.source import SecretMissing, SecretUnavailable
from schemas.secrets_config import AwsRole, SecretsConfig
from tests.fakes.secrets import ACCESS_KEY, SECRET_KEY, FakeService, aws, keeper, private, reference, service

VALUE = "pa55word-of-the-role"
SESSION = "session-of-the-role-0001"


def credentials(**fields: Any) -> bytes:
    end = SystemClock().now() + timedelta(hours=6)
    found = {
        "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": SESSION,
        "Expiration": f"{end:%Y-%m-%dT%H:%M:%SZ}", **fields,
    }  # fmt: skip
    return json.dumps({k: v for k, v in found.items() if v is not None}).encode()


def config(fake: FakeService, role: str, address: str) -> dict[str, Any]:
    return {
        "awsSecretsManager": {"region": "eu-central-1", "endpoint": fake.url, "role": role, "roleAddress": address},
        "cache": "0s",
    }


def test_the_role_of_a_machine_is_asked_for_in_a_session_and_used_again(tmp_path: Path) -> None:
    answers = [(200, b"session-token-1"), (200, b"remit-engine\n"), (200, credentials())]
    with service(answers=answers) as machine, service(secrets={"acme/db": VALUE}, session=SESSION) as fake:
        secrets = keeper(tmp_path, config(fake, "Instance", machine.url))
        assert secrets.resolve(aws("acme/db"), tmp_path) == VALUE
        assert secrets.resolve(aws("acme/db"), tmp_path) == VALUE
        assert machine.methods == ["PUT", "GET", "GET"]
        (put, first), (listing, second), (role, third) = machine.requests
        assert put == "/latest/api/token"
        assert first["x-aws-ec2-metadata-token-ttl-seconds"] == "300"
        assert listing == "/latest/meta-data/iam/security-credentials/"
        assert role == f"{listing}remit-engine"
        assert second["x-aws-ec2-metadata-token"] == third["x-aws-ec2-metadata-token"] == "session-token-1"


def test_the_role_of_a_container_is_asked_for_with_its_token(tmp_path: Path) -> None:
    private(tmp_path / "token", "Bearer of-the-pod\n")
    with service(answers=[(200, credentials())]) as host, service(secrets={"a": VALUE}, session=SESSION) as fake:
        variables = {
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/42",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "token",
        }
        secrets = keeper(tmp_path, config(fake, "Container", host.url), variables=variables)
        assert secrets.resolve(aws("a"), tmp_path) == VALUE
        ((path, headers),) = host.requests
        assert (path, headers["authorization"]) == ("/v2/credentials/42", "Bearer of-the-pod")


@pytest.mark.parametrize("url", ["http://evil.example/creds", "http://10.0.0.1/", "ftp://127.0.0.1/", "http://[", ""])
def test_the_role_of_a_container_is_not_asked_for_elsewhere(tmp_path: Path, url: str) -> None:
    variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
    with pytest.raises(SecretMissing, match="has no role of AWS"):
        role(tmp_path, AwsRole.CONTAINER, None, variables=variables).get("it")


def test_the_address_in_the_environment_is_used_where_it_is_on_this_machine(tmp_path: Path) -> None:
    with service(answers=[(200, credentials())]) as host:
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{host.url}/v1/credentials"}
        assert role(tmp_path, AwsRole.CONTAINER, None, variables=variables).get("it").session == SESSION


def role(
    project: Path,
    kind: AwsRole,
    address: str | None,
    *,
    now: Callable[[], datetime] | None = None,
    variables: dict[str, str] | None = None,
) -> RoleCredentials:
    clock = SystemClock()
    return RoleCredentials(kind, address, project, now or clock.now, clock.monotonic, variables or {})


def test_credentials_of_a_role_are_fetched_anew_before_they_end(tmp_path: Path) -> None:
    start = datetime(2026, 11, 21, 9, tzinfo=UTC)
    moments = [start]
    short = credentials(Expiration="2026-11-21T09:12:00Z")
    once = [(200, b"t"), (200, b"r"), (200, short)]
    with service(answers=[*once, *once]) as machine:
        found = role(tmp_path, AwsRole.INSTANCE, machine.url, now=lambda: moments[-1])
        found.get("it")
        moments.append(start + timedelta(minutes=6))
        found.get("it")
        assert len(machine.requests) == 3
        moments.append(start + timedelta(minutes=8))
        found.get("it")
        assert len(machine.requests) == 6
    assert SESSION not in repr(found)
    assert SECRET_KEY not in repr(found)


@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        ([(404, b"")], SecretMissing, "Instance answers HTTP 404"),
        ([(503, b"")], SecretUnavailable, "Instance answers HTTP 503"),
        ([(200, b"t"), (200, b"../../x")], SecretMissing, "the machine has no role"),
        ([(200, b"not a header\r\n")], SecretUnavailable, "gives no session"),
        ([(200, b"t"), (200, b"r"), (200, b"{}")], SecretUnavailable, "holds no credentials"),
        ([(200, b"t"), (200, b"r"), (200, b"<html>")], SecretUnavailable, "holds no credentials"),
    ],
)
def test_a_role_that_cannot_be_had_is_told(
    tmp_path: Path, answers: list[tuple[int, bytes]], error: type[Exception], text: str
) -> None:
    with service(answers=answers) as machine, pytest.raises(error, match=text):
        role(tmp_path, AwsRole.INSTANCE, machine.url).get("it")


@pytest.mark.parametrize(
    "wire",
    [
        {"role": "Instance", "credentialsFile": "keys"},
        {"roleAddress": "http://127.0.0.1:1"},
        {"role": "Instance", "roleAddress": "http://evil.example"},
        {"role": "Instance", "roleAddress": "http://169.254.169.254.evil.example"},
        {"role": "Machine"},
    ],
)
def test_a_role_is_configured_in_one_way_and_asked_for_near_by(wire: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SecretsConfig.model_validate({"awsSecretsManager": {"region": "eu-central-1", **wire}})


@pytest.mark.parametrize("address", [INSTANCE, CONTAINER, "http://[fd00:ec2::254]"])
def test_the_usual_addresses_may_be_written_down(address: str) -> None:
    wire = {"region": "eu-central-1", "role": "Instance", "roleAddress": address}
    SecretsConfig.model_validate({"awsSecretsManager": wire})


# Kubernetes.

CLUSTER = reference(kubernetesSecret={"name": "deploy", "key": "token"})


def cluster_keeper(project: Path, fake: FakeService, **more: Any) -> Any:
    private(project / "account/token", "token-of-the-pod\n")
    cluster = {"address": fake.url, "tokenFile": "account/token", **more}
    grants = [{"namespaces": ["acme"], "kubernetesSecret": ["dep*"]}]
    return keeper(project, {"kubernetesSecret": cluster, "cache": "0s", "grants": grants})


def secret(**data: bytes) -> bytes:
    coded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return json.dumps({"kind": "Secret", "apiVersion": "v1", "data": coded}).encode()


def test_a_secret_of_the_cluster_is_read_as_the_pod_in_the_namespace_of_who_refers_to_it(tmp_path: Path) -> None:
    with service(answers=[(200, secret(token=VALUE.encode()))] * 3) as fake:
        secrets = cluster_keeper(tmp_path, fake, namespaces={"default": "remit-system"})
        assert secrets.resolve(CLUSTER, tmp_path) == VALUE
        assert secrets.of("acme").resolve(CLUSTER, tmp_path) == VALUE
        assert secrets.of("acme", "default").resolve(CLUSTER, tmp_path) == VALUE
        assert [path for path, _ in fake.requests] == [
            "/api/v1/namespaces/remit-system/secrets/deploy",
            "/api/v1/namespaces/acme/secrets/deploy",
            "/api/v1/namespaces/acme/secrets/deploy",
        ]
        assert {headers["authorization"] for _, headers in fake.requests} == {"Bearer token-of-the-pod"}


def test_a_namespace_sees_only_the_secrets_that_it_is_granted(tmp_path: Path) -> None:
    with service() as fake:
        secrets = cluster_keeper(tmp_path, fake)
        other = reference(kubernetesSecret={"name": "other", "key": "token"})
        for user, wanted in (("acme", other), ("beta", CLUSTER)):
            with pytest.raises(SecretMissing, match="may not use"):
                secrets.of(user).resolve(wanted, tmp_path)
        assert fake.requests == []


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (401, b"", SecretMissing, "service account is not accepted"),
        (403, b"", SecretMissing, "needs a Role with get on secrets"),
        (404, b"", SecretMissing, "there is no such Secret"),
        (429, b"", SecretUnavailable, "HTTP 429"),
        (302, b"", SecretMissing, "is that the address"),
        (200, b"[]", SecretMissing, "not a Secret"),
        (200, b'{"kind": "Status"}', SecretMissing, "not a Secret"),
        (200, b'{"kind": "Secret"}', SecretMissing, "has no such key"),
        (200, secret(token=b"\xff\x00"), SecretMissing, "binary"),
        (200, secret(token=b"x" * 70_000), SecretMissing, "larger than"),
        (200, b'{"kind": "Secret", "data": {"token": "not base64!"}}', SecretMissing, "binary"),
    ],
)
def test_what_the_cluster_says_otherwise_is_told_and_never_shown(
    tmp_path: Path, status: int, body: bytes, error: type[Exception], text: str
) -> None:
    with service(answers=[(status, body)]) as fake, pytest.raises(error, match=text) as caught:
        cluster_keeper(tmp_path, fake).resolve(CLUSTER, tmp_path)
    assert "deploy" in str(caught.value)
    assert "token-of-the-pod" not in str(caught.value)


def test_without_a_token_the_cluster_is_not_asked(tmp_path: Path) -> None:
    with service() as fake:
        secrets = cluster_keeper(tmp_path, fake)
        (tmp_path / "account/token").unlink()
        with pytest.raises(SecretMissing, match=r"kubernetesSecret\.tokenFile: cannot read the file"):
            secrets.resolve(CLUSTER, tmp_path)
        assert fake.requests == []
