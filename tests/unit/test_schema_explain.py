"""explain: a person asks what a field is, and gets an answer or the names that would have been right."""

from __future__ import annotations

import pytest

from schemas import explain, registry
from schemas.errors import UnknownName


def text(path: str, *, recursive: bool = False) -> str:
    return explain.render(explain.explain(path), recursive=recursive)


def test_a_field_is_explained_with_its_type_default_and_bounds() -> None:
    assert text("mission.spec.retry") == (
        "KIND:       Mission\n"
        "VERSION:    remit.dev/v1alpha1\n"
        "\n"
        "FIELD: spec.retry <Object>\n"
        "\n"
        "DESCRIPTION:\n"
        "    What happens when an attempt fails.\n"
        "\n"
        "FIELDS:\n"
        "  maxAttempts\t<integer> (default 1; 1..100)\n"
        "    Attempts in all, the first included.\n"
        "  backoff\t<Object>\n"
        "    Pauses between attempts.\n"
        "  idempotent\t<boolean> (default false)\n"
        "    Whether repeating is safe after a loss, where the program cannot tell what it did."
    )


def test_a_kind_alone_is_explained_as_the_whole_object() -> None:
    found = explain.explain("mi")
    assert [child.name for child in found.field.fields] == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert found.info.kind == "Mission"
    assert "CONDITIONS:" in text("mi")


def test_the_values_of_an_enum_are_explained_in_their_order() -> None:
    found = explain.explain("schedule.spec.catchUp").field
    assert [value.name for value in found.values] == ["Skip", "Last", "All"]
    assert all(value.description for value in found.values)
    assert found.default == '"Last"'


def test_conditions_are_explained_with_every_reason_of_the_kind() -> None:
    found = explain.explain("mission.status.conditions")
    assert "Succeeded" in found.condition_types
    names = {reason.name for reason in found.reasons}
    assert {str(reason) for reason in registry.by_kind("Mission").reasons} < names
    assert "InternalError" in names
    assert "REASONS:" in text("mission.status.conditions")
    assert "RetriesExhausted    every attempt failed" in text("mission.status.conditions.reason")
    assert explain.explain("mission.spec").reasons == ()


def test_a_reason_that_a_kind_words_itself_is_not_listed_twice() -> None:
    names = [reason.name for reason in explain.explain("budget.status").reasons]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        ("mission.spec.deadline", "duration"),
        ("mission.spec.budget.usd", "money"),
        ("mission.spec.dependsOn", "[]Object"),
        ("mission.spec.dependsOn[0].name", "string"),
        ("mission.spec.input", "map[string]any"),
        ("mission.metadata.labels", "map[string]string"),
        ("policy.spec.risk", "map[string]enum"),
        ("policy.spec.hardStops", "[]enum"),
        ("waiver.spec.expires", "time"),
        ("todo.spec.dueDate", "date"),
        ("schedule.spec.schedule", "cron"),
        ("schedule.spec.timeZone", "time zone"),
        ("mission.spec.priority", "integer or enum"),
        ("channel.spec.telegram.chatId", "integer or string"),
        ("agent.spec.suspend", "boolean"),
        ("budget.spec.warnAt", "number"),
    ],
)
def test_types_are_named_in_the_words_of_people(path: str, type_: str) -> None:
    assert explain.explain(path).field.type == type_


def test_required_fields_are_marked() -> None:
    assert "title\t<string> (required; at most 200 characters)" in text("mission.spec")
    assert explain.explain("waiver.spec.expires").field.required
    assert not explain.explain("mission.spec.workPlan").field.required


def test_everything_below_is_shown_on_request() -> None:
    tree = text("mission.spec", recursive=True)
    assert "  retry\t<Object>\n    maxAttempts\t<integer> (default 1; 1..100)\n    backoff\t<Object>\n" in tree
    assert "Attempts in all" not in tree


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mision", "did you mean Mission?"),
        ("mission.spce", "did you mean spec?"),
        ("mission.spec.retry.maxattempts", "did you mean maxAttempts? There are: maxAttempts, backoff"),
        ("mission.spec.retry.xyz", "mission.spec.retry has no field 'xyz'. There are: maxAttempts, backoff"),
        ("mission.spec.title.x", "it is a string"),
        ("mission.spec.input.x", "free JSON"),
        ("", "there is no kind ''"),
        ("...", "there is no kind ''"),
        ("x" * 10**5, "there is no kind"),
    ],
)
def test_an_unknown_path_is_answered_with_the_names_there_are(path: str, words: str) -> None:
    with pytest.raises(UnknownName) as caught:
        explain.explain(path)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_known_names_come_with_the_error() -> None:
    with pytest.raises(UnknownName) as caught:
        explain.explain("mission.spec.retry.max")
    assert caught.value.known == ("maxAttempts", "backoff", "idempotent")


@pytest.mark.parametrize("name", registry.NAMES, ids=lambda name: name.kind)
def test_every_kind_can_be_explained_down_to_its_leaves(name: registry.KindName) -> None:
    whole = explain.object_doc(name.info)
    for _, field in whole.walk():
        assert explain.explain(f"{name.singular}.{field.path}").field.path == field.path
        if field.path.startswith(("spec.", "status.", "metadata.")):
            assert field.description, field.path
    assert explain.render(explain.explain(name.plural), recursive=True)
