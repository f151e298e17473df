"""Provenance: what is applied is signed by who may, answers from git are their signers', and history is not lost
unnoticed. Scenarios 5, 17 and 19 of the reconcile semantics, as far as git is concerned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.source import PruneMode, SourceReason, Verify
from tests.fakes.repos import Repo
from tests.fakes.signing import Signer, allowed, commit, gpg_home, needs_gpg, needs_ssh, ssh_signer
from tests.fakes.world import World, agent, executor, mission

pytestmark = needs_ssh

EXPIRED = 'valid-before="20200101"'


class Signed:
    """A world whose source asks for signatures: ada and bob may sign, eve and old may not."""

    def __init__(self, world: World) -> None:
        self.world = world
        keys = world.folder / "keys"
        keys.mkdir()
        self.ada, self.bob, self.eve, self.old = (ssh_signer(keys, name) for name in ("ada", "bob", "eve", "old"))
        self.file = world.folder / "allowed_signers"
        self.trust(("ada", self.ada), ("bob", self.bob), ("old", self.old, EXPIRED))
        self.declare(Verify(allowed_signers="allowed_signers"))

    def declare(self, verify: Verify, **more: object) -> None:
        self.world.spec = self.world.spec.model_copy(update={"verify": verify, **more})
        self.world.restart()

    def trust(self, *people: tuple[str, Signer] | tuple[str, Signer, str]) -> None:
        self.file.write_text(allowed(*people))

    def put(
        self, signer: Signer | None, files: dict[str, str], *, delete: tuple[str, ...] = (), author: str = ""
    ) -> str:
        for name in delete:
            (self.world.repo.path / name).unlink()
        return commit(self.world.repo, files, signer, author=author)

    def ready(self) -> str:
        return self.world.reason("Source", "default", "Ready")

    def message(self) -> str:
        conditions = self.world.get("Source", "default").status["conditions"]
        return str(next(c["message"] for c in conditions if c["type"] == "Ready"))


@pytest.fixture
def signed(world: World) -> Signed:
    return Signed(world)


def several(count: int = 8) -> dict[str, str]:
    return {f"m{i}.yaml": mission(f"m{i}", agent=None) for i in range(count)}


# Scenario 5: a bad signature.


Bad = Callable[[Signed], str]


def _unsigned(signed: Signed) -> str:
    return signed.put(None, {"m0.yaml": mission("m0", agent=None, priority=99)}, delete=("m1.yaml",))


def _stranger(signed: Signed) -> str:
    return signed.put(signed.eve, {"m0.yaml": mission("m0", agent=None, priority=99)}, delete=("m1.yaml",))


def _expired(signed: Signed) -> str:
    return signed.put(signed.old, {"m0.yaml": mission("m0", agent=None, priority=99)}, delete=("m1.yaml",))


def _everything_gone(signed: Signed) -> str:
    return signed.put(None, {}, delete=tuple(several()))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (_unsigned, "SignatureUnsigned"),
        (_stranger, "SignatureUntrusted"),
        (_expired, "SignatureExpired"),
        (_everything_gone, "SignatureUnsigned"),
    ],
)
def test_a_bad_signature_keeps_the_last_good_revision_and_prunes_nothing(signed: Signed, bad: Bad, reason: str) -> None:
    world = signed.world
    good = signed.put(signed.ada, several())
    world.sync()
    uids = {m.name: m.uid for m in world.everything() if m.kind == "Mission"}
    assert len(uids) == 8
    commit_id = bad(signed)
    for _ in range(3):
        status = world.sync()
        world.clock.tick(30)
    assert signed.ready() == f"False/{reason}"
    assert commit_id[:12] in signed.message()
    assert status.revision == f"main@sha1:{good}"
    assert status.signer == "ada"
    assert {m.name: m.uid for m in world.everything() if m.kind == "Mission"} == uids
    assert world.get("Mission", "m0").spec["priority"] == 50
    assert world.events("DeletionRequested", "Deleted") == []
    (failure,) = (e for e in world.events("SyncFailed") if e.reason != "EmptyRepository")
    assert failure.reason == reason
    world.restart()
    assert signed.ready() == f"False/{reason}"
    assert len([e for e in world.events("SyncFailed") if e.reason == reason]) == 1
    signed.put(signed.bob, several())
    status = world.sync()
    assert (signed.ready(), status.signer) == ("True/Synced", "bob")
    assert {m.name: m.uid for m in world.everything() if m.kind == "Mission"} == uids


def test_nothing_is_applied_before_the_first_good_signature(signed: Signed) -> None:
    signed.put(None, several())
    signed.world.sync()
    assert signed.ready() == "False/SignatureUnsigned"
    assert signed.world.find("Mission", "m0") is None


def test_keys_in_the_repository_apply_nothing(signed: Signed) -> None:
    signed.put(signed.ada, {"allowed_signers": signed.file.read_text(), **several()})
    signed.declare(Verify(allowed_signers="specs/allowed_signers"))
    signed.world.sync()
    assert signed.ready() == "False/AllowedSignersRefused"
    assert signed.world.find("Mission", "m0") is None


def test_a_changed_file_of_keys_is_noticed_at_the_next_look(signed: Signed) -> None:
    world = signed.world
    signed.put(signed.ada, several())
    world.sync()
    source = world.get("Source", "default").key
    signed.trust(("bob", signed.bob))
    world.sync_now(source)
    assert signed.ready() == "False/SignatureUntrusted"
    assert world.find("Mission", "m0") is not None
    signed.trust(("ada", signed.ada))
    world.sync_now(source)
    assert signed.ready() == "True/Synced"
    signed.file.unlink()
    world.sync_now(source)
    assert signed.ready() == "False/AllowedSignersRefused"
    assert world.find("Mission", "m0") is not None


def test_the_signer_stands_on_what_a_revision_changed_and_on_nothing_else(signed: Signed) -> None:
    world = signed.world
    signed.put(signed.ada, several())
    world.sync()
    first = world.get("Mission", "m0")
    assert first.provenance is not None
    assert (first.provenance.signer, world.source.signer) == ("ada", "ada")
    signed.put(signed.bob, {"m1.yaml": mission("m1", agent=None, priority=60)})
    world.sync()
    changed = world.get("Mission", "m1").provenance
    assert changed is not None
    assert (changed.signer, world.source.signer) == ("bob", "bob")
    assert world.get("Mission", "m0").resource_version == first.resource_version
    assert world.events("Moved") == []


def test_an_unchanged_signed_revision_costs_no_write(signed: Signed) -> None:
    world = signed.world
    signed.put(signed.ada, several(3))
    world.sync()
    with world.store.snapshot() as snapshot:
        version = snapshot.latest_version()
    for _ in range(15):
        world.clock.tick(60)
        world.sync_now(world.get("Source", "default").key)
    with world.store.snapshot() as snapshot:
        assert snapshot.latest_version() == version


def test_a_signed_tag_is_followed(signed: Signed) -> None:
    world = signed.world
    signed.put(None, several(3))
    world.repo.git(*signed.ada.options, "tag", "-s", "-m", "one", "v1")
    signed.declare(Verify(allowed_signers="allowed_signers"), ref="v1")
    assert world.sync().revision == f"v1@sha1:{world.repo.head}"
    assert world.source.signer == "ada"


def test_a_quarantined_commit_is_refused_however_well_it_is_signed(signed: Signed) -> None:
    world = signed.world
    signed.put(signed.ada, several())
    world.sync()
    bad = signed.put(signed.ada, {"m0.yaml": mission("m0", agent=None, priority=99)})
    signed.declare(Verify(allowed_signers="allowed_signers"), quarantine=(bad[:7],))
    world.sync()
    assert signed.ready() == "False/Quarantined"
    assert f"remit revert {bad[:12]}" in signed.message()
    assert world.get("Mission", "m0").spec["priority"] == 50
    signed.put(signed.ada, {"m0.yaml": mission("m0", agent=None, priority=51)})
    world.sync()
    assert world.get("Mission", "m0").spec["priority"] == 51


@pytest.mark.parametrize("entry", ["abcdef", "ABCDEF12", "main", "", "g" * 40])
def test_what_could_never_match_is_no_quarantine(signed: Signed, entry: str) -> None:
    values = {**signed.world.spec.to_wire(), "quarantine": [entry]}
    with pytest.raises(ValueError, match="quarantine"):
        type(signed.world.spec).model_validate(values)


# Scenario 17: who answered.


def ask(signed: Signed) -> None:
    """A mission whose result waits for a review."""
    text = executor() + "---\n" + agent()
    signed.put(signed.ada, {"fleet.yaml": text, "a.yaml": mission("a", review="Human"), **several(6)})
    signed.world.sync()
    signed.world.finish("a-1")


def answer(signed: Signed, name: str = "answer", verdict: str = "Approve", **spec: str) -> str:
    """The file of an answer."""
    request = signed.world.get("ApprovalRequest", str(signed.world.get("Mission", "a").status["reviewRequest"]))
    more = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: ApprovalDecision\nmetadata: {{name: {name}}}\nspec:\n"
        f"  requestRef: {{name: {request.name}, uid: {request.uid}}}\n"
        f"  actionDigest: {request.spec['actionDigest']}\n  verdict: {verdict}\n{more}"
    )


def judged(signed: Signed, name: str = "answer") -> tuple[str, str]:
    """(status/reason, message) of a decision."""
    conditions = signed.world.get("ApprovalDecision", name).status["conditions"]
    found = next(c for c in conditions if c["type"] == "Succeeded")
    return f"{found['status']}/{found['reason']}", found["message"]


def test_a_signed_answer_counts_as_its_signers(signed: Signed) -> None:
    world = signed.world
    ask(signed)
    signed.put(signed.bob, {"answer.yaml": answer(signed)}, author="Ada <ada@example.org>")
    world.sync()
    assert judged(signed)[0] == "True/Counted"
    status = world.get("ApprovalDecision", "answer").status
    assert (status["subject"], status["transport"]) == ("user:bob", "Git")
    (event,) = world.events("ApprovalDecided")
    assert (event.actor.subject, event.actor.transport) == ("user:bob", "Git")
    assert world.state("a") == "Done"


def test_an_answer_is_the_commits_that_brought_it_whoever_signs_on_top(signed: Signed) -> None:
    ask(signed)
    signed.put(signed.bob, {"answer.yaml": answer(signed)})
    signed.put(signed.ada, {"m0.yaml": mission("m0", agent=None, priority=60)})
    signed.world.sync()
    assert signed.world.get("ApprovalDecision", "answer").status["subject"] == "user:bob"


@pytest.mark.parametrize(
    ("who", "reason"),
    [("nobody", "SignatureUnsigned"), ("eve", "SignatureUntrusted"), ("old", "SignatureExpired")],
)
def test_an_answer_of_somebody_unproven_has_no_effect_and_says_why(signed: Signed, who: str, reason: str) -> None:
    """Its author field claims ada, and ada's signed commit stands on top."""
    world = signed.world
    ask(signed)
    brought = signed.put(getattr(signed, who, None), {"answer.yaml": answer(signed)}, author="ada <ada@example.org>")
    signed.put(signed.ada, {"m0.yaml": mission("m0", agent=None, priority=60)})
    world.sync()
    assert signed.ready() == "True/Synced"
    outcome, message = judged(signed)
    assert outcome == "False/IdentityUnproven"
    assert reason in message
    assert brought[:12] in message
    assert world.state("a") == "Review"
    (event,) = world.events("DecisionRefused")
    assert (event.reason, event.actor.subject) == ("IdentityUnproven", "unproven")
    signed.put(signed.ada, {"again.yaml": answer(signed, "again")})
    world.sync()
    assert judged(signed, "again")[0] == "True/Counted"


