"""Every cell of level x risk x allowlist x budget x hold, against the words of the design."""

from __future__ import annotations

import itertools

import pytest

from decisions.policy.facts import Barrier, Circumstances
from schemas.policy import Risk, Verdict
from tests.fakes.policies import NOW, agent, ask, held, policy

ALLOW, ASK, DENY = Verdict.ALLOW, Verdict.REQUIRE_APPROVAL, Verdict.DENY
LEVELS = ("Intern", "Specialist", "Lead")
RISKS = ("Green", "Yellow", "Red")
LISTS = ("inside", "outside", "undeclared", "touches nothing")
BUDGETS = ("within", "ask", "refuse")
HOLDS = ("none", "Hold", "Drain", "Stop")

# level, risk -> what the table says of a call within every list.
TABLE = {
    ("Intern", "Green"): ALLOW, ("Intern", "Yellow"): ASK, ("Intern", "Red"): ASK,
    ("Specialist", "Green"): ALLOW, ("Specialist", "Yellow"): ALLOW, ("Specialist", "Red"): ASK,
    ("Lead", "Green"): ALLOW, ("Lead", "Yellow"): ALLOW, ("Lead", "Red"): ASK,
}  # fmt: skip


def expected(level: str, risk: str, listed: str, budget: str, hold: str) -> Verdict:
    if hold == "Stop" or budget == "refuse":
        return DENY
    if budget == "ask" or TABLE[level, risk] is ASK:
        return ASK
    # Where the table allows: what a list is declared for has to be on it, and a Specialist's Yellow needs the list.
    needs_list = level == "Specialist" and risk == "Yellow"
    return ASK if listed == "outside" or (listed == "undeclared" and needs_list) else ALLOW


CELLS = list(itertools.product(LEVELS, RISKS, LISTS, BUDGETS, HOLDS))


@pytest.mark.parametrize(("level", "risk", "listed"), list(itertools.product(LEVELS, RISKS, LISTS)))
def test_each_cell_of_the_table_is_as_designed(level: str, risk: str, listed: str) -> None:
    shell = ["git status"] if listed in ("inside", "outside") else []
    rules = policy(risk={"shell_exec": risk, "sort_cards": risk}, allowlists={"shell": shell})
    tool, args = ("sort_cards", {}) if listed == "touches nothing" else ("shell_exec", {"command": "git status"})
    if listed == "outside":
        args = {"command": "git log"}
    for budget, hold in itertools.product(BUDGETS, HOLDS):
        barrier = Barrier({"ask": ASK, "refuse": DENY}[budget], "spent") if budget != "within" else None
        around = Circumstances(NOW, held=None if hold == "none" else held(hold), budget=barrier)
        ruling = ask(tool, args, by=agent(level), policies=(rules,), around=around)
        assert ruling.verdict is expected(level, risk, listed, budget, hold), (budget, hold, ruling.explain())
        assert ruling.risk is Risk(risk)
        assert ruling.decisive.message
        assert ruling.decisive.remedy or ruling.verdict is ALLOW


def test_the_table_has_every_cell() -> None:
    assert len(CELLS) == 432
    assert {expected(*cell) for cell in CELLS} == {ALLOW, ASK, DENY}


@pytest.mark.parametrize("level", LEVELS)
def test_the_network_is_held_by_its_list_whatever_the_level(level: str) -> None:
    call = ("network_call", {"url": "https://api.example.org/x"})
    assert ask(*call, by=agent(level)).verdict is ASK
    inside = policy(allowlists={"network": ["api.example.org"]})
    assert ask(*call, by=agent(level), policies=(inside,)).verdict is (ASK if level == "Intern" else ALLOW)
    disguised = {"url": "https://api.example.org@evil.example/"}
    assert ask("network_call", disguised, by=agent("Lead"), policies=(inside,)).verdict is ASK


@pytest.mark.parametrize("command", ["sh -c 'rm x'", "$X a", "eval id", "ls 'open", "\u200bls", "git log | xargs rm"])
def test_a_lead_without_a_list_is_asked_about_what_cannot_be_told(command: str) -> None:
    assert ask("shell_exec", {"command": "make all && make test"}, by=agent("Lead")).verdict is ALLOW
    assert ask("shell_exec", {"command": command}, by=agent("Lead")).verdict is ASK


def test_nothing_but_the_built_in_table_holds_without_a_policy() -> None:
    assert ask("read_file", {"path": "README.md"}, by=agent("Intern")).verdict is ALLOW
    assert ask("post_social").verdict is DENY  # public posting is a hard stop until it is switched off
    ruling = ask("some_tool")
    assert (ruling.verdict, ruling.risk) == (ASK, Risk.RED)
    assert ruling.decisive.source == "the built-in table"
