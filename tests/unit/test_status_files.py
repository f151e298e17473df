"""Files of the status branch: where they stand, what they say, and what they keep to themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controllers.sources.git_commit import checked_path
from controllers.status.files import path_of, render, summary
from controllers.status.redaction import HIDDEN, redact
from schemas import registry
from schemas.base import NAME_PATTERN, NAMESPACE_PATTERN, Key
from schemas.resource import Resource

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def resource(status: dict[str, Any], kind: str = "Mission", name: str = "audit") -> Resource:
    return Resource(kind, "default", name, "uid-1", 3, 17, {"title": "secret plan"}, status, NOW)


names = st.from_regex(NAME_PATTERN, fullmatch=True).map(str.strip).filter(lambda t: 0 < len(t) <= 253)
namespaces = st.from_regex(NAMESPACE_PATTERN, fullmatch=True).map(str.strip)
kinds = st.sampled_from([n.kind for n in registry.NAMES])


@given(kinds, namespaces, names)
def test_every_name_that_an_object_may_have_is_a_path_below_its_namespace(kind: str, namespace: str, name: str) -> None:
    path = path_of(Key(kind, namespace, name))
    parts = path.split("/")
    assert parts[:2] == [namespace, kind.lower()]
    assert len(parts) == 3
    assert all(0 < len(part.encode()) <= 255 for part in parts)
    assert checked_path(path) == path


@pytest.mark.parametrize(
    "name",
    ["../../x", "..", ".", ".git", "a/b", "a\\b", "", "A", "a\n", "a\0", "-x", "git~1", "a..b/../c", "x" * 254, "ä"],
)
def test_a_name_that_leads_elsewhere_has_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="no name that a file can have"):
        path_of(Key("Mission", "default", name))
    with pytest.raises(ValueError, match="no name that a file can have"):
        path_of(Key("Mission", name or "../x", "a" if name else ".."))


def test_names_that_no_file_system_takes_have_paths_of_their_own() -> None:
    long = [path_of(Key("Mission", "default", "a" * 252 + last)) for last in "bc"]
    assert len(set(long)) == 2
    assert path_of(Key("Mission", "default", "a" * 250)).endswith(f"{'a' * 250}.yaml")


def test_what_has_no_namespace_has_a_folder_that_no_namespace_is_called() -> None:
    assert path_of(Key("Tenant", "", "acme")) == "_cluster/tenant/acme.yaml"


def test_equal_status_is_equal_bytes_whatever_the_order() -> None:
    assert render(resource({"a": 1, "b": {"c": 2, "d": 3}})) == render(resource({"b": {"d": 3, "c": 2}, "a": 1}))
    other = replace(resource({"a": 1, "b": {"c": 2, "d": 3}}), resource_version=99)
    assert render(other) == render(resource({"a": 1, "b": {"c": 2, "d": 3}}))


@pytest.mark.parametrize("key", ["lastHeartbeatTime", "lastSyncTime", "lastHandledReconcile", "burnRatePerHour"])
def test_what_moves_without_news_is_left_out(key: str) -> None:
    assert render(resource({"a": 1, key: "2026-11-21T09:00:00Z"})) == render(resource({"a": 1}))


def test_the_time_of_a_transition_is_kept() -> None:
    conditions = [
        {"type": "Ready", "status": "True", "reason": "Reconciled", "lastTransitionTime": "2026-11-21T09:00:00Z"}
    ]
    assert b"lastTransitionTime" in render(resource({"conditions": conditions}))


def test_what_speaks_of_the_writing_itself_is_left_out() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Synced"}
    own = {"type": "StatusWritten", "status": "True", "reason": "StatusWritten"}
    with_own = resource({"conditions": [ready, own]}, "Source")
    assert render(with_own) == render(resource({"conditions": [ready]}, "Source"))


def test_neither_spec_nor_deliverable_is_written() -> None:
    artifact = {"name": "a", "digest": "sha256:00", "size": 3, "text": "the text", "mediaType": "text/plain"}
    text = render(resource({"deliverable": artifact, "artifacts": [artifact]})).decode()
    assert "secret plan" not in text
    assert "the text" not in text
    assert text.count("sha256:00") == 2


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=10), json, max_size=5))
def test_any_status_becomes_yaml_that_is_plain_data(status: dict[str, Any]) -> None:
    data = render(resource(status))
    loaded = yaml.safe_load(data)
    assert loaded["metadata"]["name"] == "audit"
    assert set(loaded) == {"apiVersion", "kind", "metadata", "status"}
    assert "\x1b" not in data.decode()


def test_a_summary_is_a_word_or_two() -> None:
    assert summary(resource({"state": "Done"})) == "Done"
    ready = [{"type": "Ready", "status": "False", "reason": "ProgramNotFound\n* x"}]
    assert summary(resource({"conditions": ready})) == "Ready=False ProgramNotFound * x"
    assert summary(resource({})) == ""
    assert summary(replace(resource({"state": "Done"}), deletion_at=NOW)) == "Deleting"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("password: hunter2!", "hunter2"),
        ('{"api_key": "abc def ghi"}', "abc def ghi"),
        ("API-KEY=abcdefg", "abcdefg"),
        ("https://me:pa55@host/x", "pa55"),
        ("ghp_" + "a1B2" * 9, "a1B2a1B2"),
        ("glpat-" + "x" * 20, "xxxxx"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("sk-ant-" + "q" * 30, "qqqq"),
        ("AKIA" + "A" * 16, "AAAA"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----", "abc"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc", "abc"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
    ],
)
def test_what_has_the_shape_of_a_credential_is_hidden(text: str, hidden: str) -> None:
    shown = redact(f"before {text} after")
    assert hidden not in shown
    assert HIDDEN in shown
    assert redact(shown) == shown


@given(st.text(max_size=300))
def test_hiding_twice_is_hiding_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)
