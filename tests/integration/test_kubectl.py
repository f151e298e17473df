"""Stock kubectl reads Remit, without a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.read_api import LONG_S, StoreClock, listening, read_app
from tests.fakes.world import EXECUTOR, World, agent, mission

KUBECTL = shutil.which("kubectl")
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl (apt-get install kubernetes-client)"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    world.commit(
        {
            "executor.yaml": EXECUTOR,
            "agent.yaml": agent(),
            "one.yaml": mission("one", labels="team: docs"),
            "two.yaml": mission("two", agent=None, labels="team: ops"),
            "tenant.yaml": "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: acme}\nspec: {}\n",
        }
    )
    world.sync()
    yield world
    world.close()


class Kubectl:
    """kubectl against one server, with a home of its own."""

    def __init__(self, url: str, home: Path) -> None:
        self._url = url
        self._home = home

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        assert KUBECTL is not None
        return await asyncio.create_subprocess_exec(
            KUBECTL, "--server", self._url, *arguments,
            env={"HOME": str(self._home), "PATH": os.environ["PATH"], "KUBECONFIG": str(self._home / "none")},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def fails(self, *arguments: str) -> str:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), LONG_S)
        assert process.returncode != 0, out
        return err.decode()

    async def __call__(self, *arguments: str) -> str:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), LONG_S)
        assert process.returncode == 0, err.decode()
        return out.decode()


async def test_kubectl_reads_everything(world: World, tmp_path: Path) -> None:
    async with listening(read_app(world.store, StoreClock(world.clock))) as server:
        kubectl = Kubectl(server.url, tmp_path)

        listed = await kubectl("get", "missions", "-A")
        assert [line.split()[:2] for line in listed.splitlines()] == [
            ["NAMESPACE", "NAME"], ["default", "one"], ["default", "two"],
        ]  # fmt: skip
        assert "STATE" in listed.splitlines()[0]
        assert len((await kubectl("get", "mi", "-o", "wide")).splitlines()[0]) > len(listed.splitlines()[0]) - 11
        whole = json.loads(await kubectl("get", "mission", "one", "-o", "json"))
        assert whole["spec"]["title"] == "do one"
        assert "kind: MissionList" not in await kubectl("get", "missions", "-o", "yaml")
        assert (await kubectl("get", "missions", "-l", "team in (docs,legal)", "-o", "name")).split() == [
            "mission.remit.dev/one"
        ]
        assert (await kubectl("get", "mi", "--field-selector", "status.state=Inbox", "-o", "name")).split() == [
            "mission.remit.dev/two"
        ]
        assert len((await kubectl("get", "missions", "--chunk-size=1", "-o", "name")).split()) == 2
        assert "acme" in await kubectl("get", "tenants")
        assert "NotFound" in await kubectl.fails("get", "mission", "none")
        assert 'doesn\'t have a resource type "wishes"' in await kubectl.fails("get", "wishes")

        described = await kubectl("describe", "mission", "one")
        assert "do one" in described
        assert "Transitioned" in described.partition("Events:")[2]
        listed = await kubectl("get", "events", "-o", "name")
        assert "event-" in await kubectl("get", listed.split()[0])

        explained = await kubectl("explain", "mission.spec.retry")
        assert "FIELDS:" in explained
        assert "missions" in await kubectl("api-resources")

        told = await kubectl("wait", "--for=condition=Ready", "agent/worker", "--timeout=30s")
        assert "condition met" in told
        assert "default" in await kubectl("get", "namespaces")
        for verb in (["delete", "mission", "one"], ["label", "mission", "one", "a=b"]):
            assert "NotAllowed" in await kubectl.fails(*verb)


async def test_kubectl_watches(world: World, tmp_path: Path) -> None:
    app = read_app(world.store, StoreClock(world.clock))
    async with listening(app) as server:
        kubectl = Kubectl(server.url, tmp_path)
        watching = await kubectl.start("get", "missions", "-A", "-w")
        waiting = await kubectl.start("wait", "--for=jsonpath={.status.state}=Canceled", "mission/two", "--timeout=50s")
        events = await kubectl.start("get", "events", "-w", "--watch-only")
        assert watching.stdout is not None
        assert events.stdout is not None
        async with asyncio.timeout(LONG_S):
            while app.state.kube.watches < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # noqa: TID251 - three processes take their time
        world.commit({"three.yaml": mission("three", agent=None)})
        world.sync()
        while b"three" not in (line := await asyncio.wait_for(watching.stdout.readline(), LONG_S)):
            assert line
        while b"mission/three" not in (line := await asyncio.wait_for(events.stdout.readline(), LONG_S)):
            assert line
        world.commit({"two.yaml": mission("two", agent=None, desiredState="Canceled", labels="team: ops")})
        world.sync()
        out, _ = await asyncio.wait_for(waiting.communicate(), LONG_S)
        assert b"condition met" in out
        # Its stream ends with the server; kubectl ends with its stream.
    await asyncio.wait_for(watching.communicate(), LONG_S)
    await asyncio.wait_for(events.communicate(), LONG_S)
