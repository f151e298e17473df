"""The registry: names of kinds, lazy imports, and the check of one document."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from schemas import registry
from schemas.base import SpecMeta
from schemas.errors import UnknownName
from schemas.kind import ObjectClass
from schemas.registry import DocumentProblem, ModelProblem
from schemas.resource import Declared


def document(**changes: Any) -> dict[str, Any]:
    whole = {
        "apiVersion": "remit.dev/v1alpha1",
        "kind": "Mission",
        "metadata": {"name": "audit-links"},
        "spec": {"title": "Check every link"},
    }
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


def declared(value: Any) -> Declared:
    checked = registry.check_document(value, default_namespace="acme")
    assert isinstance(checked, Declared), [str(problem) for problem in checked]
    return checked


def problems(value: Any) -> list[str]:
    checked = registry.check_document(value, default_namespace="acme")
    assert isinstance(checked, list), checked
    assert checked, "a refusal names a problem"
    return [str(problem) for problem in checked]


def test_the_table_of_names_agrees_with_every_kind() -> None:
    assert len(registry.KINDS) == len(registry.NAMES)
    for name, info in zip(registry.NAMES, registry.KINDS, strict=True):
        assert (name.kind, name.plural, name.short_names) == (info.kind, info.plural, info.short_names)
        assert (name.object_class, name.namespaced) == (info.object_class, info.namespaced)
        assert name.singular == info.singular
        assert registry.by_kind(name.kind) is info


def test_no_two_kinds_share_a_name() -> None:
    texts = [text for name in registry.NAMES for text in (name.singular, name.plural, *name.short_names)]
    assert len(texts) == len(set(texts))


def test_the_classes_hold_the_kinds_of_the_design() -> None:
    intents = (
        "Tenant Project Agent Executor Provider Policy ToolServer Waiver Budget "
        "Goal Todo Mission Schedule Calendar Channel Source"
    )
    records = "Run ToolCall Session Message Thread ApprovalRequest Alert Notification UsageRecord Event Timer Effect"
    assert tuple(intents.split()) == registry.INTENTS
    assert registry.ACTS == ("ApprovalDecision", "Hold", "Confirmation")
    assert tuple(records.split()) == registry.RECORDS
    assert (*registry.INTENTS, *registry.ACTS) == registry.DECLARABLE
    for info in registry.KINDS:
        group = {ObjectClass.INTENT: registry.INTENTS, ObjectClass.ACT: registry.ACTS}
        assert info.kind in group.get(info.object_class, registry.RECORDS)


@pytest.mark.parametrize("text", ["Mission", "mission", "missions", "MI", " Missions "])
def test_a_kind_answers_to_every_name_in_any_case(text: str) -> None:
    assert registry.by_name(text).kind == "Mission"


def test_words_of_a_kind_may_be_parted() -> None:
    assert registry.find_name("approval-requests").kind == "ApprovalRequest"
    assert registry.find_name("tool_call").kind == "ToolCall"
    assert registry.find_name("approvals").kind == "ApprovalRequest"


@pytest.mark.parametrize(("text", "kind"), [("mision", "Mission"), ("agnets", "Agent"), ("polices", "Policy")])
def test_a_misspelt_kind_gets_a_suggestion(text: str, kind: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean {kind}") as caught:
        registry.by_name(text)
    assert "missions" in caught.value.known


def test_by_kind_takes_exact_names_only() -> None:
    with pytest.raises(UnknownName):
        registry.by_kind("missions")


def test_importing_the_registry_imports_no_kind_and_no_pydantic() -> None:
    code = (
        "import sys, schemas.registry as r;"
        "heavy = {'pydantic', 'jsonschema', 'cronsim', 'schemas.mission', 'schemas.base'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "list(r.KINDS);"
        "late = {'jsonschema', 'cronsim'} & set(sys.modules);"
        "assert not late, late"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_slices_of_the_kinds_work_like_those_of_a_tuple() -> None:
    assert [info.kind for info in registry.KINDS[:2]] == ["Tenant", "Project"]
    assert registry.KINDS[-1].kind == "Effect"


# One document --------------------------------------------------------------------------------------------------------


def test_a_document_becomes_a_declaration_with_every_default() -> None:
    found = declared(document(metadata={"name": "a", "labels": {"team": "x"}, "annotations": {"note": "n"}}))
    assert (found.kind, found.namespace, found.name) == ("Mission", "acme", "a")
    assert found.labels == {"team": "x"}
    assert found.annotations == {"note": "n"}
    assert found.provenance is None
    assert found.spec["priority"] == 50
    assert found.spec["retry"] == {
        "maxAttempts": 1,
        "backoff": {"initial": "2s", "max": "5m", "jitter": 0.2},
        "idempotent": False,
    }


def test_a_declared_namespace_wins_over_the_default_one() -> None:
    assert declared(document(metadata={"name": "a", "namespace": "other"})).namespace == "other"


def test_a_cluster_scoped_kind_has_no_namespace() -> None:
    tenant = document(kind="Tenant", spec={})
    assert declared({**tenant, "metadata": {"name": "acme"}}).namespace == ""
    assert problems({**tenant, "metadata": {"name": "acme", "namespace": "acme"}}) == [
        "metadata.namespace: a Tenant belongs to no namespace (remove it)"
    ]


def test_a_tenant_is_called_as_a_namespace_may_be_called() -> None:
    (line,) = problems(document(kind="Tenant", metadata={"name": "a.b"}, spec={}))
    assert line.startswith("metadata.name: a namespace cannot be called like that")


def test_names_leave_room_for_the_names_made_from_them() -> None:
    longest = registry.by_kind("Mission").max_name
    assert declared(document(metadata={"name": "a" * longest})).name
    (line,) = problems(document(metadata={"name": "a" * (longest + 1)}))
    assert line.startswith("metadata.name: too long")


@pytest.mark.parametrize("value", [None, [], "text", 3, True])
def test_what_is_no_mapping_is_no_object(value: Any) -> None:
    (line,) = problems(value)
    assert line.startswith("not an object")


def test_unknown_fields_of_the_document_are_refused_with_a_suggestion() -> None:
    (line,) = problems(document(metdata={}))
    assert line.startswith("metdata: unknown field")
    assert "did you mean metadata?" in line
    (line,) = problems(document(priority=3))
    assert "stands under spec" in line


@pytest.mark.parametrize("field", ["status", "provenance"])
def test_what_the_engine_writes_is_refused_in_a_declaration(field: str) -> None:
    (line,) = problems(document(**{field: {}}))
    assert line == f"{field}: {field} has no place in a declaration (remove it: the engine writes it)"


def test_metadata_of_the_engine_is_refused_field_by_field() -> None:
    found = problems(document(metadata={"name": "a", "uid": "1", "generation": 2, "resourceVersion": "3"}))
    assert [line.split(":")[0] for line in found] == ["metadata.uid", "metadata.generation", "metadata.resourceVersion"]


@pytest.mark.parametrize("version", ["v1", "remit.dev/v1", None, 1, ...])
def test_only_the_known_version_is_accepted(version: Any) -> None:
    (line,) = problems(document(apiVersion=version))
    assert line.startswith("apiVersion: ")
    assert "remit.dev/v1alpha1" in line


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Misson", "did you mean Mission?"),
        ("mission", "did you mean Mission?"),
        ("List", "one of Tenant"),
        ("Deployment", "one of Tenant"),
        ("Run", "Run is a record: the engine writes it"),
        ("Event", "Event is a record"),
        (3, "not the name of a kind"),
        (None, "not the name of a kind"),
        (..., "missing"),
    ],
)
def test_a_wrong_kind_is_refused_in_words_that_help(kind: Any, words: str) -> None:
    (line,) = problems(document(kind=kind))
    assert line.startswith("kind: ")
    assert words in line


@pytest.mark.parametrize("spec", [None, [], "", ...])
def test_an_emptied_spec_never_means_every_default(spec: Any) -> None:
    (line,) = problems(document(kind="Policy", spec=spec))
    assert line.startswith("spec: ")
    assert "{}" in line


def test_an_empty_mapping_is_a_spec() -> None:
    assert declared(document(kind="Policy", spec={})).spec["hardStops"]


@pytest.mark.parametrize("metadata", [None, [], ..., "a"])
def test_metadata_is_a_mapping(metadata: Any) -> None:
    (line,) = problems(document(metadata=metadata))
    assert line.startswith("metadata: ")


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    found = problems({"apiVersion": "v1", "kind": "Mission", "metadata": {"name": "A"}, "spec": {"titel": "x"}, "x": 1})
    assert [line.split(":")[0] for line in found] == ["x", "apiVersion", "metadata.name", "spec.title"]
    assert "\nspec.titel: " in found[-1]


def test_problems_carry_what_a_position_is_found_by() -> None:
    checked = registry.check_document(document(spec={"retry": {"maxAttempts": 0}}, foo=1), default_namespace="d")
    assert isinstance(checked, list)
    outer, inner = checked
    assert isinstance(outer, DocumentProblem)
    assert outer.path == ("foo",)
    assert isinstance(inner, ModelProblem)
    assert inner.prefix == ("spec",)
    assert inner.model is registry.by_kind("Mission").spec
    assert {fault["loc"] for fault in inner.error.errors()} == {("title",), ("retry", "maxAttempts")}


def test_fields_go_by_their_wire_name_only() -> None:
    (line,) = problems(document(spec={"title": "x", "work_plan": "y"}))
    assert line.startswith("spec.work_plan: ")


def test_request_tokens_are_checked_for_their_spelling() -> None:
    fine = document(metadata={"name": "a", "annotations": {"remit.dev/retry-requested-at": "1", "my.org/x": "2"}})
    assert declared(fine).annotations == {"remit.dev/retry-requested-at": "1", "my.org/x": "2"}
    (line,) = problems(document(metadata={"name": "a", "annotations": {"remit.dev/retry-request-at": "1"}}))
    assert "did you mean remit.dev/retry-requested-at?" in line


def test_hostile_documents_are_refused_and_not_raised() -> None:
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(500):
        inner["a"] = {}
        inner = inner["a"]
    for spec in (
        {"title": "x", "input": deep},
        {"title": "x", "input": {"n": 10**400}},
        {"title": "x", "input": {"n": float("nan")}},
        {"title": "x", "input": {"n": {1, 2}}},
        {"title": "x", "input": {1: 2}},
        {"title": "x", "deadline": "99999999999999d"},
        {"title": "x", "budget": {"usd": 10**5000}},
        {"title": "x" * 10**6},
        {"title": "x", "retry": {"maxAttempts": True}},
        {"title": "x", "ttlSecondsAfterFinished": 10**30},
    ):
        assert problems(document(spec=spec))
    assert problems({1: 2, None: 3, "kind": "x" * 10**6, "apiVersion": {}, "metadata": {"name": "../../etc"}})


def test_the_check_costs_little_beside_validation_itself() -> None:
    value = document(
        metadata={"name": "a", "labels": {"team": "x"}},
        spec={"title": "x", "agentRef": {"name": "a"}, "deadline": "2h"},
    )
    declared(value)
    model = registry.by_kind("Mission").spec

    def cpu(work: Any) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for _ in range(400):
                work()
            best = min(best, time.process_time() - start)
        return best

    whole = cpu(lambda: registry.check_document(value, default_namespace="d"))
    validation = cpu(lambda: (model.model_validate(value["spec"]).to_wire(), SpecMeta(**value["metadata"])))
    # 10,000 documents: the difference must stay well below a second.
    assert (whole - validation) * 25 < 1.0
