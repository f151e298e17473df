"""What an expression may be: linted with its place, bounded, and without a clock."""

from __future__ import annotations

import time

import pytest

from cli.compiling import compile_text
from decisions.policy import expressions
from decisions.policy.expression_tokens import BadExpression, place, tokens
from decisions.policy.lint import problems
from tests.fakes.policies import ask, policy


@pytest.mark.parametrize(
    ("source", "message", "at"),
    [
        ("args.command ==", "the expression ends too early", "line 1, column 16"),
        ("agnt.level == 'Lead'", "there is no variable agnt", "line 1, column 1"),
        ("true &&\n  agent.levle == 'Lead'", "there is no field of agent levle", "line 2, column 9"),
        ("now() > time", "there is no function now", "line 1, column 1"),
        ("random() > 1", "there is no function random", "line 1, column 1"),
        ("args.a.matches('git(')", "not a regular expression", "line 1, column 16"),
        ("args.a.map(x, x + x).size() > 1", "map makes new values", "line 1, column 8"),
        ("args.a.all(x, args.b.all(y, args.c.all(z, z == x)))", "loops nest deeper than 2", "line 1, column 39"),
        ("(" * 13 + "true" + ")" * 13, "brackets nest deeper than 12", "line 1, column 13"),
        ("!!!!true", "more than 3 of '!' in a row", "line 1, column 4"),
        ("args.a ? true : false" + " || (args.a ? true : false)" * 6, "more than 6 choices", "line 1, column 16"),
        (" || ".join(["args.a"] * 200), "longer than 400 words", "line 1, column"),
        ("args.a == `x`", "has no meaning here", "line 1, column 11"),
        ("args.a[1", "']' is missing at the end", ""),
        ("args.a)", "')' closes nothing", "line 1, column 7"),
        ("args.a.lowerAscii() == 'x'", "there is no function lowerAscii", "line 1, column 8"),
        ("env.HOME == 'x'", "there is no variable env", "line 1, column 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(source: str, message: str, at: str) -> None:
    found = expressions.check(source)
    assert found is not None
    assert message in str(found)
    assert place(source, found.at).startswith(at) if at else found.at == -1


@pytest.mark.parametrize(
    "source",
    [
        "args.command.matches('git +push +.*(--force|-f)')",
        "args.to == ['team@acme.example']",
        "args.to.all(r, r.endsWith('@acme.example') || r in ['a@b.example'])",
        "has(args.path) && !args.path.startsWith('docs/')",
        "size(args.items) > 10 // many",
        "time.getDayOfWeek() in [0, 6] || time.getHours() >= 20",
        "spend.remaining < 1.0 && agent.labels['team'] == \"red\" && mission.type == 'Docs'",
        r"args.path.matches(r'^\d+$') || tool == 'x'",
        "args.amount > 100.0 ? agent.level == 'Lead' : true",
        "args" + ".a" * 190 + " == 1",
        "1" + " + 1" * 190 + " == 191",
        " && ".join(["true"] * 190),
        " == ".join(["true"] * 190),
    ],
)
def test_an_honest_expression_is_taken(source: str) -> None:
    assert expressions.check(source) is None


def test_validate_names_file_line_and_column() -> None:
    text = b"""apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: p}
spec:
  allowlists:
    shell: [ls, "bash *"]
  rules:
    - name: a
      match:
        tools: [x]
        when: |
          args.a &&
          agent.nmae == 'x'
      verdict: Deny
---
apiVersion: remit.dev/v1alpha1
kind: Waiver
metadata: {name: w}
spec:
  match: {tools: [x], when: "1 +"}
  owner: me
  reason: because
  expires: "2027-01-01T00:00:00Z"
"""
    found = [str(d) for d in compile_text(text, "house.yaml").diagnostics]
    assert [line.partition(": ")[0] for line in found] == ["house.yaml:6:17", "house.yaml:11:9", "house.yaml:20:23"]
    assert "spec.rules[0].match.when: line 2, column 7 of the expression" in found[1]
    assert "did you mean name?" in found[1]


def test_other_kinds_are_not_looked_at() -> None:
    assert problems("Agent", {"match": {"when": "("}}) == []


@pytest.mark.parametrize(
    "source",
    [
        "args.l.all(x, args.l.all(y, x == y))",
        "args.l.exists(x, x + args.t + args.t == 'a')",
        "args.t.matches('(a|a)*(a|a)*(a|a)*b')",
        "args.l.filter(x, args.l.exists(y, y == x)).size() > 3",
    ],
)
def test_no_call_can_make_an_expression_take_long(source: str) -> None:
    rules = policy(rules=[{"name": "r", "match": {"tools": ["tidy"], "when": source}, "verdict": "Deny"}])
    for size in (90, 900, 4_000):
        began = time.perf_counter()
        ask("tidy", {"l": ["a"] * size, "t": "a" * 50_000}, policies=(rules,))
        assert time.perf_counter() - began < 20  # measured: under 0.2 s; without bounds: minutes


def test_tokens_end_for_any_text() -> None:
    assert [t.text for t in tokens("a.b('x\\'y') // c")] == ["a", ".", "b", "(", "'x\\'y'", ")"]
    with pytest.raises(BadExpression):
        tokens("'open")
