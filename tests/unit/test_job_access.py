"""How a cluster is reached, and what its answers mean."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.dispatch.environment import LocalSecrets, SecretMissing
from controllers.dispatch.jobs.access import Accesses, ClusterProblem, from_kubeconfig
from controllers.dispatch.jobs.cluster import Said, meaning
from controllers.web.reply import Fate, Reply
from schemas.executor import KubernetesJob
from schemas.secrets_config import KubernetesConfig
from tests.fakes.kubernetes import make_authority
from tests.fakes.secrets import private

TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i"}]}}


def declared(**job: Any) -> KubernetesJob:
    return KubernetesJob.model_validate({"podTemplate": TEMPLATE, **job})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_authority(tmp_path_factory.mktemp("pki"))


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any]) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}], "users": [{"name": "u", "user": user}],
        }
    )  # fmt: skip


def coded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_a_token_or_a_certificate_proves_who_asks(authority: Any) -> None:
    cluster = {"server": "https://k.example:6443/", "certificate-authority-data": coded(authority.file)}
    access = from_kubeconfig(kubeconfig(cluster, {"token": "abc"}))
    assert (access.server, access.headers()) == ("https://k.example:6443", {"Authorization": "Bearer abc"})
    certificate, key = authority.pair("me")
    shown = {"client-certificate-data": coded(certificate), "client-key-data": coded(key)}
    assert from_kubeconfig(kubeconfig(cluster, shown)).headers() == {}


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({"server": "https://k"}, {"exec": {"command": "sh"}}, "are not started"),
        ({"server": "https://k"}, {"tokenFile": "/etc/shadow"}, "names a file in tokenFile"),
        ({"server": "https://k", "certificate-authority": "/x"}, {"token": "t"}, "names a file"),
        ({"server": "https://k", "insecure-skip-tls-verify": True}, {"token": "t"}, "certificate-authority-data"),
        ({"server": "http://k"}, {"token": "t"}, "https://"),
        ({"server": "https://k"}, {}, "neither token nor"),
        ({"server": "https://k"}, {"token": "a b"}, "is none"),
        ({"server": "https://k", "certificate-authority-data": "?"}, {"token": "t"}, "no base64"),
    ],
)
def test_what_a_kubeconfig_may_not_do_is_refused(cluster: dict[str, Any], user: dict[str, Any], words: str) -> None:
    with pytest.raises(ClusterProblem, match=words):
        from_kubeconfig(kubeconfig(cluster, user))


@pytest.mark.parametrize("text", ["", "- 1", "{", "a: &a [*a]", "contexts: 3"])
def test_what_is_no_kubeconfig_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ClusterProblem):
        from_kubeconfig(text)


def test_the_engines_own_account_is_lent_for_the_executors_namespace_only(tmp_path: Path) -> None:
    config = KubernetesConfig(namespaces={"team": "team-agents"})
    accesses = Accesses(LocalSecrets({}), config, tmp_path)
    assert accesses.namespace("acme", declared()) == "acme"
    assert accesses.namespace("team", declared()) == "team-agents"
    with pytest.raises(ClusterProblem, match="go to acme"):
        accesses.namespace("acme", declared(namespace="kube-system"))
    assert accesses.namespace("acme", declared(namespace="other", kubeconfig={"env": "K"})) == "other"


def test_a_token_of_the_pod_is_read_anew_each_time(tmp_path: Path, authority: Any) -> None:
    token = private(tmp_path / "token", "first")
    config = KubernetesConfig(address="https://k", token_file=str(token), ca_file=str(authority.file))
    accesses = Accesses(LocalSecrets({}), config, tmp_path)
    access = accesses.of(("acme",), declared())
    assert access.headers() == {"Authorization": "Bearer first"}
    private(token, "second")
    assert access.headers() == {"Authorization": "Bearer second"}


def test_a_probe_says_what_is_missing(tmp_path: Path, authority: Any) -> None:
    cluster = {"server": "https://k", "certificate-authority-data": coded(authority.file)}
    texts = {"GOOD": kubeconfig(cluster, {"token": "t"}), "BAD": kubeconfig(cluster, {"exec": {"command": "x"}})}
    config = KubernetesConfig(ca_file=str(tmp_path / "none"))
    accesses = Accesses(LocalSecrets(texts), config, tmp_path)
    assert accesses.check("default", declared(kubeconfig={"env": "GOOD"})) == ""
    assert "not started" in accesses.check("default", declared(kubeconfig={"env": "BAD"}))
    assert "no context" in accesses.check("default", declared(kubeconfig={"env": "GOOD"}, context="x"))
    assert "run it in the cluster" in accesses.check("default", declared())
    with pytest.raises(SecretMissing):
        accesses.check("default", declared(kubeconfig={"env": "NONE"}))


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (200, "", Said.DONE), (201, "", Said.DONE), (404, "", Said.MISSING), (409, "exists", Said.CONFLICT),
        (401, "", Said.BUSY), (429, "", Said.BUSY), (403, 'pods "x" exceeded quota: q', Said.BUSY),
        (403, "User cannot create", Said.REFUSED), (422, "", Said.REFUSED), (400, "", Said.REFUSED),
        (410, "too old", Said.UNSURE), (500, "", Said.UNSURE), (503, "", Said.UNSURE), (408, "", Said.UNSURE),
    ],
)  # fmt: skip
def test_each_answer_has_a_meaning(status: int, message: str, said: Said) -> None:
    data = json.dumps({"kind": "Status", "message": message}).encode()
    answer = meaning(Reply(Fate.ANSWERED, 1, status=status, data=data, retry_after_s=900.0))
    assert answer.said is said
    if said is Said.BUSY and status != 200:
        assert answer.after_s == 300.0, "nobody may ask for a longer pause"


def test_silence_is_no_answer() -> None:
    assert meaning(Reply(Fate.NOT_SENT, 1, "no connection")).said is Said.BUSY
    assert meaning(Reply(Fate.UNCERTAIN, 1, "it broke")).said is Said.UNSURE
    assert meaning(Reply(Fate.ANSWERED, 1, status=200, data=b"<html>")).said is Said.UNSURE
    assert meaning(Reply(Fate.ANSWERED, 1, status=200, data=b"a log"), raw=True).data == b"a log"
