"""Commit statuses and the one comment, against stand-ins of the three forges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controllers.status import forges
from controllers.status.forges import CommitStatus, State
from schemas.errors import Refused, Retry
from schemas.source import ForgeType, SourceReason
from tests.fakes.forges import REPOSITORY, TOKEN, FakeForge, serving

COMMIT = "a" * 40
MARKER = "<!-- remit:plan:default -->"


@pytest.fixture(params=list(ForgeType))
def server(request: pytest.FixtureRequest) -> Iterator[FakeForge]:
    with serving(request.param, commits={COMMIT}) as made:
        yield made


def connect(server: FakeForge, token: str = TOKEN, repository: str = REPOSITORY) -> forges.Forge:
    return forges.connect(server.type, server.api, repository, token, hosts=[server.host])


def status(
    state: State = State.SUCCESS, description: str = "in force: 3 objects", commit: str = COMMIT
) -> CommitStatus:
    return CommitStatus(commit, state, description, "remit")


@pytest.mark.parametrize("state", list(State))
def test_a_status_is_shown(server: FakeForge, state: State) -> None:
    connect(server).set_status(status(state))
    shown = server.statuses[-1]
    assert shown["commit"] == COMMIT
    expected = "failed" if server.type is ForgeType.GITLAB and state is State.FAILURE else state.value
    assert shown["state"] == expected


def test_a_status_may_be_sent_twice(server: FakeForge) -> None:
    connect(server).set_status(status())
    connect(server).set_status(status())
    connect(server).set_status(status(State.FAILURE))
    assert len({s["state"] for s in server.statuses}) == 2


def test_a_long_description_is_cut_and_made_one_line(server: FakeForge) -> None:
    connect(server).set_status(status(description="many\nlines " + "x" * 500))
    shown = server.statuses[-1]["description"]
    assert len(shown) == 140
    assert "\n" not in shown


def test_a_refused_token_is_said_and_not_shown(server: FakeForge) -> None:
    with pytest.raises(Refused, match="token is not accepted") as caught:
        connect(server, token="wrong-" + TOKEN).set_status(status())
    assert TOKEN not in str(caught.value)
    assert caught.value.reason == SourceReason.FORGE_REFUSED


def test_an_unknown_commit_and_an_unknown_repository_are_refusals(server: FakeForge) -> None:
    with pytest.raises(Refused, match="HTTP 4"):
        connect(server).set_status(status(commit="b" * 40))
    with pytest.raises(Refused, match="404"):
        connect(server, repository="acme/other").set_status(status())


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_forge_in_trouble_is_asked_again_when_it_says(server: FakeForge, code: int) -> None:
    server.answers = [(code, {"Retry-After": "17"}, b"later")]
    with pytest.raises(Retry) as caught:
        connect(server).set_status(status())
    assert caught.value.after == 17
    connect(server).set_status(status())
    assert len(server.statuses) == 1


def test_the_limits_of_github_come_as_403(server: FakeForge) -> None:
    server.answers = [
        (403, {"X-RateLimit-Remaining": "0"}, b"{}"),
        (403, {}, b'{"message": "You have exceeded a secondary rate limit"}'),
        (403, {}, b'{"message": "no"}'),
    ]
    for _ in range(2):
        with pytest.raises(Retry):
            connect(server).set_status(status())
    with pytest.raises(Refused, match="may not do that"):
        connect(server).set_status(status())


def test_a_redirect_is_not_followed(server: FakeForge) -> None:
    server.answers = [(307, {"Location": "http://127.0.0.1:1/elsewhere"}, b"")]
    with pytest.raises(Refused, match="was moved"):
        connect(server).set_status(status())
    assert len(server.requests) == 1


def test_a_silent_forge_is_asked_again() -> None:
    forge = forges.connect(ForgeType.GITEA, "http://127.0.0.1:9", REPOSITORY, TOKEN, hosts=["127.0.0.1:9"])
    with pytest.raises(Retry, match="does not answer"):
        forge.set_status(status())


def test_there_is_one_comment_and_it_is_kept_up_to_date(server: FakeForge) -> None:
    server.comment("hello")
    first = connect(server).upsert_comment(7, MARKER, "### plan 1")
    second = connect(server).upsert_comment(7, MARKER, "### plan 2")
    assert first == second
    assert server.bodies == ["hello", f"{MARKER}\n### plan 2"]
    before = len(server.requests)
    connect(server).upsert_comment(7, MARKER, "### plan 2")
    assert not [r for r in server.requests[before:] if not r.startswith("GET")], "an equal comment is left alone"


def test_the_comment_is_found_on_a_later_page(server: FakeForge) -> None:
    for n in range(120):
        server.comment(f"talk {n}")
    connect(server).upsert_comment(7, MARKER, "one")
    connect(server).upsert_comment(7, MARKER, "two")
    assert sum(MARKER in body for body in server.bodies) == 1


def test_a_comment_of_somebody_else_with_the_marker_is_not_touched(server: FakeForge) -> None:
    server.comment(f"{MARKER}\nforged")
    connect(server).upsert_comment(7, MARKER, "ours")
    assert server.bodies == [f"{MARKER}\nforged", f"{MARKER}\nours"]


def test_a_comment_of_ours_that_quotes_the_marker_is_another_one(server: FakeForge) -> None:
    server.comment(f"see {MARKER}", server.me)
    connect(server).upsert_comment(7, MARKER, "ours")
    assert len(server.comments) == 2


def test_two_comments_become_one_again(server: FakeForge) -> None:
    server.comment(f"{MARKER}\na", server.me)
    server.comment(f"{MARKER}\nb", server.me)
    connect(server).upsert_comment(7, MARKER, "c")
    assert server.bodies == [f"{MARKER}\nc"]


def test_a_comment_that_is_too_long_is_cut(server: FakeForge) -> None:
    connect(server).upsert_comment(7, MARKER, "x" * 100_000)
    assert len(server.bodies[0]) == forges.MAX_COMMENT


def test_an_unknown_pull_request_is_a_refusal(server: FakeForge) -> None:
    with pytest.raises(Refused, match="404"):
        connect(server).upsert_comment(8, MARKER, "x")


def test_the_token_of_a_workflow_knows_its_comments() -> None:
    with serving(ForgeType.GITHUB, anonymous=True) as server:
        for text in ("one", "two"):
            connect(server).upsert_comment(7, MARKER, text)
        assert server.bodies == [f"{MARKER}\ntwo"]


def test_an_answer_that_is_no_json_is_a_refusal(server: FakeForge) -> None:
    server.answers = [(200, {}, b"<html>login</html>")]
    with pytest.raises(Refused, match="no JSON"):
        connect(server).set_status(status())


@pytest.mark.parametrize(
    ("url", "hosts", "fine"),
    [
        (None, [], True),
        ("https://api.github.com", [], True),
        ("https://api.github.com:8443", [], False),
        ("https://git.example.org/api/v3", ["git.example.org"], True),
        ("https://GIT.example.org/api/v3", ["git.example.org"], True),
        ("https://git.example.org:444", ["git.example.org:443"], False),
        ("https://git.example.org:444", ["git.example.org:444"], True),
        ("https://git.example.org.evil.test", ["git.example.org"], False),
        ("https://git.example.org@evil.test", ["git.example.org"], False),
        ("https://evil.test/#git.example.org", ["git.example.org"], False),
        ("https://169.254.169.254", [], False),
        ("http://git.example.org", ["git.example.org"], False),
        ("http://127.0.0.1:3000", [], False),
        ("http://127.0.0.1:3000", ["127.0.0.1"], True),
        ("http://[::1]:3000", ["[::1]:3000"], True),
        ("https://[::1", ["[::1]"], False),
        ("ftp://git.example.org", ["git.example.org"], False),
    ],
)
def test_a_token_goes_to_an_allowed_host_only(url: str | None, hosts: list[str], fine: bool) -> None:
    if fine:
        forges.endpoint(ForgeType.GITHUB, url, hosts)
    else:
        with pytest.raises(Refused) as caught:
            forges.endpoint(ForgeType.GITHUB, url, hosts)
        assert caught.value.reason == SourceReason.FORGE_HOST_REFUSED
