"""Tool servers that are programs, on their bad days; and the proxy as the program that agents start."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.fakes.agent_port import serving
from tests.fakes.mcp import NAMES, PROGRAM, ToolBench, paths, text_of
from tests.fakes.runs import RunBench

MODES = ["legacy", "auto"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ToolBench]:
    made = RunBench(tmp_path)
    try:
        yield ToolBench(made, tmp_path)
    finally:
        made.close()


def gone(pid: int) -> bool:
    """Whether no process of that number is at work."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.asyncio
async def test_a_program_gets_what_is_declared_and_nothing_of_the_proxy(
    bench: ToolBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_TOKEN", "rrt_of_the_run")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-proxy")
    bench.declare(env=[{"name": "TICKETS", "valueFrom": {"env": "TICKETS_TOKEN"}}])
    async with serving(bench.bench) as port, bench.proxy(port, near=False) as proxy, Client(proxy.server()) as client:
        found = json.loads(text_of(await client.call_tool("environment", {})))
    assert set(found) - {"LC_CTYPE"} == {"PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "TICKETS"}
    assert found["TICKETS"] == "s3cret-value-of-tickets"


@pytest.mark.asyncio
async def test_a_program_that_crashes_breaks_one_call_and_is_started_again(bench: ToolBench) -> None:
    bench.declare()
    async with serving(bench.bench) as port, bench.proxy(port, near=False) as proxy, Client(proxy.server()) as client:
        assert not (await client.call_tool("echo", {})).is_error
        crashed = await client.call_tool("crash", {})
        assert crashed.is_error
        assert "broke off; it may have been carried out all the same" in text_of(crashed)
        assert not (await client.call_tool("echo", {})).is_error
    assert [call.state for call in bench.calls()] == ["Succeeded", "Failed", "Succeeded"]
    assert any("ended with 3" in line for line in bench.said)
    assert "ghp_" not in "".join(bench.said)
    assert "ghp_" not in text_of(crashed)


@pytest.mark.asyncio
async def test_a_call_that_takes_too_long_and_a_result_that_is_too_large_are_errors(bench: ToolBench) -> None:
    bench.declare(maxResultKilobytes=10)
    async with serving(bench.bench) as port, bench.proxy(port, near=False) as proxy, Client(proxy.server()) as client:
        assert len(text_of(await client.call_tool("big", {"size": 9_000}))) == 9_000
        assert "larger than 10 KiB" in text_of(await client.call_tool("big", {"size": 11_000}))
        bench.declare(maxResultKilobytes=10, callTimeout="1s")
        slow = await client.call_tool("slow", {})
        assert "gave no answer in 1 s; it may have been carried out" in text_of(slow)
        bench.declare(maxResultKilobytes=10)
        flood = await client.call_tool("big", {"size": 3_000_000})
        assert "broke off" in text_of(flood)
        assert not (await client.call_tool("echo", {})).is_error
    assert [call.state for call in bench.calls()] == ["Succeeded", "Failed", "Failed", "Failed", "Succeeded"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "argv",
    [["no-such-program"], [sys.executable, "-c", "print('hello')"], [sys.executable, "-c", "input(); input()"]],
    ids=["missing", "babbles", "leaves"],
)
async def test_a_program_that_is_no_server_is_an_error(bench: ToolBench, argv: list[str]) -> None:
    bench.declare(argv=argv)
    async with serving(bench.bench) as port, bench.proxy(port, near=False) as proxy, Client(proxy.server()) as client:
        result = await client.call_tool("echo", {})
        assert "cannot be started or reached" in text_of(result)
    assert bench.calls() == []
    assert bench.said


@pytest.mark.asyncio
async def test_a_secret_that_is_not_there_is_told_to_the_operator_and_not_to_the_agent(bench: ToolBench) -> None:
    bench.declare(env=[{"name": "TICKETS", "valueFrom": {"env": "NOT_THERE"}}])
    async with serving(bench.bench) as port, bench.proxy(port, near=False) as proxy, Client(proxy.server()) as client:
        result = await client.call_tool("echo", {})
        assert "cannot be started or reached" in text_of(result)
        assert "NOT_THERE" not in text_of(result)
    assert "NOT_THERE" in bench.said[0]


@pytest.mark.asyncio
async def test_nothing_of_a_server_stays_behind(bench: ToolBench) -> None:
    """Also where it does not leave by itself, and has children that hold its pipes."""
    stubborn = "import os, signal, subprocess, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    stubborn += f"open({str(bench.folder / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
    stubborn += f"import runpy; sys.argv = ['server', {str(bench.tools)!r}]\n"
    stubborn += "try:\n    runpy.run_path(sys.executable and 'SERVER', run_name='__main__')\n"
    stubborn += "finally:\n    import time; time.sleep(600)\n"
    program = bench.folder / "stubborn.py"
    program.write_text(stubborn.replace("SERVER", str(PROGRAM)))
    bench.declare(argv=[sys.executable, str(program)])
    async with serving(bench.bench) as port, bench.proxy(port, near=False) as proxy, Client(proxy.server()) as client:
        assert not (await client.call_tool("echo", {})).is_error
        pids = [int(pid) for pid in (bench.folder / "pids").read_text().split()]
        assert not any(gone(pid) for pid in pids)
    assert all(gone(pid) for pid in pids)


# As programs.


def command(*arguments: str) -> list[str]:
    """``remit`` of this tree."""
    return [sys.executable, "-c", "from cli.entry import main; main()", *arguments]


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", MODES)
async def test_an_agent_starts_the_proxy_as_its_server(bench: ToolBench, mode: str) -> None:
    bench.declare()
    async with serving(bench.bench) as port:
        environment = {"REMIT_URL": port.url, "REMIT_TOKEN": bench.token(), "PYTHONPATH": paths()}
        argv = command("mcp-proxy", "tickets")
        started = StdioServerParameters(command=argv[0], args=argv[1:], env=environment, cwd=bench.folder)
        async with Client(started, mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == list(NAMES)
            assert json.loads(text_of(await client.call_tool("echo", {"n": 1}))) == {"n": 1}
    assert [call.state for call in bench.calls()] == ["Succeeded"]


@pytest.mark.asyncio
async def test_the_proxy_serves_runs_on_a_port(bench: ToolBench) -> None:
    bench.declare()
    async with serving(bench.bench) as port:
        process = await asyncio.create_subprocess_exec(
            *command("mcp-proxy", "tickets", "--http", "0", "--url", port.url),
            stderr=asyncio.subprocess.PIPE, cwd=bench.folder, env={**os.environ, "PYTHONPATH": paths()},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            assert "serves tickets on http://127.0.0.1:" in line
            headers = {"Authorization": f"Bearer {bench.token()}"}
            async with (
                httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
                Client(streamable_http_client(line.split()[-1], http_client=http)) as client,
            ):
                assert json.loads(text_of(await client.call_tool("echo", {"n": 1}))) == {"n": 1}
        finally:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0
    assert [call.state for call in bench.calls()] == ["Succeeded"]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ((), {}, "there is no engine to ask"),
        ((), {"REMIT_URL": "http://127.0.0.1:1"}, "there is no run to serve"),
        (("--http", "0.0.0.0:0"), {"REMIT_URL": "http://127.0.0.1:1"}, "can be reached from other machines"),
        (("--http", "web"), {"REMIT_URL": "http://127.0.0.1:1"}, "write PORT or HOST:PORT"),
    ],
)
def test_a_proxy_that_cannot_work_says_so(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REMIT_")}
    done = subprocess.run(
        command("mcp-proxy", "tickets", *arguments), cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**kept, "PYTHONPATH": paths(), **environment},
    )  # fmt: skip
    assert done.returncode != 0
    assert words in done.stderr
