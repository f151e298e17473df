"""The client and an engine that restarts, stumbles, loses answers or talks nonsense."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from remit_client import (
    Assignment,
    BadAnswer,
    ClientError,
    Clock,
    EngineUnreachable,
    RateLimited,
    Rejected,
    RetryPolicy,
    Run,
    RunOver,
    SystemClock,
)
from remit_client.connection import Connection
from remit_client.protocol import Calls

from tests.fakes.agent_server import RUN, TOKEN, AgentServer, Fault, restarting

QUICK = RetryPolicy(window_s=120, first_s=0.01, longest_s=0.05)
CALLS = Calls(RUN)


class SteppedClock:
    """Time that moves by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        await asyncio.sleep(0)  # noqa: TID251 - yields, takes no time


@pytest.fixture
def server() -> Iterator[AgentServer]:
    with AgentServer() as server:
        yield server


def a_run(server: AgentServer, **options: Any) -> Run:
    return Run(Assignment(server.url, RUN, TOKEN), **{"policy": QUICK, **options})


def send(
    server: AgentServer,
    call: Any,
    *,
    clock: Clock,
    policy: RetryPolicy | None = None,
    window_s: float | None = None,
    answer_timeout_s: float = 30,
) -> dict[str, Any]:
    """One call over a connection without a heartbeat beside it, in stepped time."""

    async def work() -> dict[str, Any]:
        connection = Connection(
            Assignment(server.url, RUN, TOKEN),
            policy=policy or RetryPolicy(),
            clock=clock,
            chance=lambda: 0.0,
            answer_timeout_s=answer_timeout_s,
        )
        try:
            return await connection.send(call, window_s=window_s)
        finally:
            await connection.aclose()

    return asyncio.run(work())


def test_a_restart_of_the_engine_is_waited_for(server: AgentServer) -> None:
    with a_run(server) as run:
        run.progress("before")
        with restarting(server, 0.5):
            run.progress("during")
        run.complete("x", self_review="y")
    assert [p["message"] for p in server.done("progress")] == ["before", "during"]


def test_ten_restarts_in_a_row_lose_and_repeat_nothing(server: AgentServer) -> None:
    stop = threading.Event()

    def shake() -> None:
        while not stop.wait(0.05):
            server.crash()
            server.start()

    shaker = threading.Thread(target=shake)
    with a_run(server, heartbeat_s=0.1) as run:
        shaker.start()
        try:
            for number in range(60):
                run.progress(str(number))
            run.artifact("log", "x")
            run.complete("x", self_review="y", evidence=["log"])
        finally:
            stop.set()
            shaker.join()
    assert [p["message"] for p in server.done("progress")] == [str(n) for n in range(60)]
    assert len(server.done("complete")) == 1


def test_an_engine_that_is_not_there_yet_is_waited_for() -> None:
    server = AgentServer().start()
    server.crash()
    timer = threading.Timer(0.4, server.start)
    timer.start()
    try:
        with a_run(server) as run:
            run.complete("x", self_review="y")
        assert server.ended == "complete"
    finally:
        timer.join()
        server.close()


