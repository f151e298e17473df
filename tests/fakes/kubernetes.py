"""Real API servers of Kubernetes on 127.0.0.1: etcd and kube-apiserver (the whole core API), apiextensions-apiserver
(custom resources only, with today's rules for their schemas), and ``cluster``: both as one, behind one address. No
kubelet, no controllers.

The kube-apiserver of the archive dies of the first custom resource that it keeps itself. In ``cluster`` it aggregates:
it authenticates, authorizes and forwards what belongs to ``apiextensions.k8s.io`` and ``remit.dev`` to the other
server, which asks it for namespaces, webhooks and leave, as any aggregated API server does.

Their programs come from KUBEBUILDER_ASSETS, else from the archive that stands beside the checkout. Where neither is,
tests skip and say why; with REMIT_NO_SKIP they fail.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.fakes.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
ADMIN = "admin-token-of-a-test"
_UP_S = 120.0
_PLUGINS = (
    "MutatingAdmissionPolicy,MutatingAdmissionWebhook,NamespaceLifecycle,"
    "ValidatingAdmissionPolicy,ValidatingAdmissionWebhook"
)


def assets() -> Path:
    """The folder with etcd, kube-apiserver, apiextensions-apiserver and kubectl. Skips where they cannot be had."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given:
        return Path(given)
    for folder in (ROOT, *ROOT.parents):
        script = folder / "shared" / "envtest" / "envtest"
        if script.exists():
            done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=True, timeout=600)
            return Path(done.stdout.strip().partition("=")[2])
    why = "no Kubernetes API server: set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl"
    if os.environ.get("REMIT_NO_SKIP"):
        pytest.fail(why)
    pytest.skip(why)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of a test, and what it signs for."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "ca.crt"

    def pair(self, name: str, *groups: str, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """(certificate, key) for a user of these groups, or for a server of these hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name),
                             *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups)])  # fmt: skip
        authority = x509.load_pem_x509_certificate(self.file.read_bytes())
        signer = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _certificate(subject, authority.subject, key.public_key()).add_extension(
            x509.ExtendedKeyUsage(usage), critical=False
        )
        if hosts:
            names: list[x509.GeneralName] = [
                x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
                for host in hosts
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        return _write(self.folder, name, certificate, key)


def make_authority(folder: Path) -> Authority:
    """A new one, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test-ca")])
    certificate = (
        _certificate(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, "ca", certificate, key)
    return Authority(folder)


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251  certificates of real servers
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
    )


def _write(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    file = folder / name.replace(":", "-")
    pem = serialization.Encoding.PEM
    file.with_suffix(".crt").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    file.with_suffix(".key").write_bytes(private)
    return file.with_suffix(".crt"), file.with_suffix(".key")


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server that answers. ``users`` are names with their tokens: ADMIN may do everything."""

    folder: Path
    url: str
    programs: Path
    authority: Authority

    def kubeconfig(self, token: str = ADMIN) -> Path:
        """A kubeconfig for whoever has the token."""
        return _kubeconfig(self.folder / f"kubeconfig-{token}", self.url, self.authority, {"token": token})

    def kubectl(self, *words: str, token: str = ADMIN, stdin: str = "", check: bool = True) -> str:
        """What kubectl prints, errors included."""
        done = subprocess.run(
            [str(self.programs / "kubectl"), "--kubeconfig", str(self.kubeconfig(token)), *words],
            input=stdin, capture_output=True, text=True, timeout=120,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def _kubeconfig(path: Path, url: str, authority: Authority, user: dict[str, str]) -> Path:
    server = {"server": url, "certificate-authority": str(authority.file)}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": server}],
                "users": [{"name": "me", "user": user}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
            }
        )
    )
    return path


@contextlib.contextmanager
def etcd(folder: Path) -> Iterator[str]:
    """The address of an etcd."""
    client, peer = free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    command = [
        str(assets() / "etcd"), "--data-dir", str(folder / "etcd"), "--listen-client-urls", url,
        "--advertise-client-urls", url, "--listen-peer-urls", f"http://127.0.0.1:{peer}",
        "--unsafe-no-fsync", "--log-level", "error",
    ]  # fmt: skip
    with _running(command, folder / "etcd.log") as process:
        _until(f"{url}/health", process, folder / "etcd.log")
        yield url


@contextlib.contextmanager
def kube_apiserver(
    folder: Path, users: dict[str, tuple[str, ...]] | None = None, options: Sequence[str] = ()
) -> Iterator[Cluster]:
    """A kube-apiserver with RBAC. ``users`` are tokens with (user, groups...), beside ADMIN; ``options`` are for it."""
    with etcd(folder) as store:
        authority, command, port = _kube_command(folder, store, users or {})
        with _running([*command, *options], folder / "apiserver.log") as process:
            yield _answering(folder, authority, port, process)


def _kube_command(folder: Path, store: str, users: dict[str, tuple[str, ...]]) -> tuple[Authority, list[str], int]:
    """(authority, command line, port) of a kube-apiserver over an etcd."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = make_authority(folder / "pki")
    rows = {ADMIN: ("admin", "system:masters"), **users}
    tokens = folder / "tokens.csv"
    tokens.write_text(
        "".join(f'{token},{user},{user},"{",".join(groups)}"\n' for token, (user, *groups) in rows.items())
    )
    certificate, key = authority.pair("apiserver", hosts=("127.0.0.1", "localhost"))
    port = free_port()
    command = [
        str(assets() / "kube-apiserver"), "--etcd-servers", store, "--bind-address", "127.0.0.1",
        "--advertise-address", "127.0.0.1", "--secure-port", str(port), "--token-auth-file", str(tokens),
        "--tls-cert-file", str(certificate), "--tls-private-key-file", str(key),
        "--client-ca-file", str(authority.file), "--authorization-mode", "RBAC",
        "--service-cluster-ip-range", "10.0.0.0/24", "--service-account-issuer", "https://test",
        "--service-account-key-file", str(key), "--service-account-signing-key-file", str(key),
        "--disable-admission-plugins", "ServiceAccount", "--cert-dir", str(folder / "pki"),
    ]  # fmt: skip
    return authority, command, port


def _answering(folder: Path, authority: Authority, port: int, process: subprocess.Popen[bytes]) -> Cluster:
    url = f"https://127.0.0.1:{port}"
    _until(f"{url}/readyz", process, folder / "apiserver.log", verify=_trusting(authority), token=ADMIN)
    return Cluster(folder, url, assets(), authority)


@dataclass(slots=True)
class Servers:
    """A kube-apiserver with custom resources. ``restart`` kills it and starts it anew on the same port."""

    cluster: Cluster
    _command: list[str]
    _process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """kill -9 the kube-apiserver; what is behind it runs on."""
        _kill(self._process)

    def start(self) -> None:
        """Start it anew; returns when it answers, also for custom resources."""
        folder = self.cluster.folder
        self._process = _started(self._command, folder / "apiserver.log")
        trusted = _trusting(self.cluster.authority)
        for path in ("/readyz", "/apis/remit.dev/v1alpha1"):
            _until(f"{self.cluster.url}{path}", self._process, folder / "apiserver.log", verify=trusted, token=ADMIN)

    def restart(self) -> None:
        """``kill`` and ``start``."""
        self.kill()
        self.start()


@contextlib.contextmanager
def cluster(
    folder: Path, users: dict[str, tuple[str, ...]] | None = None, options: Sequence[str] = ()
) -> Iterator[Servers]:
    """One address for everything: core API, RBAC, webhooks, custom resources. Remit's CRDs are installed.

    ``users`` and ``options`` as for ``kube_apiserver``. kubectl's own check of CRDs is that of Kubernetes 1.20, which
    does not know ``x-kubernetes-validations``: apply CRDs with ``--validate=false``; the server checks them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    front = make_authority(folder / "front")
    proxy, proxy_key = front.pair("front-proxy")
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(etcd(folder))
        authority, command, port = _kube_command(folder, store, users or {})
        command += [
            "--requestheader-client-ca-file", str(front.file), "--requestheader-allowed-names", "front-proxy",
            "--requestheader-username-headers", "X-Remote-User", "--requestheader-group-headers", "X-Remote-Group",
            "--requestheader-extra-headers-prefix", "X-Remote-Extra-",
            "--proxy-client-cert-file", str(proxy), "--proxy-client-key-file", str(proxy_key), *options,
        ]  # fmt: skip
        process = _started(command, folder / "apiserver.log")
        servers = Servers(Cluster(folder, f"https://127.0.0.1:{port}", assets(), authority), command, process)
        stack.callback(servers.kill)
        kube = _answering(folder, authority, port, process)
        behind, its_port = _extensions_of(kube, store)
        stack.enter_context(_running(behind, folder / "extensions.log"))
        _aggregate(kube, its_port)
        # On a busy machine one server may ask the other too late who this is; applying again changes nothing.
        for left in reversed(range(_APPLIES)):
            said = kube.kubectl(
                "apply", "--server-side", "--validate=false", "-k", str(ROOT / "manifests" / "crds"), check=not left
            )
            if "Unauthorized" not in said:
                break
        kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        _until(f"{kube.url}/apis/remit.dev/v1alpha1", process, folder / "extensions.log",
               verify=_trusting(authority), token=ADMIN)  # fmt: skip
        yield servers


_APPLIES = 5


def _extensions_of(kube: Cluster, store: str) -> tuple[list[str], int]:
    """(command line, port) of an apiextensions-apiserver that leans on a kube-apiserver."""
    certificate, key = kube.authority.pair("extensions", hosts=("127.0.0.1", "localhost"))
    port = free_port()
    config = str(kube.kubeconfig())
    return [
        str(assets() / "apiextensions-apiserver"), "--etcd-servers", store, "--etcd-prefix", "/extensions",
        "--bind-address", "127.0.0.1", "--secure-port", str(port), "--tls-cert-file", str(certificate),
        "--tls-private-key-file", str(key), "--client-ca-file", str(kube.authority.file), "--kubeconfig", config,
        "--authentication-kubeconfig", config, "--authorization-kubeconfig", config,
        "--disable-admission-plugins", "MutatingAdmissionPolicy,ValidatingAdmissionPolicy",
        "--enable-priority-and-fairness=false",
    ], port  # fmt: skip


def _aggregate(kube: Cluster, port: int) -> None:
    """Forward the groups of custom resources to the server on ``port``."""
    where = {"name": "extensions", "namespace": "kube-system"}
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    documents: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": service}]
    for group, version in (("apiextensions.k8s.io", "v1"), ("remit.dev", "v1alpha1")):
        documents.append({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{version}.{group}"},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 15,
                "insecureSkipTLSVerify": True, "service": {**where, "port": port},
            },
        })  # fmt: skip
    # Not by server-side apply: that of Kubernetes 1.20 fails on APIServices.
    kube.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


@dataclass(frozen=True, slots=True)
class Extensions:
    """An apiextensions-apiserver: custom resources and nothing else."""

    url: str
    client: httpx2.Client

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """(status, document)."""
        answer = self.client.request(method, f"{self.url}{path}", json=body, headers=headers)
        return answer.status_code, json.loads(answer.content)


@contextlib.contextmanager
def apiextensions_server(folder: Path) -> Iterator[Extensions]:
    """The server and a client that may do everything."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = make_authority(folder / "pki")
    certificate, key = authority.pair("apiserver", hosts=("127.0.0.1",))
    mine = authority.pair("admin", "system:masters")
    port = free_port()
    user = {"client-certificate": str(mine[0]), "client-key": str(mine[1])}
    itself = _kubeconfig(folder / "itself", f"https://127.0.0.1:{port}", authority, user)
    with etcd(folder) as store:
        command = [
            str(assets() / "apiextensions-apiserver"), "--etcd-servers", store, "--bind-address", "127.0.0.1",
            "--secure-port", str(port), "--tls-cert-file", str(certificate), "--tls-private-key-file", str(key),
            "--client-ca-file", str(authority.file), "--authentication-skip-lookup",
            "--disable-admission-plugins", _PLUGINS, "--enable-priority-and-fairness=false",
            "--kubeconfig", str(itself),
            "--authentication-kubeconfig", str(itself), "--authorization-kubeconfig", str(itself),
        ]  # fmt: skip
        with _running(command, folder / "extensions.log") as process:
            url = f"https://127.0.0.1:{port}"
            context = _trusting(authority)
            context.load_cert_chain(*map(str, mine))
            # Not /readyz: it waits for Services, of which this server knows nothing.
            crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            _until(f"{url}{crds}", process, folder / "extensions.log", verify=context)
            with httpx2.Client(verify=context, timeout=30, trust_env=False) as client:
                yield Extensions(url, client)


def _trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = _started(command, log)
    try:
        yield process
    finally:
        _kill(process)


def _started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent, start_new_session=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def _until(
    url: str, process: subprocess.Popen[bytes], log: Path, *, verify: ssl.SSLContext | bool = True, token: str = ""
) -> None:
    """Wait until the server answers 200."""
    ends = time.monotonic() + _UP_S
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx2.Client(verify=verify, trust_env=False, timeout=5) as client:
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                if client.get(url, headers=headers).status_code == 200:
                    return
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < ends, log.read_text()[-3000:]
            pause()


def pause() -> None:
    """Between two looks at a server, which lives in real time."""
    time.sleep(0.1)  # noqa: TID251


def has_kubectl() -> bool:
    """Whether kubectl is there at all."""
    return shutil.which("kubectl") is not None