def test_an_answer_from_a_source_without_signatures_says_what_is_missing(world: World) -> None:
    signed = Signed(world)
    ask(signed)
    world.spec = world.spec.model_copy(update={"verify": None})
    world.restart()
    signed.put(signed.ada, {"answer.yaml": answer(signed)})
    world.sync()
    outcome, message = judged(signed)
    assert outcome == "False/IdentityUnproven"
    assert "spec.verify" in message


def test_who_asked_cannot_answer_by_git_either(signed: Signed) -> None:
    world = signed.world
    ask(signed)
    request = world.get("ApprovalRequest", str(world.get("Mission", "a").status["reviewRequest"]))
    from schemas.resource import SYSTEM, Declared

    with world.store.transaction(SYSTEM) as tx:
        spec = {**request.spec, "requester": "user:ada", "separationOfDuties": True}
        current = tx.get(request.key)
        assert current is not None
        tx.put_spec(current, Declared(request.kind, request.namespace, request.name, spec))
    signed.put(signed.ada, {"answer.yaml": answer(signed)}, author="bob <bob@example.org>")
    world.sync()
    assert judged(signed)[0] == "False/SelfApproval"
    signed.put(signed.bob, {"other.yaml": answer(signed, "other")})
    world.sync()
    assert judged(signed, "other")[0] == "True/Counted"


