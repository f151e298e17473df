"""Rulings: the same facts give the same one, order does not matter, more rules never loosen, failures never open; and
the plain Python of an expression answers as the CEL library does."""

from __future__ import annotations

from typing import Any

import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from decisions.policy import compiled, decide, expression_native
from decisions.policy.expressions import compile_expression
from decisions.policy.facts import STRICTNESS, Barrier, Call, Circumstances
from schemas.policy import Verdict
from tests.fakes.policies import NOW, agent, held, policy, waiver

TOOLS = ("read_file", "write_file", "shell_exec", "network_call", "send_email", "deploy_prod", "tidy", "mcp:t/list")
PATTERNS = st.sampled_from((*TOOLS, "*", "mcp:t/*", "[rw]*_file", "?idy", "send_*"))
CONDITIONS = st.sampled_from(
    [None, "args.n > 1", "args.missing == 1", "agent.level == 'Lead'", "args.path.startsWith('docs/')", "args.command",
     "args.to.exists(x, x.endsWith('@a.example'))", "size(args) > 2", "args.n + 1 == 3", "spend.remaining < 1.0"]
)  # fmt: skip
VERDICTS = st.sampled_from([v.value for v in Verdict])


@st.composite
def rules(draw: st.DrawFn, verdicts: st.SearchStrategy[str] = VERDICTS) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(0, 4))):
        match: dict[str, Any] = {"tools": draw(st.lists(PATTERNS, min_size=1, max_size=2, unique=True))}
        when = draw(CONDITIONS)
        if when is not None:
            match["when"] = when
        found.append({"name": f"r{number}", "match": match, "verdict": draw(verdicts)})
    return found


@st.composite
def policies(draw: st.DrawFn) -> list[compiled.CompiledPolicy]:
    lists = st.fixed_dictionaries(
        {},
        optional={
            "shell": st.just(["git status"]),
            "network": st.just(["a.example"]),
            "emailRecipients": st.just(["*@a.example"]),
            "filesystem": st.just({"read": ["docs/**"], "write": ["out/**"]}),
        },
    )
    risk = st.dictionaries(st.sampled_from(TOOLS), st.sampled_from(["Green", "Yellow", "Red"]), max_size=3)
    stops = st.sets(
        st.sampled_from(["Payments", "EmailOutsideAllowlist", "DestructiveAccountAction", "PublicPosting"])
    ).map(sorted)
    return [
        policy(f"p{number}", rules=draw(rules()), risk=draw(risk), allowlists=draw(lists), hardStops=draw(stops))
        for number in range(draw(st.integers(0, 3)))
    ]


CALLS = st.builds(
    Call,
    st.sampled_from(TOOLS),
    st.fixed_dictionaries(
        {},
        optional={
            "n": st.integers(0, 3),
            "path": st.sampled_from(["docs/a", "out/a", "../x", "/etc/x"]),
            "command": st.sampled_from(["git status", "ls", "rm -rf /", "a; b"]),
            "url": st.sampled_from(["https://a.example/x", "http://b.example"]),
            "to": st.sampled_from([["x@a.example"], ["x@b.example"], "x"]),
        },
    ),
)
AGENTS = st.builds(
    agent, st.sampled_from(["Intern", "Specialist", "Lead"]), st.sampled_from([("*",), ("read_*", "tidy")])
)
BARRIERS = st.none() | st.sampled_from([Verdict.REQUIRE_APPROVAL, Verdict.DENY]).map(lambda v: Barrier(v, "because"))
AROUND = st.builds(
    Circumstances,
    st.just(NOW),
    st.none(),
    st.sampled_from([{}, {"remaining": 0.5}, {"remaining": 5.0}]),
    st.sampled_from([None, held("Hold"), held("Stop")]),
    BARRIERS,
    BARRIERS,
)
WAIVERS = st.lists(
    st.builds(
        lambda tool, verdict, number: waiver(f"w{number}", match={"tools": [tool]}, verdict=verdict),
        st.sampled_from(TOOLS),
        st.sampled_from(["Allow", "RequireApproval"]),
        st.integers(0, 9),
    ),
    max_size=2,
    unique_by=lambda w: w.document.key,
)


@settings(max_examples=150, deadline=None)
@given(policies(), WAIVERS, CALLS, AGENTS, AROUND, st.randoms(use_true_random=False))
def test_the_same_facts_in_any_order_give_the_same_ruling(
    given_policies: list[compiled.CompiledPolicy],
    waivers: list[compiled.CompiledWaiver],
    call: Call,
    by: Any,
    around: Circumstances,
    random: Any,
) -> None:
    first = decide.decide(call, by, compiled.PolicySet(given_policies, waivers), around)
    shared = compiled.PolicySet(given_policies, waivers)
    for other in TOOLS:
        decide.decide(Call(other, {"x": 1}), by, shared, around)
    random.shuffle(given_policies)
    random.shuffle(waivers)
    assert decide.decide(call, by, shared, around) == first
    assert decide.decide(call, by, compiled.PolicySet(given_policies, waivers), around) == first
    assert first.verdict is first.decisive.verdict
    assert all(STRICTNESS[f.verdict] <= STRICTNESS[first.verdict] for f in first.findings)
    assert first.verdict is Verdict.ALLOW or first.decisive.remedy


