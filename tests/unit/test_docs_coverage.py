"""What exists is in the documents: kinds, reasons, types of events, settings, variables, make targets; and the figures
that the pages name are those of the code."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from typing import Any, cast

from api.agents.limits import AgentLimits
from api.agents.runs import MOST_WAIT_S
from cli import project
from controllers.dispatch import supervisor
from controllers.reconcilers import missions, unreconciled
from controllers.runs import artifacts, once, reports
from controllers.runtime import resync
from controllers.sources import sync
from controllers.wiring import KEEP_RUN_FILES, make_reconcilers
from decisions import agent as agents
from decisions import dispatch, mission, mission_pass, plan
from schemas import registry, resource
from schemas.conditions import CommonReason
from schemas.config import Config, SourceChoice
from schemas.event import EventType
from schemas.executor import ExecutorType
from schemas.kind import ObjectClass
from schemas.quantities import format_duration
from tests.fakes.pages import ROOT, page, pages, rows, written_pages

EVERYTHING = "\n".join(p.text for p in pages())
BY_HAND = "\n".join(p.text for p in written_pages())


def _missing(words: list[str], text: str = EVERYTHING) -> list[str]:
    there = set(re.findall(r"[A-Za-z0-9]+", text))
    return [word for word in words if word not in there]


def test_every_kind_is_documented() -> None:
    assert _missing([name.kind for name in registry.NAMES]) == []


def test_every_reason_of_a_condition_is_documented() -> None:
    reasons = {str(reason) for info in registry.KINDS for reason in info.reasons} | {str(r) for r in CommonReason}
    assert _missing(sorted(reasons)) == []


def test_every_type_of_event_is_documented() -> None:
    assert _missing([str(t) for t in EventType]) == []


def test_every_annotation_that_the_engine_knows_is_explained() -> None:
    shown = {row[0].strip("`") for row in rows(page("docs/explanation/semantics.md").section("Requests"))[1:]}
    assert shown == set(resource.KNOWN_ANNOTATIONS)


# Configuration.


_SECTIONS = ("source", "source.git", "source.directory", "source.kubernetes", "secrets", "standup")


def _keys(model: type, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        path = prefix + (field.alias or name)
        inner = _choices(path) if path in _SECTIONS else None
        if inner is None:
            default = field.get_default(call_default_factory=True)
            found[path] = default
        else:
            found |= _keys(inner, f"{path}.")
    return found


def _choices(path: str) -> type:
    from schemas.config import DirectorySource, GitSource, KubernetesSource
    from schemas.secrets_config import SecretsConfig
    from schemas.standup import Standup

    sections: dict[str, type] = {"source": SourceChoice, "source.git": GitSource, "source.directory": DirectorySource}
    sections["source.kubernetes"] = KubernetesSource
    return {**sections, "secrets": SecretsConfig, "standup": Standup}[path]


def _table() -> dict[str, list[str]]:
    return {row[0].strip("`"): row for row in rows(page("docs/reference/config.md").section("Keys"))[1:]}


def test_every_key_of_the_configuration_is_in_its_table_with_its_default() -> None:
    keys = _keys(Config)
    table = _table()
    assert sorted(table) == sorted(keys)
    for key, default in keys.items():
        text = "" if default is None else "[]" if default == () else str(getattr(default, "value", default))
        shown = table[key][1].strip("`")
        if isinstance(default, timedelta) or key.endswith("interval") or key == "secrets.cache":
            assert shown == ("30s" if key == "secrets.cache" else "60s"), key
        else:
            assert shown == text, key


def test_every_variable_and_flag_stands_beside_its_key() -> None:
    table = _table()
    for variable, path in project._ENVIRONMENT.items():
        assert table[".".join(path)][2] == f"`{variable}`"
    variables = {row[2].strip("`") for row in table.values() if row[2]}
    assert variables == set(project._ENVIRONMENT)


def test_every_variable_that_the_code_reads_is_documented() -> None:
    found: set[str] = set()
    for folder in ("api", "cli", "controllers", "decisions", "schemas", "store", "client"):
        for file in (ROOT / folder).rglob("*.py"):
            found |= set(re.findall(r"\bREMIT_[A-Z][A-Z_]*[A-Z]\b", file.read_text(encoding="utf-8")))
    assert {"REMIT_URL", "REMIT_STORE"} <= found
    assert [name for name in sorted(found) if name not in BY_HAND] == []


# What this version does.


def test_the_readme_names_the_kinds_that_are_acted_on() -> None:
    nothing = [lambda *given: None for _ in inspect.signature(make_reconcilers).parameters]
    reconcilers = cast(Any, make_reconcilers)(*nothing)
    acted = {
        kind
        for kind, reconciler in reconcilers.items()
        if reconciler is not unreconciled.reconcile and kind in registry.DECLARABLE
    }
    text = page("README.md").section("What this version does")
    match = re.search(r"These kinds are acted on:([^.]*)\.", text.replace("\n", " "))
    assert match is not None
    shown = set(
        re.findall(r"[A-Z][A-Za-z]+", match[1].replace("of type Command, Http, A2A, Pull and KubernetesJob", ""))
    )
    assert shown == acted
    intents = [n.kind for n in registry.NAMES if n.object_class is ObjectClass.INTENT and n.kind not in acted]
    assert _missing(intents, text) == []
    run = (ExecutorType.COMMAND, ExecutorType.HTTP, ExecutorType.PULL)
    assert _missing([t.value for t in ExecutorType if t not in run], text) == []


def test_the_changelog_counts_the_kinds_that_people_declare() -> None:
    assert f"{len(registry.DECLARABLE)} kinds that people declare" in page("CHANGELOG.md").text


def test_every_make_target_is_listed() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = {row[0].strip("`").removeprefix("make ") for row in rows(page("CONTRIBUTING.md").section("Set-up"))[1:]}
    missing = set(targets) - shown - {"help", "install"}
    assert missing == set()
    assert shown <= set(targets)


# Figures.


def _says(path: str, *texts: str) -> None:
    flat = re.sub(r"\s+", " ", page(path).text)
    assert [text for text in texts if text not in flat] == []


def test_the_figures_of_the_pages_are_those_of_the_code() -> None:
    prune = f"max({plan.PRUNE_FLOOR}, {plan.PRUNE_SHARE * 100:.0f} %)"
    for path in ("README.md", "docs/explanation/semantics.md", "docs/howto/gate-a-deletion.md"):
        _says(path, prune)
    hours = format_duration(missions.APPROVAL_LIFE)
    assert hours == "111h"
    for path in ("README.md", "docs/howto/answer-a-review.md", "docs/reference/mission-states.md"):
        _says(path, "111 h")
    assert missions.REMIND_AFTER == missions.APPROVAL_LIFE / 2
    _says("docs/explanation/semantics.md", f"{mission.CANCEL_DEADLINE.total_seconds() / 60:.0f} minutes")
    _says("docs/explanation/semantics.md", f"stopped after {agents.DRAIN_DEADLINE.total_seconds() / 60:.0f} minutes")
    _says("docs/explanation/semantics.md", f"each {dispatch.AGE_STEP.total_seconds() / 60:.0f} minutes of waiting")
    _says("docs/explanation/semantics.md", f"After {sync.RECHECK.total_seconds() / 60:.0f} minutes")
    _says("docs/architecture.md", f"every {resync.INTERVAL_S / 60:.0f} minutes", f"for {supervisor.IDLE_EXIT_S:.0f} s")
    _says("docs/reference/mission-states.md", f"the last {mission_pass.KEEP_TRANSITIONS} stand")
    _says("docs/howto/back-up-and-restore.md", f"ended {KEEP_RUN_FILES.days} days ago")


def test_the_limits_of_the_agent_port_are_those_of_the_code() -> None:
    limits = AgentLimits()
    mebi, kibi = 1024 * 1024, 1024
    _says(
        "docs/reference/agent-protocol.md",
        f"{limits.requests_per_s:.0f} a second in the long run, {limits.burst} at once",
        f"{limits.in_flight}, and {limits.polls} long polls",
        f"{limits.all_in_flight:,}",
        f"{limits.small_body // mebi} MiB; for artifacts and complete what a {artifacts.LARGEST // mebi} MiB artifact",
        f"{limits.small_body_s:.0f} s; {limits.large_body_s:.0f} s for a large one",
        f"{artifacts.MOST}, of at most {artifacts.LARGEST // mebi} MiB; text up to {artifacts.INLINE // kibi} KiB",
        f"at most every {reports.HEARTBEAT_EVERY.total_seconds():.0f} s",
        f"the latest {once.KEPT} keys",
        f"`wait` up to {MOST_WAIT_S} seconds",
    )