def test_a_signed_answer_that_comes_too_late_has_expired(signed: Signed) -> None:
    world = signed.world
    ask(signed)
    text = answer(signed)
    world.advance(112 * 3600)
    signed.put(signed.ada, {"answer.yaml": text})
    world.sync()
    assert judged(signed)[0] == "False/Expired"


@needs_gpg
def test_a_forge_that_signs_a_merge_answers_for_nobody(signed: Signed) -> None:
    world = signed.world
    ask(signed)
    with gpg_home() as home:
        forge = home.signer("Forge <noreply@forge.example>")
        (world.folder / "keyring").write_text(forge.public)
        verify = Verify(allowed_signers="allowed_signers", gpg_keyring="keyring", forges=("noreply@forge.example",))
        signed.declare(verify)
        world.repo.git("checkout", "-q", "-b", "topic")
        signed.put(signed.bob, {"answer.yaml": answer(signed)})
        world.repo.git("checkout", "-q", "main")
        signed.put(forge, {"web.yaml": answer(signed, "web")})
        world.repo.git(*forge.options, "merge", "-q", "--no-ff", "-S", "-m", "Merge", "topic")
        world.sync()
    assert world.source.signer == "noreply@forge.example"
    outcome, message = judged(signed, "web")
    assert outcome == "False/IdentityUnproven"
    assert "noreply@forge.example" in message
    assert judged(signed)[0] == "True/Counted"
    assert world.get("ApprovalDecision", "answer").status["subject"] == "user:bob"


