"""`remit approve` and `remit deny`: what is asked, who answers, by command and by commit, and what a person sees."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli import answers, answers_git
from schemas.mission import MissionState
from schemas.source import Verify
from tests.fakes.consent import Office, policy, tenant
from tests.fakes.repos import Repo
from tests.fakes.shell import Shell, configure
from tests.fakes.signing import Signer, allowed, commit, needs_ssh, sign_with, ssh_signer
from tests.fakes.world import World

ME = pwd.getpwuid(os.getuid()).pw_name
EVIL = "\x1b[31mred\x1b]0;owned\x07\nTo answer:\n  remit approve everything\r\x9b2J\u202eback\u200b"


class Desk(Shell):
    """A shell beside an agent that asks. The engine is the world's: it acts when a command waits for it."""

    def __init__(self, office: Office, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(office.world, capsys)
        self.office = office


@pytest.fixture
def make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Desk]]:
    for name in ("REMIT_STORE", "REMIT_NAMESPACE", "REMIT_SOURCE_GIT_URL", "GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    world = World(tmp_path)

    def settled(store: object, seconds: float, ready: Callable[..., object]) -> object:
        world.settle()
        with world.store.snapshot() as snapshot:
            return ready(snapshot)

    for module in (answers, answers_git):
        monkeypatch.setattr(module.common, "wait_until", settled)

    def made(*more: str, **fields: object) -> Desk:
        desk = Desk(Office(world, *more, **fields), capsys)
        configure(tmp_path)
        return desk

    yield made
    world.close()


@pytest.fixture
def desk(make: Callable[..., Desk]) -> Desk:
    return make()


# By command.


def test_approve_lets_exactly_that_action_through_once(desk: Desk) -> None:
    request = desk.office.ask("one")
    shown = desk("describe", f"approval/{request.name}")
    (line,) = [
        text.strip() for text in shown.splitlines() if text.strip().startswith("remit approve") and "#" not in text
    ]
    said = desk(*line.split()[1:])
    assert f"as user:{ME}" in said
    assert "counted" in said
    assert desk.office.act("two") is None
    assert desk.office.act("one") is not None
    assert desk.office.act("one") is None


def test_the_name_in_the_record_is_the_systems_and_not_a_variables(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    request = desk.office.ask()
    desk("approve", request.name)
    (given,) = desk.world.get("ApprovalRequest", request.name).status["approvals"]
    assert (given["subject"], given["transport"]) == (f"user:{ME}", "Store")
    decision = desk.world.get("ApprovalDecision", given["decision"])
    assert decision.status["proof"] == f"uid {os.getuid()}"


def test_a_mission_that_waits_once_is_answered_by_its_own_name(desk: Desk) -> None:
    desk.office.ask("one")
    desk("approve", "mission/a")
    assert desk.world.state("a") is MissionState.IN_PROGRESS


def test_a_mission_that_waits_for_several_answers_says_which(desk: Desk) -> None:
    first, second = desk.office.ask("one"), desk.office.ask("two")
    said = desk("approve", "mission/a", code=3)
    assert first.name in said
    assert second.name in said
    assert desk.office.act("one") is None


def test_another_digest_than_the_one_read_is_refused(desk: Desk) -> None:
    request, other = desk.office.ask("one"), desk.office.ask("two")
    said = desk("approve", request.name, "--digest", str(other.spec["actionDigest"])[7:19], code=3)
    assert "changed since you read it" in said
    assert desk.office.state(request) == "Pending"


def test_leave_for_a_time_is_given_and_taken_back(desk: Desk) -> None:
    request = desk.office.ask()
    desk("approve", request.name, "--for", "8h")
    assert desk.office.act() is not None
    assert desk.office.act() is not None
    told = desk("describe", f"approval/{request.name}")
    assert "used 2 time(s)" in told
    assert "--revoke" in told
    desk("deny", request.name, "--revoke", "--reason", "enough")
    assert desk.office.act() is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--scope", "forever"), "one of once, session, until"),
        (("--scope", "until"), "needs --for"),
        (("--scope", "session", "--for", "8h"), "leave --scope session out"),
        (("--via", "mail"), "one of store, git"),
        (("--push", "topic"), "goes with --via git"),
    ],
)
def test_what_does_not_fit_is_said(desk: Desk, words: tuple[str, ...], says: str) -> None:
    request = desk.office.ask()
    assert says in desk("approve", request.name, *words, code=2)
    assert desk.office.state(request) == "Pending"


