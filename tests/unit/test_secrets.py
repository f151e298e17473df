"""References to values: who may use which, where they lie, and what is said when there is none."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic
import pytest

from controllers.secrets import http
from controllers.secrets.sigv4 import Credentials, signed
from controllers.secrets.source import SecretMissing, SecretUnavailable
from schemas.secret import ValueFrom
from schemas.secrets_config import SecretsConfig
from tests.fakes.secrets import (
    ACCESS_KEY,
    SECRET_KEY,
    VAULT_TOKEN,
    FakeService,
    Hand,
    aws,
    keeper,
    private,
    reference,
    service,
    vault,
)

VALUE = "s3cret-value-of-a-test"
AWS_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


def vault_config(fake: FakeService, **more: Any) -> dict[str, Any]:
    return {"vault": {"address": fake.url, **more}}


def aws_config(fake: FakeService, **more: Any) -> dict[str, Any]:
    return {"awsSecretsManager": {"region": "eu-central-1", "endpoint": fake.url, **more}}


def refused(tmp_path: Path, ref: ValueFrom, *, config: dict[str, Any] | None = None, of: str = "default") -> str:
    with pytest.raises(SecretMissing) as error:
        keeper(tmp_path, config).of(of).resolve(ref, tmp_path)
    assert VALUE not in str(error.value)
    return str(error.value)


# Files.


def test_a_private_file_is_read_and_a_file_that_others_may_read_is_not(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets/key", f"{VALUE}\n")
    assert keeper(tmp_path).resolve(reference(file="secrets/key"), tmp_path) == VALUE
    for mode in (0o640, 0o604, 0o602, 0o644):
        path.chmod(mode)
        assert "chmod 600 secrets/key" in refused(tmp_path, reference(file="secrets/key"))


def test_a_mounted_file_may_be_readable_and_never_writable_by_others(tmp_path: Path) -> None:
    project, mount = tmp_path / "project", tmp_path / "mount"
    project.mkdir()
    path = private(mount / "..data/key", VALUE)
    (mount / "key").symlink_to("..data/key")
    path.chmod(0o644)
    secrets = keeper(project, {"folders": [str(mount)]})
    assert secrets.resolve(reference(file=str(mount / "key")), project) == VALUE
    path.chmod(0o666)
    with pytest.raises(SecretMissing, match="chmod 600"):
        secrets.resolve(reference(file=str(mount / "key")), project)


@pytest.mark.parametrize("name", ["../out", "way/../../out", "link", "folder/out", "absolute", "loop"])
def test_no_name_and_no_link_leads_out_of_the_project(tmp_path: Path, name: str) -> None:
    project = tmp_path / "project"
    (project / "way").mkdir(parents=True)
    private(tmp_path / "out", VALUE)
    (project / "link").symlink_to("../out")
    (project / "absolute").symlink_to(tmp_path / "out")
    (project / "folder").symlink_to("..")
    (project / "loop").symlink_to("loop")
    said = refused(project, reference(file=name))
    assert "leads out" in said or "symbolic link" in said
    assert "outside of the project" in refused(project, reference(file=str(tmp_path / "out")))


def test_a_link_within_the_project_is_followed_for_operators_only(tmp_path: Path) -> None:
    private(tmp_path / "secrets/other", VALUE)
    (tmp_path / "secrets/acme").mkdir()
    (tmp_path / "secrets/acme/mine").symlink_to("../other")
    ref = reference(file="secrets/acme/mine")
    assert keeper(tmp_path).resolve(ref, tmp_path) == VALUE
    config = {"grants": [{"namespaces": ["acme"], "files": ["secrets/acme/**"]}]}
    assert "symbolic link" in refused(tmp_path, ref, config=config, of="acme")


def test_what_is_no_file_of_its_own_is_no_secret(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    private(tmp_path / "one", VALUE)
    os.link(tmp_path / "one", tmp_path / "two")
    private(tmp_path / "huge", VALUE * 5000)
    private(tmp_path / "empty", "\n")
    private(tmp_path / ".remit/keys/run.key", VALUE)
    assert "not a regular file" in refused(tmp_path, reference(file="pipe"))
    assert "not a regular file" in refused(tmp_path, reference(file="."))
    assert "hard link" in refused(tmp_path, reference(file="two"))
    assert "larger than" in refused(tmp_path, reference(file="huge"))
    assert "is empty" in refused(tmp_path, reference(file="empty"))
    assert "belongs to the engine" in refused(tmp_path, reference(file=".remit/keys/run.key"))
    (tmp_path / "to-key").symlink_to(".remit/keys/run.key")
    assert "belongs to the engine" in refused(tmp_path, reference(file="to-key"))


def test_a_file_that_is_changed_gives_the_new_value_at_once(tmp_path: Path) -> None:
    secrets = keeper(tmp_path)
    private(tmp_path / "key", VALUE)
    assert secrets.resolve(reference(file="key"), tmp_path) == VALUE
    private(tmp_path / "key", "an0ther-value-2")
    assert secrets.resolve(reference(file="key"), tmp_path) == "an0ther-value-2"
    assert secrets.known.text(f"{VALUE} an0ther-value-2", "default") == "[redacted] [redacted]"


# Walls.


def test_the_engines_own_variables_are_handed_to_nobody(tmp_path: Path) -> None:
    names = ["REMIT_STORE", "REMIT_WORKER_TOKEN", "VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
    config = {"grants": [{"namespaces": ["default"], "env": ["**"]}]}
    for name in names:
        with pytest.raises(SecretMissing, match="engine's own"):
            keeper(tmp_path, config, variables={name: VALUE}).resolve(reference(env=name), tmp_path)


GRANTS = {
    "folders": ["/run/secrets"],
    "grants": [
        {"namespaces": ["acme"], "env": ["ACME_*"], "files": ["secrets/acme/**", "/run/secrets/acme/*"],
         "vault": ["secret/acme/**"], "awsSecretsManager": ["acme/*"]},
        {"namespaces": ["acme", "beta"], "env": ["SHARED"]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("namespace", "ref", "allowed"),
    [
        ("acme", reference(env="ACME_KEY"), True),
        ("acme", reference(env="SHARED"), True),
        ("beta", reference(env="SHARED"), True),
        ("beta", reference(env="ACME_KEY"), False),
        ("gamma", reference(env="SHARED"), False),
        ("default", reference(env="ANYTHING"), True),
        ("acme", reference(env="BETA_KEY"), False),
        ("acme", reference(file="secrets/acme/key"), True),
        ("acme", reference(file="secrets/acme/../beta/key"), False),
        ("acme", reference(file="secrets/beta/key"), False),
        ("acme", reference(file="/run/secrets/acme/key"), True),
        ("acme", reference(file="run/secrets/acme/key"), False),
        ("acme", reference(file="/run/secrets/beta/key"), False),
        ("acme", vault("acme/db", "password"), True),
        ("acme", vault("beta/db", "password"), False),
        ("acme", reference(vault={"path": "acme/db", "key": "k", "mount": "other"}), False),
        ("acme", aws("acme/db"), True),
        ("acme", aws("beta/db"), False),
    ],
)
def test_a_tenant_uses_what_was_granted_to_it_and_nothing_else(
    tmp_path: Path, namespace: str, ref: ValueFrom, allowed: bool
) -> None:
    said = ""
    try:
        keeper(tmp_path, GRANTS, variables=dict.fromkeys(["ACME_KEY", "SHARED", "ANYTHING", "BETA_KEY"], VALUE)).of(
            namespace
        ).resolve(ref, tmp_path)
    except SecretMissing as error:
        said = str(error)
    assert ("may not use" in said) is not allowed


def test_a_secret_must_be_granted_to_the_executor_and_to_the_run(tmp_path: Path) -> None:
    secrets = keeper(tmp_path, GRANTS, variables={"ACME_KEY": VALUE, "SHARED": VALUE})
    assert secrets.of("default", "acme").resolve(reference(env="ACME_KEY"), tmp_path) == VALUE
    with pytest.raises(SecretMissing, match="the namespace beta may not use the variable ACME_KEY"):
        secrets.of("acme", "beta").resolve(reference(env="ACME_KEY"), tmp_path)
    with pytest.raises(SecretMissing, match="the namespace beta may not use"):
        secrets.of("beta").check(reference(env="ACME_KEY"), tmp_path)


# Vault.


def test_a_field_of_vault_is_fetched_with_the_engines_token_and_used_again_for_a_while(tmp_path: Path) -> None:
    clock = Hand()
    with service(secrets={"secret/data/acme/db": {"password": VALUE}}) as fake:
        config = vault_config(fake, namespace="team") | {"cache": "30s"}
        secrets = keeper(tmp_path, config, variables={"VAULT_TOKEN": VAULT_TOKEN}, monotonic=clock)
        assert [secrets.resolve(vault("acme/db", "password"), tmp_path) for _ in range(3)] == [VALUE] * 3
        assert len(fake.requests) == 1
        path, headers = fake.requests[0]
        assert (path, headers["x-vault-namespace"]) == ("/v1/secret/data/acme/db", "team")
        fake.secrets["secret/data/acme/db"] = {"password": "r0tated-value-2"}
        clock.now += 31
        assert secrets.resolve(vault("acme/db", "password"), tmp_path) == "r0tated-value-2"
    assert secrets.known.text(f"{VALUE} r0tated-value-2", "default") == "[redacted] [redacted]", (
        "the old one may still be about"
    )
    assert VALUE not in repr(secrets)
    assert VAULT_TOKEN not in repr(secrets)


def test_the_token_of_vault_is_read_anew_for_each_request(tmp_path: Path) -> None:
    clock = Hand()
    with service(secrets={"secret/data/a": {"k": VALUE}}, token="hvs.second") as fake:
        secrets = keeper(tmp_path, vault_config(fake, tokenFile="keys/vault"), monotonic=clock)
        private(tmp_path / "keys/vault", "hvs.first\n")
        with pytest.raises(SecretMissing, match="token is not accepted"):
            secrets.resolve(vault("a", "k"), tmp_path)
        private(tmp_path / "keys/vault", "hvs.second\n")
        clock.now += 3
        assert secrets.resolve(vault("a", "k"), tmp_path) == VALUE


@pytest.mark.parametrize(
    ("status", "body", "said", "passing"),
    [
        (503, b'{"errors":["Vault is sealed"]}', "Vault is sealed", True),
        (429, b"", "HTTP 429", True),
        (500, b"s3cret-value-of-a-test", "HTTP 500", True),
        (403, b'{"errors":["s3cret-value-of-a-test"]}', "may not read", False),
        (404, b"{}", "no such secret", False),
        (307, b"", "HTTP 307", False),
        (200, b"<html>s3cret-value-of-a-test", "not one of a key-value engine", False),
        (200, b"[" * 100_000, "not one of a key-value engine", False),
        (200, b'{"data": {"k": "v1 engine"}}', "not one of a key-value engine", False),
        (200, b'{"data": {"data": {"other": "s3cret-value-of-a-test"}}}', "no field of that name", False),
        (200, b'{"data": {"data": {"k": 5}}}', "not a text", False),
        (200, b'{"data": {"data": {"k": "' + b"x" * 70_000 + b'"}}}', "larger than", False),
        (200, b"x" * 300_000, "larger than", False),
    ],
)
def test_what_vault_says_otherwise_is_told_and_never_shown(
    tmp_path: Path, status: int, body: bytes, said: str, passing: bool
) -> None:
    with service(answers=[(status, body)], location="http://127.0.0.1:1/elsewhere") as fake:
        secrets = keeper(tmp_path, vault_config(fake), variables={"VAULT_TOKEN": VAULT_TOKEN})
        with pytest.raises((SecretMissing, SecretUnavailable)) as error:
            secrets.resolve(vault("acme/db", "k"), tmp_path)
        assert len(fake.requests) == 1, "no redirect is followed"
    assert said in str(error.value)
    assert "secret/acme/db" in str(error.value)
    assert VALUE not in str(error.value)
    assert isinstance(error.value, SecretUnavailable) is passing


def test_a_service_that_drips_or_is_gone_is_given_up_and_left_alone_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "WHOLE_S", 0.2)
    clock = Hand()
    with service(secrets={"secret/data/a": {"k": VALUE}}, drip_s=0.05) as fake:
        config = vault_config(fake)
        with pytest.raises(SecretUnavailable, match="no whole answer"):
            keeper(tmp_path, config, variables={"VAULT_TOKEN": VAULT_TOKEN}).resolve(vault("a", "k"), tmp_path)
    secrets = keeper(tmp_path, config, variables={"VAULT_TOKEN": VAULT_TOKEN}, monotonic=clock)
    for _ in range(2):
        with pytest.raises(SecretUnavailable, match="cannot look up the field k of secret/a in Vault: ConnectError"):
            secrets.resolve(vault("a", "k"), tmp_path)


def test_without_a_token_or_a_configuration_nothing_is_asked(tmp_path: Path) -> None:
    with service() as fake:
        assert "no token for Vault" in refused(tmp_path, vault("a", "k"), config=vault_config(fake))
        assert "secrets.vault of remit.yaml" in refused(tmp_path, vault("a", "k"))
        assert "secrets.awsSecretsManager of remit.yaml" in refused(tmp_path, aws("a"))
        assert "no credentials for AWS" in refused(tmp_path, aws("a"), config=aws_config(fake))
        cluster = reference(kubernetesSecret={"name": "a", "key": "k"})
        assert "secrets.kubernetesSecret of remit.yaml" in refused(tmp_path, cluster)
        keeper(tmp_path, vault_config(fake)).check(vault("a", "k"), tmp_path)
        assert fake.requests == [], "a check asks no service"


# AWS.


def test_the_signature_is_that_of_the_published_example() -> None:
    moment = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    headers = signed(
        "GET", "example.amazonaws.com", "/", {}, b"", credentials=Credentials(ACCESS_KEY, SECRET_KEY),
        region="us-east-1", service="service", now=moment,
    )  # fmt: skip
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )
    assert SECRET_KEY not in repr(Credentials(ACCESS_KEY, SECRET_KEY))


def test_a_secret_of_aws_is_fetched_whole_or_by_field_and_rotation_is_seen(tmp_path: Path) -> None:
    clock = Hand()
    with service(secrets={"acme/db": '{"password": "s3cret-value-of-a-test"}'}) as fake:
        secrets = keeper(tmp_path, aws_config(fake), variables=AWS_ENVIRONMENT, monotonic=clock)
        assert secrets.resolve(aws("acme/db", "password"), tmp_path) == VALUE
        assert VALUE in secrets.resolve(aws("acme/db"), tmp_path)
        fake.secrets["acme/db"] = '{"password": "r0tated-value-2"}'
        clock.now += 31
        assert secrets.resolve(aws("acme/db", "password"), tmp_path) == "r0tated-value-2"


def test_credentials_of_aws_may_stand_in_a_file(tmp_path: Path) -> None:
    text = f"[default]\naws_access_key_id = wrong\n[remit]\naws_access_key_id = {ACCESS_KEY}\n"
    private(tmp_path / "keys/aws", f"{text}aws_secret_access_key = {SECRET_KEY}\n")
    with service(secrets={"a": VALUE}) as fake:
        config = aws_config(fake, credentialsFile="keys/aws", profile="remit")
        assert keeper(tmp_path, config).resolve(aws("a"), tmp_path) == VALUE
        private(tmp_path / "keys/aws", f"{SECRET_KEY} is no profile")
        with pytest.raises(SecretMissing, match="has no profile remit") as error:
            keeper(tmp_path, config).resolve(aws("a"), tmp_path)
    assert SECRET_KEY not in str(error.value)


@pytest.mark.parametrize(
    ("status", "body", "said", "passing"),
    [
        (400, b'{"__type":"AccessDeniedException","Message":"s3cret-value-of-a-test"}', "may not read", False),
        (400, b'{"__type":"ResourceNotFoundException"}', "no such secret", False),
        (400, b'{"__type":"ThrottlingException"}', "ThrottlingException", True),
        (400, b'{"__type":"s3cret-value-of-a-test"}', "HTTP 400", False),
        (500, b"<html>", "HTTP 500", True),
        (200, b"null", "not one of Secrets Manager", False),
        (200, b'{"SecretBinary": "czNjcmV0"}', "binary", False),
        (200, b'{"SecretString": "no json"}', "not a JSON object", False),
    ],
)
def test_what_aws_says_otherwise_is_told_and_never_shown(
    tmp_path: Path, status: int, body: bytes, said: str, passing: bool
) -> None:
    with service(answers=[(status, body)]) as fake:
        secrets = keeper(tmp_path, aws_config(fake), variables=AWS_ENVIRONMENT)
        with pytest.raises((SecretMissing, SecretUnavailable)) as error:
            secrets.resolve(aws("acme/db", "k"), tmp_path)
    assert said in str(error.value)
    assert VALUE not in str(error.value)
    assert isinstance(error.value, SecretUnavailable) is passing


# What a spec and a configuration may say.


@pytest.mark.parametrize(
    "wire",
    [
        {"vault": {"path": "../sys/seal", "key": "k"}},
        {"vault": {"path": "a?list=true", "key": "k"}},
        {"vault": {"path": "a#b", "key": "k"}},
        {"vault": {"path": "a/%2e%2e/b", "key": "k"}},
        {"vault": {"path": "/a", "key": "k"}},
        {"vault": {"path": "a", "key": "k", "mount": "../sys"}},
        {"vault": {"path": "a", "key": "k", "address": "https://evil.example"}},
        {"awsSecretsManager": {"secretId": "a b"}},
        {"awsSecretsManager": {"secretId": "a", "region": "us-east-1"}},
        {"file": "a\nb"},
    ],
)
def test_a_reference_cannot_lead_a_token_elsewhere(wire: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        ValueFrom.model_validate(wire)


@pytest.mark.parametrize(
    "config",
    [
        {"vault": {"address": "http://vault.example:8200"}},
        {"vault": {"address": "https://user:pass@vault.example"}},
        {"vault": {"address": "https://vault.example/?x=1"}},
        {"vault": {"address": "http://127.0.0.1.evil.example"}},
        {"vault": {"address": "https://vault.example:99999"}},
        {"awsSecretsManager": {"region": "evil.example/"}},
        {"awsSecretsManager": {"region": "eu-central-1", "endpoint": "http://evil.example"}},
        {"folders": ["relative"]},
        {"folders": ["/a/../b"]},
    ],
)
def test_a_configuration_that_would_send_a_token_in_the_clear_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        SecretsConfig.model_validate(config)
