"""Cases of Policies, read from files and held against a tree of specs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from cli.failures import Failure
from controllers.sources import yaml
from controllers.sources.diagnose import from_validation
from decisions.policy.decide import decide
from decisions.policy.facts import AgentFacts, Call, Circumstances, MissionFacts, Ruling
from decisions.policy.fleet import Fleet
from schemas.base import Key
from schemas.errors import Diagnostic, InvalidSpec
from schemas.policy_case import SUFFIX, Case, CaseFile

LARGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Placed:
    """A case and where it is written, as file:line."""

    case: Case
    place: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case. ``wrong`` says in words what was not as expected; empty when it held."""

    placed: Placed
    ruling: Ruling | None
    wrong: tuple[str, ...]


def read(paths: Sequence[Path]) -> list[Placed]:
    """The cases of files and folders, in the order of the files' names. Raises InvalidSpec with every error of every
    file, and Failure where a path holds none."""
    cases: list[Placed] = []
    faults: list[Diagnostic] = []
    for path in paths:
        files = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not files:
            raise Failure(f"no file in {path} ends with {SUFFIX}", hint="remit explain policy")
        for file in files:
            found, wrong = _file(file)
            cases += found
            faults += wrong
    if faults:
        raise InvalidSpec(tuple(faults))
    return cases


def _file(path: Path) -> tuple[list[Placed], list[Diagnostic]]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from None
    name = str(path)
    if len(data) > LARGEST:
        return [], [Diagnostic(name, 0, 0, "", f"more than {LARGEST} bytes")]
    loaded = yaml.load(data, path=name)
    cases: list[Placed] = []
    faults = list(loaded.diagnostics)
    for document in loaded.documents:
        try:
            model = CaseFile.model_validate(document.value)
        except ValidationError as error:
            faults += from_validation(error, document, name, (), CaseFile)
            continue
        for number, case in enumerate(model.cases):
            line = document.nearest(("cases", number)).line
            cases.append(Placed(case, f"{name}:{line}"))
            if (case.agent is None) == (case.agent_like is None):
                text = "name a declared agent, or say under agentLike what it is like"
                faults.append(Diagnostic(name, line, 1, f"cases[{number}]", text, "agent or agentLike"))
    return cases, faults


def run(cases: Iterable[Placed], fleet: Fleet, now: datetime) -> Iterator[Outcome]:
    """Hold each case against the tree. ``now`` is the moment of cases that name none."""
    for placed in cases:
        case = placed.case
        agent = _agent(case, fleet)
        if agent is None:
            declared = ", ".join(key.short for key in fleet.agents[:10]) or "none"
            yield Outcome(placed, None, (f"no agent {case.namespace}/{case.agent} is declared; there are: {declared}",))
            continue
        ruling = decide(
            Call(case.call.tool, case.call.args, case.call.target), agent, fleet.rules_for(agent), _around(case, now)
        )
        yield Outcome(placed, ruling, tuple(_wrong(case, ruling)))


def _agent(case: Case, fleet: Fleet) -> AgentFacts | None:
    if case.agent is not None:
        return fleet.agent(Key("Agent", case.namespace, case.agent))
    assert case.agent_like is not None
    like = case.agent_like
    return AgentFacts(Key("Agent", case.namespace, "case"), like.autonomy_level, like.tools, like.labels)


def _around(case: Case, now: datetime) -> Circumstances:
    mission = None
    if case.mission is not None:
        told = case.mission
        key = Key("Mission", case.namespace, told.name)
        mission = MissionFacts(key, told.type or "", told.project, told.priority, told.labels)
    spend = {
        name: float(value)
        for name in ("estimate", "run", "mission", "today", "remaining")
        if (value := getattr(case.spend, name)) is not None
    }
    return Circumstances(case.at or now, mission, spend)


def _wrong(case: Case, ruling: Ruling) -> Iterator[str]:
    if ruling.verdict is not case.expect:
        yield f"expected {case.expect}, and it is {ruling.verdict}"
    if case.risk is not None and ruling.risk is not case.risk:
        yield f"expected risk {case.risk}, and it is {ruling.risk}"
    if case.rule is not None and case.rule not in ruling.decisive.rule:
        yield f"expected to be decided by {case.rule!r}, and it is by {ruling.decisive.rule}"
