"""People are told by a real engine, over a real mail server and a real webhook, that is killed between writing down
what there is to say and saying it, and between saying it and writing down that it was said."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from tests.e2e.fleet import agent, document, executor, mission, together
from tests.fakes.engine_process import Project, until
from tests.fakes.services import mail_server, post_server

pytestmark = pytest.mark.timeout(600)
MISSIONS = 4


def test_a_kill_around_sending_loses_nothing_and_repeats_with_the_same_key_only(project: Project) -> None:
    hooked, let_go = threading.Event(), threading.Event()
    with post_server() as posts, mail_server() as box:
        posts.otherwise = (503, {"retry-after": "1"}, b"")  # what is recorded cannot go out yet
        channels = together(
            document(
                "Channel", "hook",
                {"type": "Webhook", "webhook": {"url": f"{posts.url}/told", "allowPrivate": True},
                 "routes": [{"events": ["MissionFailed"]}]},
            ),
            document(
                "Channel", "mail",
                {"type": "Email", "email": {"to": ["team@example.com"],
                                            "smtp": {"host": "127.0.0.1", "port": box.port, "tls": False}},
                 "routes": [{"events": ["MissionFailed"]}]},
            ),
        )  # fmt: skip
        works = [mission(f"m{n}", "worker", project.effects, retry={"maxAttempts": 1}) for n in range(MISSIONS)]
        fleet = together(
            executor("fails", ["sh", "-c", "echo it broke >&2; exit 3"]), agent("worker", "fails", places=4)
        )
        project.commit({"fleet.yaml": fleet, "channels.yaml": channels, "works.yaml": together(*works)})
        engine = project.engine()
        until(lambda: len(project.objects("Notification")) == MISSIONS, "the notifications")
        until(lambda: posts.requests, "a first try")
        engine.kill()
        tried = {posted.headers["idempotency-key"] for posted in posts.requests}

        # The next one is killed while the service holds its answer back: it took the message, and nobody wrote it down.
        def hold(_: object) -> None:
            hooked.set()
            let_go.wait(60)

        posts.otherwise = (200, {}, b"{}")
        posts.taken = hold
        engine = project.engine()
        assert hooked.wait(60)
        engine.kill()
        posts.taken = lambda _: None
        let_go.set()
        before = len(posts.requests)

        engine = project.engine()
        until(
            lambda: all(n.state == "Sent" for n in project.objects("Notification")), lambda: project.objects("Channel")
        )
        keys = Counter(posted.headers["idempotency-key"] for posted in posts.requests)
        assert len(keys) == MISSIONS
        assert tried <= set(keys)
        assert before > 0
        for key in keys:
            bodies = {posted.body for posted in posts.requests if posted.headers["idempotency-key"] == key}
            assert len(bodies) == 1, "a repeated message is the same message"
        assert len({mail["Message-ID"] for mail in box.mails}) == MISSIONS
        assert "mission/m0 failed: NonZeroExit" in {str(mail["Subject"])[8:] for mail in box.mails}
        names = {n.name for n in project.objects("Notification")}
        assert len(names) == MISSIONS, "no restart tells anything anew"
        for name in ("hook", "mail"):
            status = project.get("Channel", name).status
            assert (status["delivered"], status["waiting"]) == (MISSIONS, 0)

        assert "mission/m3 failed" in project.good("get", "notifications")
        assert f"{MISSIONS} failed" in project.good("standup", "--since", "1h")
        project.ends_well(engine)