# Scenario 19: the file of an answer goes away.


@pytest.mark.parametrize("prune", list(PruneMode))
def test_taking_the_file_of_an_answer_away_changes_nothing(signed: Signed, prune: PruneMode) -> None:
    world = signed.world
    signed.declare(Verify(allowed_signers="allowed_signers"), prune=prune)
    ask(signed)
    signed.put(signed.bob, {"answer.yaml": answer(signed)})
    world.sync()
    before = {r.key: r.resource_version for r in world.everything() if r.kind in ("ApprovalDecision", "ApprovalRequest",
              "Mission", "Run")}  # fmt: skip
    signed.put(signed.ada, {}, delete=("answer.yaml",))
    unit = world.sync().units[0]
    assert (unit.reason, unit.pending) == (SourceReason.SYNCED, ())
    assert {r.key: r.resource_version for r in world.everything() if r.key in before} == before
    assert judged(signed)[0] == "True/Counted"
    assert world.state("a") == "Done"
    for _ in range(3):
        world.clock.tick(700)
        world.sync()
    assert world.find("ApprovalDecision", "answer") is not None
    assert world.source.units[0].objects == unit.objects
    signed.put(signed.ada, {"answer.yaml": "# " + "nothing\n"})
    world.sync()
    assert judged(signed)[0] == "True/Counted"


def test_an_answer_that_was_taken_away_still_counts_towards_the_quorum(signed: Signed) -> None:
    world = signed.world
    ask(signed)
    request = world.get("ApprovalRequest", str(world.get("Mission", "a").status["reviewRequest"]))
    from schemas.resource import SYSTEM, Declared

    with world.store.transaction(SYSTEM) as tx:
        current = tx.get(request.key)
        assert current is not None
        spec = {**request.spec, "quorum": 2}
        tx.put_spec(current, Declared(request.kind, request.namespace, request.name, spec))
    signed.put(signed.bob, {"answer.yaml": answer(signed)})
    world.sync()
    assert judged(signed)[0] == "True/AwaitingQuorum"
    signed.put(signed.ada, {}, delete=("answer.yaml",))
    world.sync()
    signed.put(signed.bob, {"twice.yaml": answer(signed, "twice")})
    world.sync()
    assert judged(signed, "twice")[0] == "False/AlreadyDecided"
    assert world.state("a") == "Review"
    signed.put(signed.ada, {"second.yaml": answer(signed, "second")})
    world.sync()
    assert judged(signed, "second")[0] == "True/Counted"
    assert world.state("a") == "Done"


def test_a_kept_answer_does_not_weaken_the_guard_against_deleting_all(signed: Signed) -> None:
    world = signed.world
    ask(signed)
    signed.put(signed.bob, {"answer.yaml": answer(signed)})
    world.sync()
    signed.put(signed.ada, {}, delete=("fleet.yaml", "a.yaml", "answer.yaml", *several(6)))
    unit = world.sync().units[0]
    assert unit.reason is SourceReason.PRUNE_BLOCKED
    assert "all 9 object(s)" in unit.message
    assert world.find("Mission", "m0") is not None


# Rewritten and shallow histories.


