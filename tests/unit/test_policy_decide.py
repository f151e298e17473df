"""Who speaks in which order about a call, and what the ruling says of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from decisions.policy import compiled
from decisions.policy.facts import Barrier, Circumstances, MissionFacts, tool_patterns
from schemas.agent import ToolGrant
from schemas.base import Key
from schemas.policy import HardStop, Risk, Verdict
from schemas.tool_call import ToolCallReason
from tests.fakes.policies import NOW, agent, ask, held, policy, waiver

ALLOW, ASK, DENY = Verdict.ALLOW, Verdict.REQUIRE_APPROVAL, Verdict.DENY


def rule(verdict: str, name: str = "r", **match: Any) -> dict[str, Any]:
    return {"name": name, "match": match or {"tools": ["*"]}, "verdict": verdict}


def test_the_first_that_denies_is_named() -> None:
    deny = policy(rules=[rule("Deny", tools=["send_email"])])
    limit, budget = Barrier(DENY, "three in a row"), Barrier(DENY, "nothing left", "budget/day")
    around = Circumstances(NOW, held=held("Stop"), limit=limit, budget=budget)
    order = []
    for _ in range(6):
        tools = () if order == [ToolCallReason.HELD] else ("*",)
        ruling = ask("send_email", {"to": "x@y.example"}, by=agent(tools=tools), policies=(deny,), around=around)
        assert ruling.verdict is DENY
        order.append(ruling.decisive.reason)
        around = Circumstances(
            NOW,
            limit=limit if len(order) < 3 else None,
            budget=budget if len(order) < 4 else None,
        )
        if len(order) == 5:
            deny = policy(rules=[rule("Deny", tools=["send_email"])], hardStops=[])
    R = ToolCallReason
    assert order == [R.HELD, R.NOT_GRANTED, R.LIMIT, R.OVER_BUDGET, R.HARD_STOP, R.RULE]


@pytest.mark.parametrize("mode", ["Hold", "Drain"])
def test_a_run_may_finish_under_a_hold_that_does_not_stop(mode: str) -> None:
    assert ask("read_file", {"path": "a"}, around=Circumstances(NOW, held=held(mode))).verdict is ALLOW


def test_a_wish_for_approval_is_never_loosened_by_what_comes_after() -> None:
    open_all = policy(rules=[rule("Allow")])
    around = Circumstances(NOW, budget=Barrier(ASK, "the day is spent", "budget/day", "budgets/day.yaml:1"))
    ruling = ask("read_file", policies=(open_all,), around=around)
    assert (ruling.verdict, ruling.decisive.reason) == (ASK, ToolCallReason.OVER_BUDGET)
    denied = ask("read_file", policies=(policy(rules=[rule("Deny")]),), around=around)
    assert (denied.verdict, denied.decisive.reason) == (DENY, ToolCallReason.RULE)
    assert denied.findings[1].source == "budget/day"


def test_of_the_rules_that_match_the_strictest_counts_and_replaces_the_table() -> None:
    a, b = (
        policy("a", rules=[rule("Allow"), rule("RequireApproval", "s", tools=["x_*"])]),
        policy("b", rules=[rule("Allow")]),
    )
    assert ask("pay_nothing_list", policies=(policy("c", rules=[rule("Allow")], hardStops=[]),)).verdict is ALLOW
    assert ask("x_one", policies=(a, b)).verdict is ASK
    assert ask("y_one", policies=(a, b)).verdict is ALLOW  # unknown, so Red: the rule stands in for the table
    assert ask("x_one", policies=(b, a)) == ask("x_one", policies=(a, b))


@pytest.mark.parametrize(("verdict", "result"), [("Deny", DENY), ("RequireApproval", ASK), ("Allow", ASK)])
@pytest.mark.parametrize(
    "when", ["args.command == 'x'", "args.n + 'a' == 'b'", "args.list", "1 / args.zero == 1", "args["]
)
def test_an_expression_that_fails_opens_nothing(verdict: str, result: Verdict, when: str) -> None:
    rules = policy(rules=[rule(verdict, tools=["tidy"], when=when)])
    ruling = ask("tidy", {"n": 1, "list": [1], "zero": 0}, policies=(rules,))
    assert ruling.verdict is result
    if verdict != "Allow":
        assert "cannot be evaluated" in ruling.decisive.message


def test_arguments_that_are_too_large_open_nothing() -> None:
    when = "args.items.all(x, x.startsWith('ok'))"
    for verdict, result in (("Allow", ASK), ("Deny", DENY)):
        rules = policy(rules=[rule(verdict, tools=["tidy"], when=when)])
        assert ask("tidy", {"items": ["ok"] * 900}, policies=(rules,)).verdict is (
            ALLOW if verdict == "Allow" else DENY
        )
        assert ask("tidy", {"items": ["ok"] * 2000}, policies=(rules,)).verdict is result
        assert ask("tidy", {"items": ["ok"], "x": "y" * 70_000}, policies=(rules,)).verdict is result
        deep: list[Any] = []
        for _ in range(5_000):
            deep = [deep]
        assert ask("tidy", {"items": ["ok"], "x": deep}, policies=(rules,)).verdict is result


def test_an_expression_sees_agent_mission_spend_and_time() -> None:
    when = (
        "agent.name == 'worker' && agent.level == 'Lead' && agent.labels.team == 'red' && mission.project == 'docs' && "
        "mission.priority > 40 && spend.remaining > 1 && time < timestamp('2027-01-01T00:00:00Z') && tool == 'tidy'"
    )
    rules = policy(rules=[rule("Allow", tools=["tidy"], when=when)])
    mission = MissionFacts(Key("Mission", "default", "m"), "Docs", "docs")
    around = Circumstances(NOW, mission, {"remaining": 4.5})
    by = agent("Lead", labels={"team": "red"})
    assert ask("tidy", by=by, policies=(rules,), around=around).verdict is ALLOW
    late = Circumstances(NOW + timedelta(days=365), mission, {"remaining": 4.5})
    assert ask("tidy", by=by, policies=(rules,), around=late).verdict is ASK


# Tools and risk.


def test_an_agent_is_given_the_tools_that_it_lists_and_no_others() -> None:
    by = agent(tools=("read_file", "mcp:tickets/*"))
    assert ask("read_file", {"path": "a"}, by=by).verdict is ALLOW
    assert ask("mcp:tickets/list", by=by).verdict is ASK
    ruling = ask("write_file", {"path": "a"}, by=by)
    assert (ruling.verdict, ruling.decisive.place) == (DENY, "agents/worker.yaml:1 spec.tools")
    assert ask("read_file", {"path": "a"}, by=agent(tools=())).verdict is DENY


def test_grants_become_names_and_globs() -> None:
    grants = [{"name": "read_*"}, {"mcp": {"serverRef": {"name": "tickets"}, "toolNames": ["list"]}},
              {"mcp": {"serverRef": {"name": "docs"}}}]  # fmt: skip
    patterns = tool_patterns([ToolGrant.model_validate(grant) for grant in grants])
    assert patterns == ("read_*", "mcp:tickets/list", "mcp:docs/*")


@pytest.mark.parametrize("tool", ["", "a b", "réad_file", "read_file\n", "read_file\x00", "x" * 201, "*", "reаd_file"])
def test_what_is_not_the_name_of_a_tool_is_denied(tool: str) -> None:
    ruling = ask(tool, policies=(policy(rules=[rule("Allow")], hardStops=[]),))
    assert ruling.verdict is DENY
    assert ruling.explain().isascii()


def test_the_highest_risk_that_is_said_counts_and_a_server_only_raises_it() -> None:
    low, high = policy("a", risk={"tidy": "Green"}), policy("b", risk={"ti*": "Yellow"})
    assert ask("tidy", policies=(low,)).risk is Risk.GREEN
    assert ask("tidy", policies=(low, high)).risk is Risk.YELLOW
    assert ask("tidy", policies=(policy(risk={"ti*": "Red", "tidy": "Green"}),)).risk is Risk.GREEN
    assert ask("tidy", policies=(low,), hinted_risk=Risk.RED).risk is Risk.RED
    assert ask("send_email", {"to": "a@b.example"}, hinted_risk=Risk.GREEN).risk is Risk.RED


# Hard stops.


@pytest.mark.parametrize(
    ("tool", "args", "stop"),
    [
        ("mcp:bank/create_payment", {}, HardStop.PAYMENTS),
        ("transferFunds", {}, HardStop.PAYMENTS),
        ("stripe_refund", {}, HardStop.PAYMENTS),
        ("send_email", {"to": ["eve@evil.example"]}, HardStop.EMAIL_OUTSIDE_ALLOWLIST),
        ("send_email", {"to": "ann@acme.example", "bcc": "eve@evil.example"}, HardStop.EMAIL_OUTSIDE_ALLOWLIST),
        ("send_email", {"to": "Ann <ann@acme.example>"}, HardStop.EMAIL_OUTSIDE_ALLOWLIST),
        ("send_email", {"to": {"x": "ann@acme.example"}}, HardStop.EMAIL_OUTSIDE_ALLOWLIST),
        ("send_email", {}, HardStop.EMAIL_OUTSIDE_ALLOWLIST),
        ("mcp:mail/reply", {"to": "eve@evil.example"}, HardStop.EMAIL_OUTSIDE_ALLOWLIST),
        ("delete_account", {}, HardStop.DESTRUCTIVE_ACCOUNT_ACTION),
        ("mcp:cloud/terminateInstance", {}, HardStop.DESTRUCTIVE_ACCOUNT_ACTION),
        ("destructive_shell", {"command": "true"}, HardStop.DESTRUCTIVE_ACCOUNT_ACTION),
        ("shell_exec", {"command": "rm -rf /"}, HardStop.DESTRUCTIVE_ACCOUNT_ACTION),
        ("shell_exec", {"command": "ls && rm -r -f ../.."}, HardStop.DESTRUCTIVE_ACCOUNT_ACTION),
        ("shell_exec", {"command": "ls; (mkfs.ext4 /dev/sda)"}, HardStop.DESTRUCTIVE_ACCOUNT_ACTION),
        ("shell_exec", {"command": "kubectl delete -n x namespace prod"}, None),
        ("shell_exec", {"command": "terraform destroy -auto-approve"}, HardStop.DESTRUCTIVE_ACCOUNT_ACTION),
        ("shell_exec", {"command": "rm -rf build"}, None),
        ("post_social", {}, HardStop.PUBLIC_POSTING),
        ("mcp:x/createTweet", {}, HardStop.PUBLIC_POSTING),
        ("post_comment", {}, None),
        ("send_email", {"to": "ann@acme.example; bob@acme.example"}, None),
    ],
)
def test_hard_stops_deny_whatever_rules_and_waivers_say(tool: str, args: dict[str, Any], stop: HardStop | None) -> None:
    lists = {"emailRecipients": ["*@acme.example"]}
    open_all = policy(rules=[rule("Allow")], allowlists=lists)
    ruling = ask(tool, args, by=agent("Lead"), policies=(open_all,), waivers=(waiver(match={"tools": [tool]}),))
    assert (ruling.verdict is DENY) is (stop is not None), ruling.explain()
    if stop is not None:
        assert ruling.decisive.reason is ToolCallReason.HARD_STOP
        assert str(stop) in ruling.decisive.message
        off = policy(rules=[rule("Allow")], allowlists=lists, hardStops=[s for s in HardStop if s is not stop])
        assert ask(tool, args, policies=(off,)).verdict is ALLOW
        assert ask(tool, args, policies=(off, policy("other"))).verdict is DENY  # both have to leave it out


# Waivers.


def test_a_waiver_excepts_from_the_table_until_it_expires() -> None:
    lists = policy(allowlists={"emailRecipients": ["team@acme.example"]})
    mail = ("send_email", {"to": ["team@acme.example"]})
    match = {"tools": ["send_email"], "when": "args.to == ['team@acme.example']"}
    assert ask(*mail, policies=(lists,)).verdict is ASK
    ruling = ask(*mail, policies=(lists,), waivers=(waiver(match=match),))
    assert (ruling.verdict, ruling.decisive.source) == (ALLOW, "waiver/morning-job")
    assert "docs team" in ruling.decisive.message
    over = Circumstances(NOW.replace(year=2027))
    assert ask(*mail, policies=(lists,), waivers=(waiver(match=match),), around=over).verdict is ASK
    at_the_end = Circumstances(compiled_expiry())
    assert ask(*mail, policies=(lists,), waivers=(waiver(match=match),), around=at_the_end).verdict is ASK


def compiled_expiry() -> Any:
    return waiver(match={"tools": ["x"]}).document.spec.expires


def test_a_waiver_opens_neither_a_rule_nor_a_hold_nor_a_budget() -> None:
    exception = (waiver(match={"tools": ["deploy_prod"]}),)
    assert ask("deploy_prod", waivers=exception).verdict is ALLOW
    assert ask("deploy_prod", waivers=exception, policies=(policy(rules=[rule("RequireApproval")]),)).verdict is ASK
    assert ask("deploy_prod", waivers=exception, around=Circumstances(NOW, held=held("Stop"))).verdict is DENY
    spent = Circumstances(NOW, budget=Barrier(ASK, "spent"))
    assert ask("deploy_prod", waivers=exception, around=spent).verdict is ASK


def test_a_waiver_that_fails_or_tightens_has_no_effect() -> None:
    broken = waiver(match={"tools": ["deploy_prod"], "when": "args.missing == 1"})
    assert ask("deploy_prod", waivers=(broken,)).verdict is ASK
    tight = waiver(match={"tools": ["read_file"]}, verdict="RequireApproval")
    assert ask("read_file", {"path": "a"}, waivers=(tight,)).verdict is ALLOW


def test_waivers_and_policies_hold_for_whom_they_name() -> None:
    mine, other = (
        policy("mine", selector={"matchLabels": {"team": "red"}}),
        policy("other", selector={"matchLabels": {"team": "blue"}}),
    )
    named = waiver(match={"tools": ["x"]}, policyRef={"name": "mine"})
    stray = waiver("stray", match={"tools": ["x"]}, policyRef={"name": "other"})
    sets = compiled.in_force([other, mine], [stray, named], namespace="default", labels={"team": "red"})
    assert sets.names == ("policy/mine",)
    profile = sets.profile("x")
    assert profile is not None
    assert [w.source for w in profile.waivers] == ["waiver/morning-job"]
    elsewhere = compiled.in_force([mine], [], namespace="acme", labels={"team": "red"})
    assert elsewhere.names == ()
    by_tenant = compiled.in_force([mine], [], namespace="acme", labels={}, tenant_policies=[mine.document.key])
    assert by_tenant.names == ("policy/mine",)


# Paths and what is said.


def test_nothing_leads_out_of_the_workspace_without_a_person() -> None:
    for path in ("/etc/passwd", "../secret", "docs/../../x", "~/.ssh/id_rsa", 5, None):
        assert ask("read_file", {"path": path}, by=agent("Lead")).verdict is ASK, path
    assert ask("read_file", {"file": "docs/a"}, by=agent("Intern")).verdict is ALLOW
    assert ask("read_file", {}, by=agent("Lead")).verdict is ASK


def test_mail_is_held_by_its_list_even_where_the_hard_stop_is_off() -> None:
    off = policy(risk={"send_email": "Green"}, hardStops=[], allowlists={"emailRecipients": ["*@a.example"]})
    assert ask("send_email", {"to": "x@a.example"}, policies=(off,)).verdict is ALLOW
    assert ask("send_email", {"to": "x@b.example"}, policies=(off,)).verdict is ASK
    assert ask("post_comment", {"to": "@alice", "text": "hello"}).verdict is ALLOW


def test_files_are_held_by_the_lists_that_are_declared() -> None:
    lists = policy(allowlists={"filesystem": {"read": ["docs/**"], "write": ["out/*"]}})
    assert ask("read_file", {"path": "docs/a/b.md"}, policies=(lists,)).verdict is ALLOW
    assert ask("read_file", {"path": "secrets/key"}, policies=(lists,)).verdict is ASK
    assert ask("read_file", {"path": "docs/../secrets/key"}, policies=(lists,)).verdict is ASK
    assert ask("write_file", {"path": "out/a"}, policies=(lists,)).verdict is ALLOW
    assert ask("write_file", {"path": "out/a", "target": "x"}, policies=(lists,), target="docs/a").verdict is ASK
    assert ask("write_file", {"path": ["out/a", "docs/a"]}, policies=(lists,)).verdict is ASK
    assert ask("write_file", {"content": "x"}, policies=(lists,)).verdict is ASK


@pytest.mark.parametrize(
    "more",
    [{"env": {"LD_PRELOAD": "x"}}, {"cwd": "/etc"}, {"shell": "/tmp/sh"}, {"cmd": "id"}, {"stdin": "x"}, {"cwd": ".."}],
)
def test_a_command_counts_only_with_arguments_that_leave_it_what_it_is(more: dict[str, Any]) -> None:
    lists = policy(allowlists={"shell": ["git status"]})
    assert ask("shell_exec", {"command": "git status", "cwd": "src", "timeout": 5}, policies=(lists,)).verdict is ALLOW
    assert ask("shell_exec", {"command": "git status", **more}, policies=(lists,)).verdict is ASK
    assert ask("shell_exec", {"command": ["git", "status"]}, policies=(lists,)).verdict is ASK


def test_every_ruling_explains_itself() -> None:
    rules = policy(rules=[{**rule("Deny", "no-force-push", tools=["git_push"]), "reason": "History is shared."}])
    assert ask("git_push", policies=(rules,)).explain() == (
        "Deny: rule no-force-push of policy/house-rules matches: History is shared.\n"
        "  decided by  rule no-force-push of policy/house-rules\n"
        "  declared at policies/house-rules.yaml:3 spec.rules[0]\n"
        "  risk        Yellow\n"
        "  to allow    change rule no-force-push of policy/house-rules, or what the call asks for\n"
        "  asked       policy/house-rules"
    )
    listed = policy(allowlists={"shell": ["git status"]})
    allowed = ask("shell_exec", {"command": "git status"}, policies=(listed,))
    assert "'git status' is on allowlists.shell" in allowed.explain()


def test_hostile_text_is_shown_harmless() -> None:
    listed = policy(allowlists={"network": ["a.example"]})
    text = ask("network_call", {"url": "http://x\x1b[31m\n\u202e/"}, by=agent("Lead"), policies=(listed,)).explain()
    assert "\x1b" not in text
    assert "\u202e" not in text
