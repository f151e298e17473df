"""What people do with kubectl: who did it is whoever the cluster authenticated, and what is denied by command is denied
there, too. The cluster is played; tests/kubernetes/test_acts.py has a real one."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from controllers.sources.kubernetes_acts import author_of
from tests.fakes.admitted import AdmittedCluster, decision, declared_by, document
from tests.fakes.consent import Office, policy, tenant
from tests.fakes.world import World, agent, executor, mission

ESTOP = {"scope": "Global", "mode": "Stop", "reason": "it writes to customers"}


@pytest.fixture
def cluster(world: World) -> AdmittedCluster:
    return AdmittedCluster(world)


def fleet(world: World, *more: str) -> None:
    world.commit({"fleet.yaml": "---\n".join([executor(), agent(), mission("a"), *more])})
    world.sync()


# Who decided.


def test_an_answer_counts_for_the_user_that_the_cluster_authenticated(cluster: AdmittedCluster) -> None:
    office = Office(cluster.world)
    request = office.ask()
    assert cluster.apply(decision(request, reason="read it"), "alice", ("team",)) == ""
    made = cluster.world.get("ApprovalDecision", "mine")
    assert cluster.world.reason("ApprovalDecision", "mine", "Succeeded") == "True/Counted"
    assert (made.status["subject"], made.status["transport"]) == ("user:alice", "Kubernetes")
    assert made.status["groups"] == ["team", "system:authenticated"]
    assert made.status["proof"].startswith("admission question-")
    decided = cluster.world.get("ApprovalRequest", request.name).status
    assert (decided["decidedBy"], decided["decidedVia"]) == ("user:alice", "Kubernetes")
    assert [e.actor.subject for e in cluster.world.events("ActAdmitted", "ApprovalDecided")] == ["user:alice"] * 2


@pytest.mark.parametrize("forged", ["decidedBy", "status", "annotation"])
def test_who_forges_a_name_in_the_document_is_refused(cluster: AdmittedCluster, forged: str) -> None:
    request = Office(cluster.world).ask()
    wanted = decision(request)
    if forged == "decidedBy":
        wanted["spec"]["decidedBy"] = "user:boss"
    elif forged == "status":
        wanted["status"] = {"subject": "user:boss"}
    else:
        wanted["metadata"]["annotations"] = {"remit.dev/decided-by": "boss"}
    said = cluster.apply(wanted, "mallory")
    assert {"decidedBy": "spec.decidedBy: unknown field", "status": "status: status has no place in a declaration",
            "annotation": "the engine knows no such annotation"}[forged] in said  # fmt: skip
    assert not cluster.objects


def test_an_act_that_the_engine_was_not_asked_about_proves_nobody(cluster: AdmittedCluster) -> None:
    office = Office(cluster.world)
    request = office.ask()
    cluster.installed = False
    assert cluster.apply(decision(request)) == ""
    assert cluster.world.reason("ApprovalDecision", "mine", "Succeeded") == "False/IdentityUnproven"
    refused = cluster.world.events("DecisionRefused")[-1]
    assert "the engine was not asked who made it" in refused.message
    assert office.state(request) == "Pending"


def test_an_object_with_another_spec_or_uid_than_was_admitted_proves_nobody(cluster: AdmittedCluster) -> None:
    office = Office(cluster.world)
    request = office.ask()
    assert cluster.apply(decision(request, "Deny", reason="no"), brought=False) == ""
    (key,) = cluster.objects
    cluster.objects[key]["spec"]["verdict"] = "Approve"
    cluster.watch()
    assert cluster.world.reason("ApprovalDecision", "mine", "Succeeded") == "False/IdentityUnproven"
    assert cluster.apply(decision(request, name="other"), brought=False) == ""
    cluster.objects[key._replace(name="other")]["metadata"]["uid"] = "00000000-0000-4000-8000-ffffffffffff"
    cluster.watch()
    assert cluster.world.reason("ApprovalDecision", "other", "Succeeded") == "False/IdentityUnproven"
    assert office.state(request) == "Pending"


def test_a_second_review_of_one_object_by_another_user_makes_nobody_of_both(cluster: AdmittedCluster) -> None:
    request = Office(cluster.world).ask()
    assert cluster.apply(decision(request), "mallory", brought=False) == ""
    (made,) = cluster.objects.values()
    assert cluster.ask("CREATE", made, None, "boss") == ""
    cluster.watch()
    assert cluster.world.reason("ApprovalDecision", "mine", "Succeeded") == "False/IdentityUnproven"


def test_a_question_that_is_asked_again_is_written_down_once(cluster: AdmittedCluster) -> None:
    request = Office(cluster.world).ask()
    assert cluster.apply(decision(request), brought=False) == ""
    assert cluster.again() == ""
    assert len(cluster.world.events("ActAdmitted")) == 1
    cluster.watch()
    cluster.watch()
    assert cluster.world.reason("ApprovalDecision", "mine", "Succeeded") == "True/Counted"
    assert len(cluster.world.events("ApprovalDecided")) == 1


def test_a_dry_run_is_judged_and_leaves_nothing_behind(cluster: AdmittedCluster) -> None:
    world = cluster.world
    request = Office(world).ask()
    before = len(world.events())
    assert cluster.apply(decision(request), dry_run=True) == ""
    assert "StaleDecision" in cluster.apply(decision(request, actionDigest="sha256:" + "0" * 64), dry_run=True)
    assert len(world.events()) == before


# What is denied.


def test_whoever_may_not_answer_is_told_so_at_once(cluster: AdmittedCluster) -> None:
    office = Office(cluster.world, policy(quorum=1), tenant(ada="Approver", vera="Viewer"))
    request = office.ask()
    said = cluster.apply(decision(request), "vera")
    assert said == "it had no effect: NotAnApprover: user:vera is not among those who may answer"
    refused = cluster.world.events("DecisionRefused")[-1]
    assert (refused.actor.subject, refused.reason) == ("user:vera", "NotAnApprover")
    assert cluster.apply(decision(request), "ada") == ""
    assert office.state(request) == "Approved"


def test_groups_of_the_cluster_give_roles(cluster: AdmittedCluster) -> None:
    roles = tenant(ada="Approver") + "  groups:\n  - {claim: 'oncall', role: Approver}\n"
    request = Office(cluster.world, policy(quorum=1), roles).ask()
    assert "NotAnApprover" in cluster.apply(decision(request), "bob")
    assert cluster.apply(decision(request, name="second"), "bob", ("oncall",)) == ""


def test_a_second_answer_comes_too_late(cluster: AdmittedCluster) -> None:
    request = Office(cluster.world).ask()
    assert cluster.apply(decision(request, "Deny", reason="no")) == ""
    assert "AlreadyDecided" in cluster.apply(decision(request, name="late"), "bob")


def test_an_answer_is_made_once(cluster: AdmittedCluster) -> None:
    request = Office(cluster.world).ask()
    assert cluster.apply(decision(request, "Deny", reason="no")) == ""
    assert "an act is made once" in cluster.apply(decision(request))
    assert cluster.delete("ApprovalDecision", "mine") == ""
    assert cluster.world.events("ApprovalDecided")


def test_the_author_of_a_mission_is_the_user_who_applied_it(cluster: AdmittedCluster) -> None:
    wanted = document("Mission", "own", {"title": "own", "agentRef": {"name": "worker"}})
    assert cluster.apply(wanted, "ada", brought=False) == ""
    assert cluster.ask("UPDATE", wanted, wanted, "argocd") == ""  # nothing changes: nothing is written down
    (made,) = cluster.objects.values()
    declared = declared_by(made)
    with cluster.world.store.snapshot() as snapshot:
        assert author_of(snapshot, declared) == "ada"
        assert author_of(snapshot, replace(declared, spec={**declared.spec, "title": "other"})) == ""
    # Somebody who makes up a review that names another one stays an author.
    uid = made["metadata"]["uid"]
    invented = {**wanted, "metadata": {**wanted["metadata"], "uid": uid}}
    other = {**invented, "spec": {**wanted["spec"], "title": "other"}}
    assert cluster.ask("UPDATE", invented, other, "bob") == ""
    with cluster.world.store.snapshot() as snapshot:
        assert author_of(snapshot, declared) == "ada\nbob"


# Confirmations.


def plan_that_waits(world: World) -> str:
    world.commit({f"m{n}.yaml": mission(f"m{n}") for n in range(10)} | {"fleet.yaml": executor() + "---\n" + agent()})
    world.sync()
    world.commit(delete=tuple(f"m{n}.yaml" for n in range(10)))
    world.sync()
    return next(plan.digest for unit in world.source.units for plan in unit.pending)


def test_a_confirmation_releases_the_plan_for_its_user(cluster: AdmittedCluster) -> None:
    digest = plan_that_waits(cluster.world)
    wrong = document("Confirmation", "wrong", {"planDigest": "sha256:" + "0" * 64})
    assert "the plan that waits has another digest" in cluster.apply(wrong)
    assert cluster.apply(document("Confirmation", "go", {"planDigest": digest})) == ""
    cluster.world.sync()
    status = cluster.world.get("Confirmation", "go").status
    assert (status["confirmedBy"], status["transport"]) == ("user:alice", "Kubernetes")
    assert status["usedAt"]


def test_a_confirmation_that_proves_nobody_releases_nothing(cluster: AdmittedCluster) -> None:
    digest = plan_that_waits(cluster.world)
    cluster.installed = False
    assert cluster.apply(document("Confirmation", "go", {"planDigest": digest})) == ""
    cluster.world.sync()
    assert cluster.world.reason("Confirmation", "go", "Succeeded") == "False/IdentityUnproven"
    assert "usedAt" not in cluster.world.get("Confirmation", "go").status


# Holds.


def test_a_hold_is_placed_and_released_by_users_of_the_cluster(cluster: AdmittedCluster) -> None:
    fleet(cluster.world)
    hold = document("Hold", "wait", {"selector": {"names": ["worker"]}, "reason": "looks wrong"})
    assert cluster.apply(hold) == ""
    assert cluster.world.get("Hold", "wait").status["placedBy"] == "user:alice"
    assert cluster.delete("Hold", "wait", "bob") == ""
    assert cluster.world.find("Hold", "wait") is None
    assert [e.actor.subject for e in cluster.world.events("ActAdmitted")] == ["user:alice", "user:bob"]


def test_a_hold_of_nobody_stops_work_and_is_not_released_by_nobody(cluster: AdmittedCluster) -> None:
    fleet(cluster.world)
    cluster.installed = False
    assert cluster.apply(document("Hold", "wait", {"selector": {"names": ["worker"]}, "reason": "?"})) == ""
    assert cluster.world.get("Hold", "wait").status["placedBy"] == "nobody proven"
    assert cluster.delete("Hold", "wait") == ""
    assert cluster.world.get("Hold", "wait")
    cluster.watch()
    (refused,) = cluster.world.events("DecisionRefused")
    assert "nobody is proven to have released it; apply it again" in refused.message
    cluster.installed = True
    assert cluster.apply(document("Hold", "wait", {"selector": {"names": ["worker"]}, "reason": "?"})) == ""
    assert cluster.delete("Hold", "wait") == ""
    assert cluster.world.find("Hold", "wait") is None


def test_a_hold_that_was_placed_by_command_is_released_by_command(cluster: AdmittedCluster) -> None:
    fleet(cluster.world)
    spec = {"selector": {"names": ["worker"]}, "reason": "?"}
    cluster.world.act("Hold", "mine", spec, {"placedBy": "user:ann"})
    said = cluster.ask("DELETE", None, document("Hold", "mine", spec) | {"metadata": {"name": "mine", "uid": "u"}}, "x")
    assert said == "hold/mine is no object of this cluster: remit release hold/mine"


def test_a_hold_over_everything_stands_where_everybody_looks(cluster: AdmittedCluster) -> None:
    wanted = document("Hold", "all", {**ESTOP})
    wanted["metadata"]["namespace"] = "acme"
    assert "stands in the namespace default" in cluster.apply(wanted)


def test_the_release_of_an_estop_needs_a_reason_and_as_many_people_as_policies_say(cluster: AdmittedCluster) -> None:
    world = cluster.world
    fleet(world, policy(quorum=2))
    assert cluster.apply(document("Hold", "estop", ESTOP)) == ""
    assert "its release needs a reason: kubectl annotate hold estop" in cluster.delete("Hold", "estop")
    assert cluster.apply(document("Hold", "estop", ESTOP, release_reason="fixed")) == ""
    assert voices(world) == ["user:alice"]
    for dry_run in (True, False, False):
        said = cluster.delete("Hold", "estop", dry_run=dry_run)
        assert "1 more person(s) have to ask for the same first, each by kubectl annotate --overwrite" in said
    assert cluster.delete("Hold", "estop", "bob") == ""
    assert world.find("Hold", "estop") is None


def voices(world: World) -> list[str]:
    return [voice["subject"] for voice in world.get("Hold", "estop").status.get("voices", ())]


def test_voices_are_counted_for_whoever_gave_the_reason_that_the_cluster_keeps(cluster: AdmittedCluster) -> None:
    world = cluster.world
    fleet(world, policy(quorum=3))
    assert cluster.apply(document("Hold", "estop", ESTOP)) == ""
    assert cluster.apply(document("Hold", "estop", ESTOP, release_reason="fixed"), "alice") == ""
    assert cluster.apply(document("Hold", "estop", ESTOP, release_reason="I saw it"), "bob") == ""
    assert voices(world) == ["user:alice", "user:bob"]
    asked = world.events("ReleaseAsked")
    assert [event.actor.subject for event in asked] == ["user:alice", "user:bob"]
    assert "1 more" in cluster.delete("Hold", "estop", "bob")
    assert cluster.delete("Hold", "estop", "carol") == ""


def test_reviews_that_somebody_made_up_are_no_voices(cluster: AdmittedCluster) -> None:
    """Whoever may read the configuration of webhooks knows where reviews are taken."""
    world = cluster.world
    fleet(world, policy(quorum=2))
    assert cluster.apply(document("Hold", "estop", ESTOP)) == ""
    (kept,) = cluster.objects.values()
    made_up = copy.deepcopy(kept)
    made_up["metadata"]["annotations"] = {"remit.dev/release-reason": "all is well"}
    assert "1 more person" in cluster.ask("DELETE", None, made_up, "bob")
    assert cluster.ask("UPDATE", made_up, kept, "bob") == ""
    cluster.watch()
    assert voices(world) == [], "the cluster keeps nothing of it"
    assert cluster.apply(document("Hold", "estop", ESTOP, release_reason="all is well"), "mallory") == ""
    assert voices(world) == [], "two are said to have given it"
    assert "two users are said to have given that reason" in world.events("DecisionRefused")[-1].message
    assert "1 more person" in cluster.delete("Hold", "estop", "mallory")
    cluster.installed = False
    assert cluster.apply(document("Hold", "estop", ESTOP, release_reason="nobody looks"), "mallory") == ""
    assert voices(world) == []
    assert "the engine was not asked" in world.events("DecisionRefused")[-1].message


def test_a_part_of_an_estop_is_asked_for_by_as_many(cluster: AdmittedCluster) -> None:
    world = cluster.world
    fleet(world, policy(quorum=2))
    assert cluster.apply(document("Hold", "estop", ESTOP)) == ""
    agents = {"agents": [{"name": "worker", "namespace": "default"}]}
    wrong = document("Hold", "estop", ESTOP, release_reason="try one", release_part="worker")
    assert "release-part is JSON like spec.released" in cluster.apply(wrong)
    asked = document("Hold", "estop", ESTOP, release_reason="try one", release_part=json.dumps(agents))
    assert cluster.apply(asked) == ""
    assert voices(world) == ["user:alice"]
    part = document("Hold", "estop", {**ESTOP, "released": agents}, release_reason="try one")
    assert "1 more person" in cluster.apply(part, "alice")
    assert "1 more person" in cluster.delete("Hold", "estop", "bob"), "nobody asked for all of it"
    assert cluster.apply(part, "bob") == ""
    assert world.reason("Hold", "estop", "Ready") == "True/PartlyReleased"


def test_of_an_estop_only_a_part_is_released_by_an_edit(cluster: AdmittedCluster) -> None:
    world = cluster.world
    fleet(world)
    assert cluster.apply(document("Hold", "estop", ESTOP)) == ""
    assert "only released can be changed" in cluster.apply(document("Hold", "estop", {**ESTOP, "mode": "Hold"}))
    part = {**ESTOP, "released": {"agents": [{"name": "worker", "namespace": "default"}]}}
    assert "needs a reason" in cluster.apply(document("Hold", "estop", part))
    assert cluster.apply(document("Hold", "estop", part, release_reason="try one")) == ""
    assert world.reason("Hold", "estop", "Ready") == "True/PartlyReleased"
    cluster.watch()
    assert "takes no part back" in cluster.apply(document("Hold", "estop", ESTOP, release_reason="again"))


# Every other kind.


def test_a_bad_spec_is_refused_with_the_words_that_a_file_gets(cluster: AdmittedCluster) -> None:
    said = cluster.apply(document("Mission", "m", {"title": "t", "review": "humn"}))
    assert said == "spec.review: 'humn' is not one of the choices; expected Human, Auto or None (did you mean Human?)"
    assert "spec.bogus: unknown field" in cluster.apply(document("Agent", "a", {"bogus": 1}))


def test_records_are_written_by_the_engine_alone(cluster: AdmittedCluster) -> None:
    run = document("Run", "r", {"title": "x"})
    assert cluster.apply(run) == "Run is a record: the engine writes it and nobody declares it"
    assert cluster.ask("CREATE", run, None, "system:serviceaccount:remit:engine") == ""
    assert cluster.ask("DELETE", None, run, "system:serviceaccount:kube-system:namespace-controller") == ""


def test_nobody_passes_off_what_they_write_as_made_by_the_engine(cluster: AdmittedCluster) -> None:
    request = Office(cluster.world).ask()
    wanted = decision(request)
    wanted["metadata"]["labels"] = {"remit.dev/made-by": "remit"}
    assert "nothing that is written there counts" in cluster.apply(wanted)
    assert cluster.apply(wanted, "system:serviceaccount:remit:engine", brought=False) == ""
    assert cluster.world.events("ActAdmitted") == []


def test_a_user_who_cannot_be_named_does_nothing(cluster: AdmittedCluster) -> None:
    request = Office(cluster.world).ask()
    assert "cannot stand in a record" in cluster.apply(decision(request), "")