@settings(max_examples=150, deadline=None)
@given(policies(), rules(st.sampled_from(["Deny", "RequireApproval"])), CALLS, AGENTS, AROUND)
def test_a_policy_that_only_forbids_never_loosens(
    given_policies: list[compiled.CompiledPolicy],
    more: list[dict[str, Any]],
    call: Call,
    by: Any,
    around: Circumstances,
) -> None:
    before = decide.decide(call, by, compiled.PolicySet(given_policies), around)
    spec: dict[str, Any] = {"rules": more}
    if given_policies:
        spec["hardStops"] = sorted({s for p in given_policies for s in p.document.spec.hard_stops})
    stricter = policy("stricter", **spec)
    after = decide.decide(call, by, compiled.PolicySet([*given_policies, stricter]), around)
    # RequireApproval of a rule stands in for the table, which never denies: it cannot loosen a verdict.
    assert STRICTNESS[after.verdict] >= STRICTNESS[before.verdict]


@settings(max_examples=150, deadline=None)
@given(policies(), WAIVERS, CALLS, AGENTS, AROUND)
def test_a_barrier_only_ever_tightens(
    given_policies: list[compiled.CompiledPolicy],
    waivers: list[compiled.CompiledWaiver],
    call: Call,
    by: Any,
    around: Any,
) -> None:
    free = decide.decide(call, by, compiled.PolicySet(given_policies, waivers), Circumstances(NOW, None, around.spend))
    barred = decide.decide(call, by, compiled.PolicySet(given_policies, waivers), around)
    assert STRICTNESS[barred.verdict] >= STRICTNESS[free.verdict]


# Plain Python against the CEL library.

_TEXTS = st.text("ab./x ", max_size=4)
_NUMBERS = st.integers(-3, 3) | st.sampled_from([2**53, 2**62, -(2**63)])
_FRACTIONS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 1e18, -1.5])
_VALUES = st.one_of(_TEXTS, _NUMBERS, _FRACTIONS, st.booleans(), st.none(), st.lists(_TEXTS, max_size=2),
                    st.dictionaries(st.sampled_from(["a", "b"]), _TEXTS, max_size=2))  # fmt: skip
_FACTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), _VALUES, max_size=3)
_QUOTED = _TEXTS.map(lambda text: f"'{text}'")
_LEAVES = st.one_of(
    st.sampled_from(["args.a", "args.b", "args.c", "args.a.b", "tool", "true", "false"]),
    _QUOTED,
    st.integers(0, 3).map(str),
    st.sampled_from(["0.5", "1.0", "2.0", "['a', 'b']", "[]"]),
)
_REGEXES = st.lists(st.sampled_from(["a", "b", ".*", "/", "^", "$", "[.]", " ", "x"]), max_size=5).map("".join)


def _bigger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "+", "-"]), inner).map(" ".join),
        st.tuples(inner, st.sampled_from([" && ", " || "]), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, st.sampled_from(["startsWith", "endsWith", "contains"]), _QUOTED).map(
            lambda t: f"{t[0]}.{t[1]}({t[2]})"
        ),
        st.tuples(st.sampled_from(["args.a", "tool"]), _REGEXES).map(lambda t: f"{t[0]}.matches('{t[1]}')"),
    )


@settings(max_examples=800, deadline=None)
@given(st.recursive(_LEAVES, _bigger, max_leaves=6), _FACTS, _TEXTS)
def test_plain_python_answers_as_the_library_does_or_not_at_all(source: str, args: dict[str, Any], tool: str) -> None:
    native = expression_native.translate(source)
    if native is None:
        return
    variables = {"args": args, "tool": tool}
    answer = native(variables)
    if answer is not None:
        assert cel.compile(source).execute(variables) is answer


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.recursive(_LEAVES, _bigger, max_leaves=4), _FACTS)
def test_compiling_and_evaluating_never_raise(source: str, args: dict[str, Any]) -> None:
    rule = {"name": "r", "match": {"tools": ["tidy"], "when": source}, "verdict": "Deny"}
    if not source.strip():
        return
    compile_expression(source)
    ruling = decide.decide(Call("tidy", args), agent(), compiled.PolicySet([policy(rules=[rule])]), Circumstances(NOW))
    assert ruling.verdict in (Verdict.DENY, Verdict.REQUIRE_APPROVAL)