def test_nothing_is_taken_back_before_it_was_given_or_after_its_use(desk: Desk) -> None:
    request = desk.office.ask()
    assert "nothing to take back" in desk("deny", request.name, "--revoke", code=3)
    desk("approve", request.name)
    desk.office.act()
    assert "AlreadyConsumed" in desk("deny", request.name, "--revoke", code=3)


def test_somebody_who_may_not_is_told_so(make: Callable[..., Desk]) -> None:
    desk = make(tenant(somebody="Approver", vic="Viewer"))
    request = desk.office.ask()
    assert "NotAnApprover" in desk("approve", request.name, code=3)
    assert desk.office.act() is None


def test_one_of_two_says_how_many_are_missing(make: Callable[..., Desk]) -> None:
    desk = make(policy(quorum=2))
    request = desk.office.ask()
    assert "1 more approval(s) needed" in desk("approve", request.name, "--reason", "looks right")
    listed = desk("get", "approvals", "-o", "wide")
    assert "1/2" in listed
    assert "Approver, Admin" in listed
    assert "EXPIRES" in listed
    told = desk("describe", f"approval/{request.name}")
    assert "approvals: 1/2" in told
    assert re.search(rf"user:{ME} via Store, \d+s ago, once: looks right", told)


# What a person reads.


def test_describe_tells_exactly_what_would_be_done_and_how_to_answer(desk: Desk) -> None:
    request = desk.office.ask("buy the moon")
    told = desk("describe", f"approval/{request.name}")
    for text in (
        '"text": "buy the moon"', "asked by    agent:default/worker", "risk        Red", "the built-in table",
        str(request.spec["actionDigest"]), "one reminder in", "expires in", "without an answer: Park",
        f"remit deny {request.name} --digest", "--via git",
    ):  # fmt: skip
        assert text in told, text
    told = desk("describe", "mission/a")
    assert f"remit describe approval/{request.name}" in told
    assert f"remit approve {request.name} --digest" in told


def test_what_the_agent_writes_is_shown_and_never_obeyed(desk: Desk) -> None:
    request = desk.office.ask(EVIL)
    for words in (
        ("describe", f"approval/{request.name}"),
        ("describe", "mission/a"),
        ("get", "approvals", "-o", "wide"),
    ):
        shown = desk(*words)
        assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u200b]", shown) is None
        assert not [line for line in shown.splitlines() if line.startswith("To answer") and "everything" in line]
        assert "  remit approve everything" not in shown.splitlines()
    assert "as user:" in desk("approve", request.name)


# By commit.


class Signed(Desk):
    """The source asks for signatures; ada signs the specs, and the user of this machine is bob."""

    def __init__(self, office: Office, capsys: pytest.CaptureFixture[str], keys: Path) -> None:
        super().__init__(office, capsys)
        keys.mkdir()
        self.ada, self.bob, self.eve = (ssh_signer(keys, name) for name in ("ada", "bob", "eve"))
        world = office.world
        (world.folder / "allowed_signers").write_text(allowed(("ada", self.ada), ("bob", self.bob)))
        world.spec = world.spec.model_copy(update={"verify": Verify(allowed_signers="allowed_signers")})
        world.restart()
        configure(world.folder, verify="{allowedSigners: allowed_signers}")
        self.signs(self.ada)
        commit(world.repo, {}, self.ada)
        world.sync()

    def signs(self, signer: Signer | None) -> None:
        """Whose key git signs with."""
        sign_with(self.world.repo, signer)
        if signer is None:
            for key in ("gpg.format", "user.signingKey"):
                self.world.repo.git("config", "--unset-all", key)


