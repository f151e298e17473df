"""Generated files: up to date, complete, and noticed when they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import generate
from schemas import registry
from schemas.conditions import CommonReason
from schemas.event import EventType


def test_the_generated_files_are_up_to_date() -> None:
    assert [str(path) for path in generate.outdated(generate.generated())] == []


def test_every_kind_has_a_page_with_all_its_fields() -> None:
    files = generate.generated()
    index = files[generate.KINDS_DIR / "README.md"]
    for info in registry.KINDS:
        page = files[generate.KINDS_DIR / f"{generate.slug(info.kind)}.md"]
        assert f"# {info.kind}\n" in page
        assert f"({generate.slug(info.kind)}.md)" in index
        for field in (*info.spec.model_fields.values(), *info.status.model_fields.values()):
            assert f"| `{field.alias}` |" in page, (info.kind, field.alias)
        for column in info.columns:
            assert f"| {column.name} | `{column.path}` |" in page


def test_every_declarable_kind_has_an_example_and_a_schema() -> None:
    files = generate.generated()
    for kind in registry.DECLARABLE:
        page = files[generate.KINDS_DIR / f"{generate.slug(kind)}.md"]
        assert f"kind: {kind}\n" in page.partition("## Example")[2].partition("## Spec")[0]
        schema = json.loads(files[generate.SCHEMAS_DIR / f"{generate.slug(kind)}.schema.json"])
        assert schema["title"] == kind
    combined = json.loads(files[generate.SCHEMAS_DIR / "remit.schema.json"])
    assert set(combined["definitions"]) == set(registry.DECLARABLE)


def test_every_reason_of_every_kind_is_in_the_reference() -> None:
    text = generate.reasons_page()
    for info in registry.KINDS:
        if not info.condition_types:
            continue
        section = text.partition(f"## {info.kind}\n")[2].partition("\n## ")[0]
        for reason in info.reasons:
            assert f"| `{reason}` | " in section, (info.kind, reason)
    common = text.partition("## Common\n")[2]
    assert all(f"| `{reason}` |" in common for reason in CommonReason)


def test_every_event_is_in_the_reference() -> None:
    text = generate.events_page()
    assert all(f"| `{event}` | " in text for event in EventType)


def test_words_in_angle_brackets_are_not_lost_in_markdown() -> None:
    page = generate.generated()[generate.KINDS_DIR / "tenant.md"]
    assert "user:&lt;name>" in page


def test_names_of_files_part_the_words_of_a_kind() -> None:
    assert [generate.slug(kind) for kind in ("Mission", "ApprovalRequest", "ToolCall")] == [
        "mission",
        "approval-request",
        "tool-call",
    ]


def test_writing_repairs_the_tree_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    files = {generate.KINDS_DIR / "a.md": "a\n", generate.SCHEMAS_DIR / "a.json": "{}\n"}
    left_over = tmp_path / generate.KINDS_DIR / "gone.md"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("old")
    assert generate.outdated(files, tmp_path) == sorted([*files, generate.KINDS_DIR / "gone.md"])
    assert generate.write(files, tmp_path) == sorted([*files, generate.KINDS_DIR / "gone.md"])
    assert not left_over.exists()
    assert generate.write(files, tmp_path) == []


def test_a_check_fails_on_an_outdated_tree_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = [Path("docs/reference/kinds/mission.md")]
    monkeypatch.setattr(generate, "outdated", lambda files: stale)
    monkeypatch.setattr(generate, "write", lambda files: pytest.fail("a check writes nothing"))
    assert generate.main(["--check"]) == 1
    captured = capsys.readouterr()
    assert "out of date: docs/reference/kinds/mission.md" in captured.out
    assert "make generate" in captured.err