def test_a_force_push_of_a_related_history_is_applied_and_said_once(world: World) -> None:
    base = world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    old = world.commit({"m.yaml": mission("a", agent=None, priority=60)})
    world.sync()
    world.repo.git("reset", "-q", "--hard", base)
    new = world.commit({"m.yaml": mission("a", agent=None, priority=70)})
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 70
    (event,) = world.events("HistoryRewritten")
    assert event.data == {"old": f"main@sha1:{old}", "new": f"main@sha1:{new}"}
    assert old in event.message
    assert new in event.message
    world.sync()
    world.restart()
    world.sync()
    assert len(world.events("HistoryRewritten")) == 1


def test_going_back_to_an_earlier_commit_is_said(world: World) -> None:
    base = world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    world.commit({"m.yaml": mission("a", agent=None, priority=60)})
    world.sync()
    world.repo.git("reset", "-q", "--hard", base)
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 50
    (event,) = world.events("HistoryRewritten")
    assert "went back" in event.message


def test_commits_on_top_rewrite_nothing(world: World) -> None:
    for priority in (1, 2, 3):
        world.commit({"m.yaml": mission("a", agent=None, priority=priority)})
        world.sync()
    assert world.events("HistoryRewritten") == []


def test_a_rewritten_history_that_nobody_signed_is_not_applied(signed: Signed) -> None:
    world = signed.world
    base = signed.put(signed.ada, several())
    world.sync()
    signed.put(signed.ada, {"m0.yaml": mission("m0", agent=None, priority=60)})
    world.sync()
    world.repo.git("reset", "-q", "--hard", base)
    signed.put(None, {"m0.yaml": mission("m0", agent=None, priority=70)})
    world.sync()
    assert signed.ready() == "False/SignatureUnsigned"
    assert world.get("Mission", "m0").spec["priority"] == 60
    assert world.events("HistoryRewritten") == []


def clone(world: World, *, depth: int) -> Repo:
    """Make the source a shallow clone of the repository that the test commits to."""
    shallow = Repo(world.folder / "shallow", bare=True)
    pull(world, shallow, depth=depth)
    world.spec = world.spec.model_copy(update={"url": str(shallow.path)})
    world.restart()
    return shallow


def pull(world: World, shallow: Repo, *, depth: int = 0) -> None:
    options = [f"--depth={depth}"] if depth else []
    shallow.git("fetch", "-q", "--update-shallow", *options, f"file://{world.repo.path}", "+main:main")


def test_a_shallow_clone_that_grows_is_followed(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.commit({"m.yaml": mission("a", agent=None, priority=60)})
    shallow = clone(world, depth=1)
    world.sync()
    world.commit({"m.yaml": mission("a", agent=None, priority=70)})
    pull(world, shallow)
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 70
    assert world.events("HistoryRewritten") == []


def test_a_shallow_clone_whose_history_cannot_be_followed_keeps_what_was_applied(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    shallow = clone(world, depth=1)
    world.sync()
    for priority in (60, 70, 80):
        world.commit({"m.yaml": mission("a", agent=None, priority=priority)})
    pull(world, shallow, depth=1)
    world.sync()
    assert world.reason("Source", "default", "Ready") == "False/ObjectMissing"
    assert world.get("Mission", "a").spec["priority"] == 50
    shallow.git("fetch", "-q", "--unshallow", f"file://{world.repo.path}", "+main:main")
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 80
    assert world.events("HistoryRewritten") == []


def test_a_rewritten_shallow_history_is_said_to_be_in_doubt(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    base = world.commit({"m.yaml": mission("a", agent=None, priority=55)})
    world.commit({"m.yaml": mission("a", agent=None, priority=60)})
    shallow = clone(world, depth=2)
    world.sync()
    world.repo.git("reset", "-q", "--hard", base)
    world.commit({"m.yaml": mission("a", agent=None, priority=70)})
    pull(world, shallow)
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 70
    (event,) = world.events("HistoryRewritten")
    assert "shallow" in event.message


def test_a_remote_that_was_forced_is_followed_through_its_mirror(world: World, tmp_path: Path) -> None:
    base = world.commit({"m.yaml": mission("a", agent=None)})
    world.spec = world.spec.model_copy(update={"url": f"file://{world.repo.path}"})
    world.restart()
    world.sync()
    world.commit({"m.yaml": mission("a", agent=None, priority=60)})
    world.sync()
    world.repo.git("reset", "-q", "--hard", base)
    world.commit({"m.yaml": mission("a", agent=None, priority=70)})
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 70
    assert len(world.events("HistoryRewritten")) == 1
