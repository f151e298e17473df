"""The rulings that the pages show are those of the code."""

from __future__ import annotations

from typing import Any

from cli.compiling import compile_text
from decisions.policy import commands, compiled
from decisions.policy.expression_tokens import MAX_MACRO_NESTING, MAX_NESTING, MAX_TOKENS
from decisions.policy.expressions import FIELDS, MAX_ELEMENTS, MAX_TEXT
from schemas.base import Key
from schemas.policy import MAX_EXPRESSION, VERDICT_BY_LEVEL, HardStop, PolicySpec
from tests.fakes.pages import page, rows
from tests.fakes.policies import agent, ask

HOWTO = page("docs/howto/write-a-policy.md")
RULINGS = page("docs/reference/rulings.md")


def declared() -> compiled.CompiledPolicy:
    text = next(b.text for b in HOWTO.blocks if b.info == "yaml")
    (item,) = compile_text(text.encode(), "policies/house-rules.yaml").declared
    assert item.provenance is not None
    spec = PolicySpec.model_validate(item.spec)
    document = compiled.Document(Key(item.kind, item.namespace, item.name), spec, item.provenance.place)
    return compiled.compile_policy(document)


def test_the_rulings_that_are_shown_are_given() -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("git_push", {"force": True}),
        ("shell_exec", {"command": "git log | head"}),
    ]
    shown = [b.text.strip() for b in HOWTO.blocks if b.info == "text"]
    by = agent(labels={"team": "docs"})
    assert [ask(tool, args, by=by, policies=(declared(),)).explain() for tool, args in calls] == shown


def test_the_entries_that_are_shown_do_what_is_said() -> None:
    table = rows(HOWTO.section("Entries for commands"))[1:]
    assert len(table) >= 5
    for entry, passes, refused in table[:4]:
        compiled_entry = commands.compile_entry(entry.strip("`"))
        for command in passes.split(", "):
            assert commands.matches(compiled_entry, tuple(command.strip("`").split())), command
        for command in refused.split(", "):
            assert not commands.matches(compiled_entry, tuple(command.strip("`").split())), command


def test_the_table_that_is_shown_is_the_one_that_holds() -> None:
    for level, *verdicts in rows(RULINGS.section("The table"))[1:]:
        built_in = [v.value for v in VERDICT_BY_LEVEL[level].values()]  # type: ignore[index]
        assert [text.removesuffix(" within the lists") for text in verdicts] == built_in
    assert {row[0] for row in rows(RULINGS.section("Hard stops"))[1:]} == {stop.value for stop in HardStop}


def test_the_bounds_of_expressions_are_those_of_the_code() -> None:
    text = " ".join(HOWTO.section("Expressions").split())
    assert f"At most {MAX_EXPRESSION} characters, {MAX_TOKENS} words, brackets {MAX_NESTING} deep" in text
    assert f"{MAX_MACRO_NESTING} deep; no `map`" in text
    assert f"above {MAX_TEXT // 1024} Ki characters or {MAX_ELEMENTS[0]} items" in text
    for name, fields in FIELDS.items():
        assert f"`{name}`" in text
        assert [field for field in fields or () if field not in text] == []
