"""What a cluster has beside its API server, as far as Jobs take it: a stand-in for the Job controller, the garbage
collector and one kubelet. **It is none of them**: there are no containers, no images and no isolation.

For each Job it makes the one pod, and runs the first container's command as a process on this machine, with the
declared environment (values, ``$$``, ``secretKeyRef``) and nothing else but PATH. Files of Secret volumes are written
to a folder of the test; in values of the environment the mount path is replaced by that folder, because there is no
mount. It reports phases, container statuses and exit codes, ends what is over its ``activeDeadlineSeconds``, deletes
what a Job owns before the Job where that is asked for, and serves logs over HTTPS, as the API server asks for them at
the node's address. Images whose name begins with ``missing`` cannot be pulled. A process that ends by a SIGKILL which
nobody here sent counts as ended by the kernel for want of memory: OOMKilled.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import datetime
import http.server
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
import traceback
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.fakes.kubernetes import ADMIN, Cluster

FLAGS = ("--feature-gates", "TTLAfterFinished=true")
"""What a kube-apiserver 1.20 takes to keep ``ttlSecondsAfterFinished``."""
_LOOK_S = 0.25
_FOREGROUND = "foregroundDeletion"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251  a real server's clock


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    log: Path
    began: str
    killed: bool = False


@dataclass
class Kubelet:
    """Use ``kubelet``. ``held`` are names of missions whose Jobs are left alone for now."""

    cluster: Cluster
    folder: Path
    client: httpx2.Client
    node: str = "here"
    held: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    followed: int = 0
    """How often somebody listened to a pod."""
    _processes: dict[str, _Process] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)

    # Asking.

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """(status, document)."""
        answer = self.client.request(method, f"{self.cluster.url}{path}", json=body, headers=headers)
        return answer.status_code, answer.json()

    def _merge(self, path: str, patch: Any) -> tuple[int, dict[str, Any]]:
        return self.send("PATCH", path, patch, **{"Content-Type": "application/merge-patch+json"})

    def jobs(self) -> list[dict[str, Any]]:
        """Every Job."""
        return list(self.send("GET", "/apis/batch/v1/jobs")[1]["items"])

    def pods(self) -> list[dict[str, Any]]:
        """Every pod."""
        return list(self.send("GET", "/api/v1/pods")[1]["items"])

    def secrets(self, namespace: str) -> list[dict[str, Any]]:
        """The Secrets of a namespace."""
        return list(self.send("GET", f"/api/v1/namespaces/{namespace}/secrets")[1]["items"])

    # Living.

    def run(self) -> None:
        """Look at everything over and over, until it is told to stop."""
        while not self._stopping.wait(_LOOK_S):
            try:
                self._round()
            except httpx2.HTTPError:
                continue  # the API server is away
            except Exception:  # a test looks at what went wrong in this thread
                self.errors.append(traceback.format_exc())

    def stop(self) -> None:
        """End every process."""
        self._stopping.set()
        for held in self._processes.values():
            _end(held, 0.0)

    def _round(self) -> None:
        pods = self.pods()
        by_job: dict[str, list[dict[str, Any]]] = {}
        for pod in pods:
            for reference in pod["metadata"].get("ownerReferences", ()):
                by_job.setdefault(reference["uid"], []).append(pod)
        for job in self.jobs():
            if job["metadata"]["labels"].get("remit.dev/mission") not in self.held:
                self._job(job, by_job.get(job["metadata"]["uid"], []))
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName") == self.node:
                self._pod(pod)

    # The Job controller and the garbage collector.

    def _job(self, job: dict[str, Any], pods: list[dict[str, Any]]) -> None:
        metadata, spec, status = job["metadata"], job["spec"], job.get("status") or {}
        path = f"/apis/batch/v1/namespaces/{metadata['namespace']}/jobs/{metadata['name']}"
        finished = any(c["type"] in ("Complete", "Failed") for c in status.get("conditions") or ())
        if "deletionTimestamp" in metadata:
            if _FOREGROUND in metadata.get("finalizers", ()):
                self._remove(pods)
                self._remove_secrets(metadata)
                left = [name for name in metadata["finalizers"] if name != _FOREGROUND]
                self._merge(path, {"metadata": {"finalizers": left}})
            return
        if finished:
            self._outlived(path, spec, status)
            return
        if not pods:
            if status.get("startTime"):
                self._end_job(path, status, "Failed", "BackoffLimitExceeded", "its pod is gone")
                return
            self._make_pod(job)
            self._merge(f"{path}/status", {"status": {"startTime": _now(), "active": 1}})
            return
        held = self._processes.get(pods[0]["metadata"]["uid"])
        # From when the program began, so that no test depends on how fast this machine is.
        began = datetime.datetime.fromisoformat(held.began) if held is not None else None
        limit = spec.get("activeDeadlineSeconds")
        now = datetime.datetime.now(datetime.UTC)  # noqa: TID251  a real server's clock
        if began is not None and limit and (now - began).total_seconds() > limit:
            self._remove(pods)
            self._end_job(path, status, "Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
            return
        phase = pods[0].get("status", {}).get("phase")
        if phase == "Succeeded":
            self._end_job(path, status, "Complete", "", "")
        elif phase == "Failed":
            self._end_job(path, status, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    def _end_job(self, path: str, status: dict[str, Any], type_: str, reason: str, message: str) -> None:
        condition = {
            "type": type_, "status": "True", "reason": reason, "message": message, "lastProbeTime": _now(),
            "lastTransitionTime": _now(),
        }  # fmt: skip
        made: dict[str, Any] = {"active": 0, "conditions": [condition], "startTime": status.get("startTime", _now())}
        made |= {"succeeded": 1, "completionTime": _now()} if type_ == "Complete" else {"failed": 1}
        self._merge(f"{path}/status", {"status": made})

    def _outlived(self, path: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
        ttl = spec.get("ttlSecondsAfterFinished")
        ends = max(c["lastTransitionTime"] for c in status["conditions"])
        now = datetime.datetime.now(datetime.UTC)  # noqa: TID251  a real server's clock
        if ttl is not None and (now - datetime.datetime.fromisoformat(ends)).total_seconds() > ttl:
            self.send("DELETE", path, {"propagationPolicy": "Foreground"})

    def _make_pod(self, job: dict[str, Any]) -> None:
        template, metadata = copy.deepcopy(job["spec"]["template"]), job["metadata"]
        reference = {
            "apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"],
            "controller": True, "blockOwnerDeletion": True,
        }  # fmt: skip
        # The name is fixed, so that a look at an old list makes no second one.
        labels = {**template["metadata"].get("labels", {}), "job-name": metadata["name"]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{metadata['name']}-0", "labels": labels, "ownerReferences": [reference]},
            "spec": {**template["spec"], "nodeName": self.node},
        }
        status, answer = self.send("POST", f"/api/v1/namespaces/{metadata['namespace']}/pods", pod)
        assert status in (201, 409), answer

    def _remove(self, pods: list[dict[str, Any]]) -> None:
        for pod in pods:
            metadata = pod["metadata"]
            held = self._processes.get(metadata["uid"])
            if held is not None:
                _end(held, float(pod["spec"].get("terminationGracePeriodSeconds", 30)))
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            self.send("DELETE", path, {"gracePeriodSeconds": 0})

    def _remove_secrets(self, job: dict[str, Any]) -> None:
        for secret in self.secrets(job["namespace"]):
            references = secret["metadata"].get("ownerReferences", ())
            if any(reference["uid"] == job["uid"] for reference in references):
                self.send("DELETE", f"/api/v1/namespaces/{job['namespace']}/secrets/{secret['metadata']['name']}")

    # The kubelet.

    def _pod(self, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        held = self._processes.get(uid)
        if held is None:
            container = pod["spec"]["containers"][0]
            if container["image"].startswith("missing"):
                waiting = {"reason": "ImagePullBackOff", "message": f"Back-off pulling image {container['image']}"}
                self._report(pod, "Pending", {"waiting": waiting})
                return
            self._start(pod, container)
            return
        code = held.process.poll()
        if code is None:
            if pod.get("status", {}).get("phase") != "Running":
                self._report(pod, "Running", {"running": {"startedAt": held.began}})
            return
        killed = code == -signal.SIGKILL and not held.killed
        ended = {
            "exitCode": code if code >= 0 else 128 - code, "startedAt": held.began, "finishedAt": _now(),
            "reason": "OOMKilled" if killed else ("Completed" if code == 0 else "Error"),
        }  # fmt: skip
        self._report(pod, "Succeeded" if code == 0 else "Failed", {"terminated": ended})

    def _report(self, pod: dict[str, Any], phase: str, state: dict[str, Any]) -> None:
        metadata, container = pod["metadata"], pod["spec"]["containers"][0]
        status = {
            "name": container["name"], "image": container["image"], "imageID": "", "ready": "running" in state,
            "restartCount": 0, "state": state,
        }  # fmt: skip
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        wanted = {"phase": phase, "startTime": _now(), "hostIP": "127.0.0.1", "containerStatuses": [status]}
        if {**pod.get("status", {}), "startTime": ""} != {**pod.get("status", {}), **wanted, "startTime": ""}:
            self._merge(path, {"status": wanted})

    def _start(self, pod: dict[str, Any], container: dict[str, Any]) -> None:
        place = self.folder / pod["metadata"]["uid"]
        place.mkdir(exist_ok=True)
        mounts = self._mount(pod, container, place)
        environment = self._environment(pod, container)
        if mounts is None or environment is None:
            waiting = {"reason": "CreateContainerConfigError", "message": "a Secret is not there"}
            self._report(pod, "Pending", {"waiting": waiting})
            return
        for path, folder in mounts.items():
            for name, value in environment.items():
                environment[name] = value.replace(path, str(folder))
        log = place / "log"
        command = [*container.get("command", ()), *container.get("args", ())]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=place,
                env={"PATH": os.environ.get("PATH", os.defpath), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._processes[pod["metadata"]["uid"]] = _Process(process, log, _now())

    def _mount(self, pod: dict[str, Any], container: dict[str, Any], place: Path) -> dict[str, Path] | None:
        found = {}
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            secret = volumes[mount["name"]].get("secret")
            if secret is None:
                continue
            data = self._secret(pod, secret["secretName"])
            if data is None:
                return None
            folder = place / mount["name"]
            folder.mkdir(exist_ok=True)
            for item in secret.get("items") or [{"key": key, "path": key} for key in data]:
                (folder / item["path"]).write_bytes(base64.b64decode(data[item["key"]]))
            found[mount["mountPath"]] = folder
        return found

    def _environment(self, pod: dict[str, Any], container: dict[str, Any]) -> dict[str, str] | None:
        made = {}
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                made[variable["name"]] = variable.get("value", "").replace("$$", "$")
                continue
            data = self._secret(pod, reference["name"])
            if data is None or reference["key"] not in data:
                return None
            made[variable["name"]] = base64.b64decode(data[reference["key"]]).decode()
        return made

    def _secret(self, pod: dict[str, Any], name: str) -> dict[str, str] | None:
        status, answer = self.send("GET", f"/api/v1/namespaces/{pod['metadata']['namespace']}/secrets/{name}")
        return dict(answer["data"]) if status == 200 else None

    def spoken(self, namespace: str, name: str, most: int) -> Iterator[bytes]:
        """What a pod prints, as it comes, until it ends."""
        uids = {(p["metadata"]["namespace"], p["metadata"]["name"]): p["metadata"]["uid"] for p in self.pods()}
        held = self._processes.get(uids.get((namespace, name), ""))
        if held is None:
            return
        self.followed += 1
        with held.log.open("rb") as file:
            while most > 0:
                over = held.process.poll() is not None
                data = file.read(min(most, 65536))
                most -= len(data)
                if data:
                    yield data
                elif over or self._stopping.wait(0.05):
                    return

    def log(self, namespace: str, name: str, *, tail: int | None = None, most: int | None = None) -> bytes | None:
        """What a pod printed."""
        for pod in self.pods():
            if (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (namespace, name):
                held = self._processes.get(pod["metadata"]["uid"])
                data = held.log.read_bytes() if held is not None else b""
                if tail is not None:
                    data = b"".join(data.splitlines(keepends=True)[-tail:])
                return data if most is None else data[:most]
        return None


def _end(held: _Process, grace_s: float) -> None:
    """SIGTERM, and SIGKILL after at most two seconds: tests are not to wait for graces."""
    held.killed = True
    with contextlib.suppress(ProcessLookupError):
        os.killpg(held.process.pid, signal.SIGTERM if grace_s else signal.SIGKILL)
    try:
        held.process.wait(timeout=min(grace_s, 2.0))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(held.process.pid, signal.SIGKILL)
        held.process.wait()


@contextlib.contextmanager
def kubelet(cluster: Cluster) -> Iterator[Kubelet]:
    """One that works for this cluster, as its only node."""
    certificate, key = cluster.authority.pair("kubelet", hosts=("127.0.0.1",))
    folder = cluster.folder / "kubelet"
    folder.mkdir(exist_ok=True)
    trusted = ssl.create_default_context(cafile=str(cluster.authority.file))
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with httpx2.Client(verify=trusted, trust_env=False, timeout=30, headers=headers) as client:
        made = Kubelet(cluster, folder, client)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urllib.parse.urlsplit(self.path)
                asked = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
                words = parts.path.strip("/").split("/")
                found = None
                if len(words) == 4 and words[0] == "containerLogs" and asked.get("follow") == "true":
                    self.send_response(200)
                    self.end_headers()
                    with contextlib.suppress(OSError):  # whoever listened went away
                        for part in made.spoken(words[1], words[2], int(asked.get("limitBytes", 1 << 30))):
                            self.wfile.write(part)
                    return
                if len(words) == 4 and words[0] == "containerLogs":
                    tail, most = asked.get("tailLines"), asked.get("limitBytes")
                    found = made.log(
                        words[1], words[2], tail=int(tail) if tail else None, most=int(most) if most else None
                    )
                self.send_response(404 if found is None else 200)
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, format: str, *args: Any) -> None:
                """Tests print nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(certificate), str(key))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threads = [threading.Thread(target=server.serve_forever, args=(0.05,)), threading.Thread(target=made.run)]
        _join(made, server.server_port)
        for thread in threads:
            thread.start()
        try:
            yield made
        finally:
            made.stop()
            server.shutdown()
            for thread in threads:
                thread.join()
            server.server_close()
            shutil.rmtree(folder, ignore_errors=True)
    assert made.errors == []


def _join(made: Kubelet, port: int) -> None:
    """Make the Node, at the address where logs are served."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": made.node}}
    status, answer = made.send("POST", "/api/v1/nodes", node)
    assert status in (201, 409), answer
    where = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Here", "message": ""}],
    }
    status, answer = made._merge(f"/api/v1/nodes/{made.node}/status", {"status": where})
    assert status == 200, answer


def until_gone(made: Kubelet, seconds: float = 60.0) -> None:
    """Wait until no Job is left."""
    ends = time.monotonic() + seconds
    while made.jobs():
        assert time.monotonic() < ends, made.jobs()
        time.sleep(0.1)  # noqa: TID251  a real server takes real time
