"""Hypothesis strategies for specs of every kind, as people might write them: valid, and far from canonical.

They are made from the same flat schemas that editors get. What a schema cannot say (exactly one of two fields, unique
names) is repaired afterwards, so that hardly anything generated is thrown away.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from schemas import registry
from schemas.base import LINE_PATTERN, NAME_PATTERN, NAMESPACE_PATTERN
from schemas.hold import HOLDABLE
from schemas.jsonschema import Schema, model_schema
from schemas.quantities import SCHEMA_TYPE, format_money

Strategy = st.SearchStrategy[Any]

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
WORD = st.sampled_from(("a", "web-1", "0", "audit-links", "x" * 60, "team", "b2b"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)

DURATION = st.one_of(
    st.builds(lambda n, unit: f"{n}{unit}", st.integers(1, 3000), st.sampled_from(("h", "m", "s", "ms", "d"))),
    st.builds(lambda h, m: f"{h}h{m}m", st.integers(0, 99), st.integers(1, 99)),
    st.sampled_from(("60m", "1.5s", "7d", "90s", "1h30m", "3600s")),
)
MONEY = st.one_of(
    st.integers(0, 10**6),
    st.decimals(0, 10**6, places=2).map(str),
    st.decimals(0, 10**6, places=6).map(format_money),
    st.sampled_from(("2.00", "0.250000", 0.1, 2.5)),
)
ZONES = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60))
TIME = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC) | ZONES).map(
    lambda t: t.isoformat()
)
BY_TYPE: dict[str, Strategy] = {
    "duration": DURATION,
    "money": MONEY,
    "time": TIME,
    "date": st.dates().map(lambda d: d.isoformat()),
    "cron": st.sampled_from(("0 9 * * MON-FRI", "*/5  * * * *", "@daily", "0 0 L * *", "30 2 1,15 jan-jun 1#2")),
    "time zone": st.sampled_from(("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Etc/GMT+1")),
}
USER_SCHEMAS = st.sampled_from(
    ({}, {"type": "object"}, {"properties": {"n": {"minimum": 1}}}, {"$ref": "#/$defs/a", "$defs": {"a": {}}})
)
# Where the schema says less than a validator checks.
BY_PATH: dict[str, Strategy] = {
    "Agent.inputSchema": USER_SCHEMAS,
    "Agent.outputSchema": USER_SCHEMAS,
    "Agent.systemPromptFrom.path": WORD.map(lambda w: f"souls/{w}.md"),
    "Hold.selector.kinds": st.lists(st.sampled_from(HOLDABLE), min_size=1, max_size=3),
    "Policy.allowlists.network": st.lists(st.sampled_from(("a.example", "*.B.example:443", "10.1.2.3/8")), max_size=2),
    "Policy.allowlists.filesystem.read": st.lists(WORD.map(lambda w: f"{w}/**"), max_size=2),
    "Policy.allowlists.filesystem.write": st.lists(WORD, max_size=2),
    "Policy.allowlists.emailRecipients": st.lists(st.sampled_from(("*@A.example", "b@a.example")), max_size=2),
    "Policy.approvals.quorum": st.just(1),
    "Policy.approvals.approvers.roles": st.just(["Admin", "Approver"]),
    "Policy.approvals.remindAfter": st.just("1ms"),
    "Policy.approvals.timeout": st.sampled_from(("2h", "111h", "5d")),
    "Waiver.verdict": st.sampled_from(("Allow", "RequireApproval")),
    "Waiver.match.tools": st.lists(WORD, min_size=1, max_size=3),
    "Source.forge.repository": st.sampled_from(("acme/specs", "a.b/c_d")),
    "Source.forge.type": st.sampled_from(("GitHub", "GitLab")),
    "Source.statusWriteback.branch": st.sampled_from(("remit/status", "ops/of.fleet_1")),
    "Source.interval": st.sampled_from(("1s", "60s", "1m", "2h")),
    "Goal.metric.target": st.floats(1, 1e6),
    "Goal.metric.start": st.floats(-1e6, 0),
    "Channel.quietHours.start": st.just("22:00"),
    "Channel.quietHours.end": st.just("07:00"),
    "Agent.heartbeat.interval": st.sampled_from(("1s", "30s", "1m")),
    "Agent.heartbeat.staleAfter": st.sampled_from(("1m", "60s", "2h")),
    "Budget.scope.tenant": st.just(True),
}


@functools.cache
def specs(kind: str) -> Strategy:
    """Valid specs of a kind, as read from a file."""
    repair = _REPAIRS.get(kind, lambda spec: spec)
    return _value(model_schema(registry.by_kind(kind).spec), kind).map(repair)


def documents(kind: str) -> Strategy:
    """Valid documents of a kind."""
    optional: dict[str, Strategy] = {
        "labels": st.dictionaries(WORD, WORD, max_size=2),
        "annotations": st.dictionaries(WORD, TEXT, max_size=2),
    }
    if registry.by_kind(kind).namespaced:
        optional["namespace"] = WORD
    return st.fixed_dictionaries(
        {
            "apiVersion": st.just("remit.dev/v1alpha1"),
            "kind": st.just(kind),
            "metadata": st.fixed_dictionaries({"name": WORD}, optional=optional),
            "spec": specs(kind),
        }
    )


def _value(schema: Schema, path: str) -> Strategy:
    if path in BY_PATH:
        return BY_PATH[path]
    if SCHEMA_TYPE in schema:
        return BY_TYPE[schema[SCHEMA_TYPE]]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        # Beside "properties", a choice says only which of them are needed.
        rest = {k: v for k, v in schema.items() if k != "anyOf"} if "properties" in schema else {}
        return st.one_of([_value(rest | choice, path) for choice in schema["anyOf"]])
    makers: dict[str, Callable[[Schema, str], Strategy]] = {
        "array": _array,
        "object": _object,
        "string": _string,
        "integer": _integer,
        "number": _number,
        "boolean": lambda schema, path: st.booleans(),
    }
    return makers[schema["type"]](schema, path)


def _array(schema: Schema, path: str) -> Strategy:
    low = schema.get("minItems", 0)
    return st.lists(_value(schema["items"], path), min_size=low, max_size=low + 2, unique_by=repr)


def _object(schema: Schema, path: str) -> Strategy:
    properties = schema.get("properties")
    if properties is None:
        patterns = schema.get("patternProperties")
        if not patterns:
            return st.dictionaries(TEXT, JSON, max_size=3)
        ((_, value),) = patterns.items()
        return st.dictionaries(WORD, _value(value, path), max_size=2)
    fields = {name: _value(value, f"{path}.{name}") for name, value in properties.items()}
    if schema.get("maxProperties") == 1:
        return st.one_of([st.fixed_dictionaries({name: value}) for name, value in fields.items()])
    needed = schema.get("required", ())
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in needed},
        optional={name: value for name, value in fields.items() if name not in needed},
    )


def _string(schema: Schema, path: str) -> Strategy:
    low, high = schema.get("minLength", 0), schema.get("maxLength", 10**6)
    pattern = schema.get("pattern")
    if pattern in (NAME_PATTERN, NAMESPACE_PATTERN):
        return WORD
    if pattern == LINE_PATTERN:
        return st.sampled_from(("a", "Check every link", " Ünïcode \u202e ✓ ", "'; DROP TABLE x", "null", "0x10"))
    if pattern == r"^[A-Za-z0-9._~@=+/-]{1,1000}$":
        return st.sampled_from(("secret", "team/database", "a.b_c~1@d=e+f"))  # of Vault: without detours
    if pattern is not None and pattern.startswith("^[^"):
        return st.sampled_from(("a", "claude-*", "x/y.z", "git", "17"))  # "anything but blanks and controls"
    if pattern is not None:
        return st.from_regex(pattern, fullmatch=True).filter(lambda text: low <= len(text) <= high)
    return TEXT.filter(lambda text: len(text.strip()) >= low)


def _integer(schema: Schema, path: str) -> Strategy:
    return st.integers(schema.get("minimum", -(10**6)), schema.get("maximum", 10**6))


def _number(schema: Schema, path: str) -> Strategy:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1e9))
    return st.floats(low, schema.get("maximum", 1e9), exclude_min="exclusiveMinimum" in schema)


# What schemas cannot say ----------------------------------------------------------------------------------------------


def _drop(value: dict[str, Any], *fields: str) -> None:
    for field in fields:
        value.pop(field, None)


def _each_once(value: dict[str, Any], field: str, key: str) -> None:
    if field in value:
        value[field] = list({item[key]: item for item in value[field]}.values())


def _agent(spec: dict[str, Any]) -> dict[str, Any]:
    if "systemPrompt" in spec:
        _drop(spec, "systemPromptFrom")
    if spec.get("autonomyLevel", "Intern") == "Intern":
        _drop(spec, "subAgents")
    return spec


_POD_TEMPLATE = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}


def _executor(spec: dict[str, Any]) -> dict[str, Any]:
    blocks = {
        "Command": ("command", {"argv": ["true"]}),
        "Http": ("http", {"url": "http://worker.example/runs"}),
        "OpenClaw": ("openClaw", {"url": "ws://127.0.0.1:18789"}),
        "A2A": ("a2a", {"url": "https://agent.example"}),
        "KubernetesJob": ("kubernetesJob", {"podTemplate": _POD_TEMPLATE}),
        "Pull": ("pull", {}),
    }
    wanted, smallest = blocks[spec["type"]]
    _drop(spec, *(field for field, _ in blocks.values() if field != wanted))
    spec.setdefault(wanted, smallest)
    command = spec.get("command") or spec.get("pull", {}).get("command", {})
    _drop(command, "hook", "resume")
    if command.get("resumeArgs"):
        command["resumeArgs"] = ["--resume", "{session}"]
    if "kubernetesJob" in spec:
        spec["kubernetesJob"]["podTemplate"] = _POD_TEMPLATE
        spec["kubernetesJob"].setdefault("kubeconfig", {"env": "KUBECONFIG_TEXT"})
    if "http" in spec:
        spec["http"]["url"] = "https://worker.example/runs"
        _drop(spec["http"], "cancel", "headers")
    if "a2a" in spec:
        spec["a2a"]["url"] = "https://agent.example"
    for variable in command.get("env", ()):
        variable["name"] = f"A{variable['name']}"
        if "valueFrom" in variable:
            _drop(variable, "value")
        variable.setdefault("value" if "valueFrom" not in variable else "valueFrom", "x")
    return spec


def _channel(spec: dict[str, Any]) -> dict[str, Any]:
    blocks = {
        "Telegram": ("telegram", {"chatId": 5, "token": {"env": "T"}}),
        "Slack": ("slack", {"channel": "#a", "token": {"env": "T"}}),
        "Email": ("email", {"to": ["a@b.example"]}),
        "Webhook": ("webhook", {"url": "https://b.example"}),
        "Apprise": ("apprise", {"url": {"env": "U"}}),
    }
    wanted, smallest = blocks.get(spec["type"], ("", {}))
    _drop(spec, *(field for field, _ in blocks.values() if field != wanted))
    if wanted:
        spec.setdefault(wanted, smallest)
    _each_once(spec, "identities", "external")
    return spec


def _budget(spec: dict[str, Any]) -> dict[str, Any]:
    spec["limits"] = spec["limits"] or {"tokens": 0}
    return spec


def _policy(spec: dict[str, Any]) -> dict[str, Any]:
    for rule in spec.get("rules", ()):
        rule["match"] = rule["match"] if rule["match"].get("tools") or "when" in rule["match"] else {"tools": ["*"]}
    _each_once(spec, "rules", "name")
    return spec


def _mission(spec: dict[str, Any]) -> dict[str, Any]:
    if "agentRef" in spec:
        _drop(spec, "agentSelector")
    return spec


def _goal(spec: dict[str, Any]) -> dict[str, Any]:
    for template in spec.get("missionTemplates", ()):
        _mission(template["spec"])
    _each_once(spec, "missionTemplates", "name")
    _each_once(spec, "todos", "name")
    return spec


def _todo(spec: dict[str, Any]) -> dict[str, Any]:
    if "missionTemplate" in spec:
        _mission(spec["missionTemplate"]["spec"])
        _drop(spec, "assignee")
    return spec


def _schedule(spec: dict[str, Any]) -> dict[str, Any]:
    _mission(spec["missionTemplate"]["spec"])
    return spec


def _source(spec: dict[str, Any]) -> dict[str, Any]:
    if spec.get("type", "Git") != "Git":
        _drop(spec, "verify", "forge", "webhook")
    written = spec.get("statusWriteback", {})
    _drop(written, "maxWait", "quietPeriod")
    if written.get("branch") == spec.get("ref", "main"):
        written["branch"] = "remit/status"
    return spec


def _hold(spec: dict[str, Any]) -> dict[str, Any]:
    if "selector" in spec:
        _drop(spec, "scope")
        if not spec["selector"].get("names") and not spec["selector"].get("matchLabels"):
            spec["selector"]["names"] = ["a"]
        _drop(spec, "released")
        if spec.get("quarantine"):
            spec["mode"] = "Stop"
            spec["selector"] = {"kinds": ["Agent"], "names": ["a"]}
    else:
        spec.setdefault("scope", "Tenant")
        _drop(spec, "quarantine")
    return spec


def _decision(spec: dict[str, Any]) -> dict[str, Any]:
    if spec.get("scope") == "Until":
        spec.setdefault("until", "2027-01-01T00:00:00Z")
    else:
        _drop(spec, "until")
    if spec["verdict"] == "ChangesRequested":
        spec["reason"] = "more"
    if spec["verdict"] != "Approve":
        _drop(spec, "grant")
    return spec


def _tenant(spec: dict[str, Any]) -> dict[str, Any]:
    _each_once(spec, "members", "subject")
    if "groups" in spec:
        spec["groups"] = list({item["claim"].strip(): item for item in spec["groups"]}.values())
    return spec


def _project(spec: dict[str, Any]) -> dict[str, Any]:
    _each_once(spec, "members", "subject")
    return spec


def _provider(spec: dict[str, Any]) -> dict[str, Any]:
    _each_once(spec, "prices", "model")
    return spec


def _tool_server(spec: dict[str, Any]) -> dict[str, Any]:
    wanted, smallest = {
        "Stdio": ("stdio", {"argv": ["true"]}),
        "Http": ("http", {"url": "https://tools.example/mcp"}),
    }[spec["type"]]
    _drop(spec, "stdio" if wanted == "http" else "http", "callTimeout", "approvalWait")
    block = spec.setdefault(wanted, smallest)
    if "url" in block:
        block["url"] = "https://tools.example/mcp"
    for number, entry in enumerate([*block.get("env", ()), *block.get("headers", ())]):
        entry["name"] = f"A{number}"
        if "valueFrom" in entry:
            _drop(entry, "value")
        entry.setdefault("value" if "valueFrom" not in entry else "valueFrom", "x")
    return spec


def _calendar(spec: dict[str, Any]) -> dict[str, Any]:
    blocks = {
        "Ics": ("ics", {"url": "https://cal.example/x.ics"}),
        "CalDav": ("calDav", {"url": "https://cal.example/team/"}),
        "Google": ("google", {"clientId": "x", "clientSecret": {"env": "S"}, "refreshToken": {"env": "T"}}),
    }
    wanted, smallest = blocks[spec["type"]]
    _drop(spec, *(block for block, _ in blocks.values() if block != wanted), "interval", "horizon")
    spec[wanted] = smallest
    if wanted == "ics":
        _drop(spec, "write")
    return spec


def _waiver(spec: dict[str, Any]) -> dict[str, Any]:
    spec["match"].setdefault("tools", ["send_email"])
    return spec


_REPAIRS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "Agent": _agent,
    "ApprovalDecision": _decision,
    "Budget": _budget,
    "Calendar": _calendar,
    "Channel": _channel,
    "Executor": _executor,
    "Goal": _goal,
    "Hold": _hold,
    "Mission": _mission,
    "Policy": _policy,
    "Project": _project,
    "Provider": _provider,
    "Schedule": _schedule,
    "Source": _source,
    "Tenant": _tenant,
    "Todo": _todo,
    "ToolServer": _tool_server,
    "Waiver": _waiver,
}