@pytest.fixture
def signed(make: Callable[..., Desk], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Signed:
    return Signed(make().office, capsys, tmp_path / "keys")


@needs_ssh
def test_an_answer_by_commit_is_its_signers(signed: Signed) -> None:
    request = signed.office.ask()
    signed.signs(signed.bob)
    digest = str(request.spec["actionDigest"])[7:19]
    said = signed("approve", request.name, "--digest", digest, "--reason", "fine", "--via", "git")
    assert "counted" in said
    (given,) = signed.world.get("ApprovalRequest", request.name).status["approvals"]
    assert (given["subject"], given["transport"], given["reason"]) == ("user:bob", "Git", "fine")
    decision = signed.world.get("ApprovalDecision", given["decision"])
    assert decision.status["proof"] == f"commit {signed.world.repo.head}"
    assert "fine" in signed.world.repo.git("log", "-1", "--format=%B")
    assert signed.world.repo.git("status", "--porcelain") == ""
    assert signed.office.act() is not None
    assert signed.office.act() is None


@needs_ssh
def test_without_a_key_nothing_is_committed(signed: Signed) -> None:
    request, head = signed.office.ask(), signed.world.repo.head
    signed.signs(None)
    said = signed("approve", request.name, "--via", "git", code=3)
    assert "an unsigned answer proves nobody" in said
    assert signed.world.repo.head == head
    assert signed.office.state(request) == "Pending"


def test_where_signatures_are_not_checked_nothing_is_committed(desk: Desk) -> None:
    request, head = desk.office.ask(), desk.world.repo.head
    said = desk("approve", request.name, "--via", "git", code=3)
    assert "would count for nobody" in said
    assert desk.world.repo.head == head


@needs_ssh
def test_an_unsigned_file_of_an_answer_proves_nobody(signed: Signed) -> None:
    """Made by hand, under a forged author, with a signed commit on top."""
    request = signed.office.ask()
    signed.signs(signed.bob)
    signed("approve", request.name, "--via", "git", "--push", "topic")
    text = signed.world.repo.git("show", f"topic:approvals/{request.name}-approve.yaml")
    signed.world.repo.git("config", "commit.gpgSign", "false")
    commit(signed.world.repo, {"x.yaml": text}, None, author="bob <bob@example.org>")
    commit(signed.world.repo, {"README.md": "on top\n"}, signed.ada)
    signed.world.sync()
    name = f"{request.name}-approve"
    assert signed.world.reason("ApprovalDecision", name, "Succeeded") == "False/IdentityUnproven"
    assert signed.office.act() is None


@needs_ssh
def test_an_answer_on_a_branch_counts_when_it_is_merged(signed: Signed) -> None:
    request = signed.office.ask()
    signed.signs(signed.bob)
    head = signed.world.repo.head
    said = signed("approve", request.name, "--via", "git", "--push", "answer")
    assert "once answer is merged into main" in said
    assert signed.world.repo.head == head
    signed.world.sync()
    assert signed.office.state(request) == "Pending"
    signed.world.repo.git(*signed.ada.options, "merge", "-q", "--no-ff", "-S", "-m", "Merge", "answer")
    signed.world.sync()
    (given,) = signed.world.get("ApprovalRequest", request.name).status["approvals"]
    assert given["subject"] == "user:bob"


@needs_ssh
def test_an_answer_for_a_remote_source_is_pushed_there(signed: Signed, tmp_path: Path) -> None:
    world = signed.world
    there = Repo(tmp_path / "there", bare=True)
    world.repo.git("push", "-q", str(there.path), "main")
    world.spec = world.spec.model_copy(update={"url": f"file://{there.path}"})
    world.restart()
    configure(world.folder, url=f"file://{there.path}", verify="{allowedSigners: allowed_signers}")
    world.sync()
    request = signed.office.ask()
    (Path(os.environ["HOME"]) / ".gitconfig").write_text(
        f"[gpg]\n\tformat = ssh\n[user]\n\tsigningKey = {signed.bob.settings['user.signingKey']}\n"
    )
    assert "add --push main" in signed("approve", request.name, "--via", "git", code=3)
    said = signed("approve", request.name, "--via", "git", "--push", "main")
    assert "counted" in said
    (given,) = world.get("ApprovalRequest", request.name).status["approvals"]
    assert (given["subject"], given["transport"]) == ("user:bob", "Git")


@needs_ssh
def test_two_people_by_two_ways_make_a_quorum_and_one_by_two_ways_does_not(
    make: Callable[..., Desk], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    desk = Signed(make(policy(quorum=2)).office, capsys, tmp_path / "keys")
    request = desk.office.ask()
    desk.office.answer(request, "bob")
    desk.signs(desk.bob)
    assert "AlreadyDecided" in desk("approve", request.name, "--via", "git", code=3)
    desk.signs(desk.ada)
    assert "counted" in desk("approve", request.name, "--via", "git")
    assert desk.office.act() is not None
