"""The admission port: certificate, path, what is no review, and what the engine keeps in the cluster."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.admission import MOST_BODY, create_admission_app
from api.server import HttpServer
from controllers.admission import certificate, registration
from controllers.admission.port import CLIENT_CONFIG, Port
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from controllers.runtime.lifecycle import Lifecycle
from controllers.web.kubernetes import ClusterFault
from schemas.admission import AdmissionRequest, answered
from schemas.admission_config import AdmissionConfig, Registration
from schemas.errors import Retry

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HOSTS = ("127.0.0.1", "remit-admission.remit-system.svc")
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "q", "operation": "CREATE", "userInfo": {"username": "ada"}, "object": {"kind": "X"}},
}


def client_of(knows: Callable[[str], bool], rule: Any = None) -> httpx2.AsyncClient:
    async def yes(request: AdmissionRequest) -> dict[str, Any]:
        return answered(request.uid, allowed=True)

    transport = httpx2.ASGITransport(app=create_admission_app(rule or yes, knows), raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="https://127.0.0.1:8443")


@pytest.mark.asyncio
async def test_reviews_are_taken_at_the_path_that_was_told_and_nothing_else_is() -> None:
    async with client_of(lambda token: token == "secret") as client:
        answer = await client.post("/admit/secret", json=REVIEW)
        assert answer.json()["response"] == {"uid": "q", "allowed": True}
        assert (await client.post("/admit/other", json=REVIEW)).status_code == 404
        assert (await client.post("/admit", json=REVIEW)).status_code == 404
        assert (await client.get("/admit/secret")).status_code == 405
        assert (await client.post("/admit/secret", json={**REVIEW, "apiVersion": "v2"})).status_code == 400
        assert (await client.post("/admit/secret", content=b"{")).status_code == 400
        assert (await client.post("/admit/secret", content=b" " * (MOST_BODY + 1))).status_code == 413
        assert (await client.get("/healthz")).text == "ok"


@pytest.mark.asyncio
async def test_a_fault_of_ours_reads_as_no() -> None:
    async def broken(request: AdmissionRequest) -> dict[str, Any]:
        raise RuntimeError("no")

    async with client_of(lambda token: True, broken) as client:
        assert (await client.post("/admit/x", json=REVIEW)).status_code == 500


def test_a_made_certificate_is_kept_renewed_and_private(tmp_path: Path) -> None:
    pair = certificate.make(HOSTS, NOW)
    certificate.keep(tmp_path, pair)
    assert certificate.kept(tmp_path) == pair
    assert stat.S_IMODE((tmp_path / "admission.key").stat().st_mode) == 0o600
    assert certificate.usable(pair, HOSTS, NOW)
    assert not certificate.usable(pair, (*HOSTS, "other"), NOW)
    assert not certificate.usable(pair, HOSTS, NOW + certificate.LIFE - certificate.RENEW + timedelta(days=1))
    assert certificate.make(HOSTS, NOW).path != pair.path
    assert not certificate.usable(certificate.Pair(b"nothing", b""), HOSTS, NOW)


@pytest.mark.asyncio
async def test_the_port_is_served_by_tls_and_follows_a_new_certificate(tmp_path: Path) -> None:
    clock, blocking = SystemClock(), ThreadBlocking(1)
    files = {"certificate_file": "tls.crt", "key_file": "tls.key"}
    config = AdmissionConfig(listen="127.0.0.1:0", **files)

    def put(pair: certificate.Pair) -> None:
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "tls.key").write_bytes(pair.key)

    old, new = certificate.make(HOSTS, clock.now()), certificate.make(HOSTS, clock.now())
    put(old)
    port = Port(config, project=tmp_path, keys=tmp_path, clock=clock, blocking=blocking)
    port.open()

    async def yes(request: AdmissionRequest) -> dict[str, Any]:
        return answered(request.uid, allowed=True)

    server = HttpServer(create_admission_app(yes, port.knows), "127.0.0.1", 0, tls=port.context)
    server.bind()
    life = Lifecycle()
    serving = asyncio.create_task(server.run(life))
    await life.is_ready.wait()
    try:
        for pair in (old, new):
            put(pair)
            port._look(server.url)
            said = json.loads((tmp_path / CLIENT_CONFIG).read_text())
            assert base64.b64decode(said["caBundle"]) == pair.certificate
            trust = ssl.create_default_context(cadata=pair.certificate.decode())
            async with httpx2.AsyncClient(verify=trust, trust_env=False) as client:
                assert (await client.post(said["url"], json=REVIEW)).json()["response"]["allowed"] is True
                # What the API server knows may be a moment old.
                assert (await client.post(f"{server.url}/admit/{old.path}", json=REVIEW)).status_code == 200
        (tmp_path / "tls.crt").write_text("half of it")
        port._look(server.url)
        assert port.knows(new.path)
    finally:
        life.stopping.set()
        await serving
        blocking.close()


class ApiServer:
    """A cluster that holds a Secret and a configuration of webhooks. ``conflicts`` are refused writes to come."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.conflicts = 0
        self.writes = 0

    def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None,
        kind: str = "application/json", timeout_s: float = 1.0,
    ) -> dict[str, Any]:  # fmt: skip
        if path not in self.objects:
            raise ClusterFault("not found", status=404)
        if method == "PUT":
            if self.conflicts:
                self.conflicts -= 1
                raise ClusterFault("conflict", status=409)
            self.writes += 1
            self.objects[path] = json.loads(json.dumps(body))
        found = json.loads(json.dumps(self.objects[path]))
        assert isinstance(found, dict)
        return found


SECRET = "/api/v1/namespaces/remit-system/secrets/remit-admission"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/remit"


def test_engines_of_one_store_share_a_certificate_and_register_it_once() -> None:
    server, config, place = ApiServer(), Registration(), "remit-system"
    with pytest.raises(Retry, match=r"get the Secret remit-system/remit-admission: there is none"):
        registration.shared_pair(server, place, config, HOSTS, lambda: NOW)
    server.objects[SECRET] = {"kind": "Secret", "metadata": {"resourceVersion": "1"}}
    server.objects[WEBHOOKS] = {
        "webhooks": [{"name": "a", "clientConfig": {"service": {"name": "s"}}},
                     {"name": "b", "clientConfig": {"url": "https://127.0.0.1:8443/old"}}],
    }  # fmt: skip
    server.conflicts = 1
    pair = registration.shared_pair(server, place, config, HOSTS, lambda: NOW)
    assert registration.shared_pair(server, place, config, HOSTS, lambda: NOW) == pair
    assert registration.register(server, config, pair, "/admit/x")
    assert not registration.register(server, config, pair, "/admit/x")
    assert server.writes == 2
    first, second = (each["clientConfig"] for each in server.objects[WEBHOOKS]["webhooks"])
    assert (first["service"]["path"], second["url"]) == ("/admit/x", "https://127.0.0.1:8443/admit/x")
    assert base64.b64decode(first["caBundle"]) == pair.certificate
    late = NOW + certificate.LIFE
    assert registration.shared_pair(server, place, config, HOSTS, lambda: late) != pair
    server.conflicts = 9
    with pytest.raises(Retry, match="is being written by others"):
        registration.register(server, config, pair, "/admit/y")