def test_a_closed_port_is_tried_for_two_minutes_with_growing_pauses(server: AgentServer) -> None:
    server.crash()
    clock = SteppedClock()
    with pytest.raises(EngineUnreachable, match="progress: no answer from http://127") as caught:
        send(server, CALLS.progress("k", "m", None, None), clock=clock)
    assert 110 < clock.now <= 120
    assert clock.slept[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert max(clock.slept) == 8
    assert caught.value.tries == len(clock.slept) + 1


def test_a_lost_answer_is_asked_for_again_under_the_same_key_and_carried_out_once(server: AgentServer) -> None:
    lost = Fault(execute=True)
    for verb in ("progress", "usage", "artifacts", "complete"):
        server.fault(verb, lost, lost)
    with a_run(server) as run:
        run.progress("once")
        run.usage(usd="0.5")
        run.artifact("log", "x")
        run.complete("x", self_review="y")
    for verb in ("progress", "usage", "artifacts", "complete"):
        assert len(server.done(verb)) == 1
        tries = server.of(verb)
        assert len(tries) == 3
        assert len({r.key for r in tries}) == 1
        assert all(r.body == tries[0].body for r in tries)


def test_two_logical_calls_have_two_keys(server: AgentServer) -> None:
    with a_run(server) as run:
        run.progress("same")
        run.progress("same")
        run.complete("x", self_review="y")
    assert len(server.done("progress")) == 2


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_storm_of_bad_gateways_is_sat_out(server: AgentServer, status: int) -> None:
    clock = SteppedClock()
    server.fault("progress", *[Fault(status=status, body=b"<html>busy</html>")] * 12)
    send(server, CALLS.progress("k", "m", None, None), clock=clock)
    assert len(server.done("progress")) == 1
    assert len(clock.slept) == 12


def test_a_storm_without_end_is_given_up_with_the_last_answer_told(server: AgentServer) -> None:
    server.fault("progress", *[Fault(status=503)] * 100)
    with pytest.raises(EngineUnreachable, match="503"):
        send(server, CALLS.progress("k", "m", None, None), clock=SteppedClock())


def test_a_503_that_names_its_time_is_heard(server: AgentServer) -> None:
    clock = SteppedClock()
    server.fault("progress", Fault(status=503, headers={"Retry-After": "42"}))
    send(server, CALLS.progress("k", "m", None, None), clock=clock)
    assert clock.slept == [42]


def test_too_many_requests_wait_as_long_as_they_are_told(server: AgentServer) -> None:
    clock = SteppedClock()
    server.fault("progress", Fault(status=429, headers={"Retry-After": "9"}), Fault(status=429))
    send(server, CALLS.progress("k", "m", None, None), clock=clock)
    assert clock.slept == [9, 0.4]
    assert len(server.done("progress")) == 1


def test_a_limit_that_lasts_longer_than_the_window_is_told_at_once(server: AgentServer) -> None:
    clock = SteppedClock()
    server.fault("progress", Fault(status=429, headers={"Retry-After": "3600"}, body=b'{"detail": "daily limit"}'))
    with pytest.raises(RateLimited, match="daily limit") as caught:
        send(server, CALLS.progress("k", "m", None, None), clock=clock)
    assert caught.value.retry_after_s == 3600
    assert clock.slept == []


def test_a_slow_answer_is_given_up_and_asked_for_again_under_the_same_key(server: AgentServer) -> None:
    clock = SteppedClock()
    server.fault("progress", Fault(delay_s=1.0, execute=True))
    send(server, CALLS.progress("k", "m", None, None), clock=clock, answer_timeout_s=0.2)
    assert len(server.done("progress")) == 1
    assert len(server.of("progress")) == 2


def test_an_answer_that_drips_is_given_up_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit_client.connection.CONNECT_TIMEOUT_S", 0.2)
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def drip() -> None:
        held = []
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            held.append(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(200):
                if stop.wait(0.02):
                    break
                try:
                    connection.sendall(b" ")
                except OSError:
                    break
        for connection in held:
            connection.close()

    dripper = threading.Thread(target=drip)
    dripper.start()
    server = AgentServer()
    server._port = listener.getsockname()[1]
    try:
        with pytest.raises(EngineUnreachable):
            send(
                server,
                CALLS.heartbeat("k"),
                clock=SteppedClock(),
                policy=RetryPolicy(window_s=0),
                answer_timeout_s=0.2,
            )
    finally:
        stop.set()
        dripper.join()
        listener.close()


@pytest.mark.parametrize(
    "garbage",
    [
        Fault(status=200, body=b"<html>Welcome</html>"),
        Fault(status=200, body=b"[1, 2]"),
        Fault(status=200, body=b"\xff\xfe\x00"),
        Fault(status=302, headers={"Location": "http://127.0.0.1:9/"}),
        Fault(status=200, body=b"{}", headers={"Content-Encoding": "gzip"}),
        Fault(status=500, body=b"Traceback"),
    ],
)
def test_nonsense_is_tried_again_a_few_times_and_then_told(server: AgentServer, garbage: Fault) -> None:
    server.fault("progress", garbage, garbage)
    send(server, CALLS.progress("k1", "m", None, None), clock=SteppedClock())
    assert len(server.done("progress")) == 1
    server.fault("progress", *[garbage] * 20)
    clock = SteppedClock()
    with pytest.raises((BadAnswer, Rejected)):
        send(server, CALLS.progress("k2", "m", None, None), clock=clock)
    assert len(clock.slept) == 5


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH_9\r\n", b"\x00" * 100, b"HTTP/1.1 200 OK\r\nContent-Le", b""])
def test_something_else_on_the_port_is_waited_out_like_a_closed_one(server: AgentServer, raw: bytes) -> None:
    server.fault("progress", *[Fault(raw=raw)] * 8)
    send(server, CALLS.progress("k", "m", None, None), clock=SteppedClock())
    assert len(server.done("progress")) == 1


def test_an_answer_of_absurd_size_is_not_read_to_its_end(server: AgentServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit_client.connection.MAX_ANSWER_BYTES", 1000)
    server.fault("progress", *[Fault(status=200, body=b"{" + b" " * 5000 + b"}")] * 20)
    with pytest.raises(BadAnswer, match="larger"):
        send(server, CALLS.progress("k", "m", None, None), clock=SteppedClock())


def test_a_dead_token_is_not_tried_again(server: AgentServer) -> None:
    server.token_dead = True
    with pytest.raises(RunOver):
        send(server, CALLS.progress("k", "m", None, None), clock=SteppedClock())
    assert len(server.of("progress")) == 1


def test_a_token_that_died_with_the_last_report_does_not_look_like_a_cancel(server: AgentServer) -> None:
    """The engine accepts the completion and kills the token; the heartbeat hears of it before the answer is there."""
    server.fault("complete", Fault(status=200, body=b"{}", delay_s=0.5, execute=True))

    def die() -> None:
        server.wait_for("complete")
        server.token_dead = True

    killer = threading.Thread(target=die)
    with a_run(server, heartbeat_s=0.05) as run:
        killer.start()
        run.complete("x", self_review="y")
        killer.join()
        assert not run.canceled


def test_a_window_of_its_own_bounds_even_the_last_try(server: AgentServer) -> None:
    server.fault("fail", Fault(delay_s=1.5))
    with pytest.raises(EngineUnreachable):
        send(server, CALLS.fail("A", "b", False), clock=SystemClock(), window_s=0.3)


def test_an_engine_that_is_gone_for_good_does_not_hide_the_programs_own_error(server: AgentServer) -> None:
    policy = RetryPolicy(window_s=0.3, first_s=0.01, longest_s=0.05)

    def work() -> None:
        with a_run(server, policy=policy):
            server.crash()
            raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause") as caught:
        work()
    assert any("could not be told" in note for note in caught.value.__notes__)


def test_no_message_of_the_client_holds_the_token(server: AgentServer) -> None:
    server.crash()
    with pytest.raises(ClientError) as caught:
        send(server, CALLS.heartbeat("k"), clock=SteppedClock(), policy=RetryPolicy(window_s=0))
    error: BaseException | None = caught.value
    while error is not None:
        assert TOKEN not in str(error)
        error = error.__cause__ or error.__context__


def test_proxies_of_the_environment_never_see_calls_to_this_machine(
    server: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    send(server, CALLS.heartbeat("k"), clock=SteppedClock())
    assert len(server.done("heartbeat")) == 1
