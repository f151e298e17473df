"""The loader against other readers: ruamel.yaml (YAML 1.2) and PyYAML's own loader (YAML 1.1)."""

from __future__ import annotations

import datetime
import io
import json
from typing import Any

import ruamel.yaml
import yaml as pyyaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controllers.sources import yaml

relaxed = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])

# Everything YAML can hold unescaped, and what must be escaped, without lone surrogates, which are no text at all, and
# NUL, which no value may contain.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=25,
)
# Plain scalars made of what numbers, dates and words of either version are made of.
plain = st.text("0123456789+-._:eExXobBnNaAfFtTyYsSrRuUlLiI~=<", min_size=1, max_size=12)


def ruamel_loads(text: str) -> Any:
    return ruamel.yaml.YAML(typ="safe", pure=True).load(text)


class Loader11(pyyaml.SafeLoader):
    """YAML 1.1 without timestamps, which stay texts here."""


Loader11.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in pyyaml.SafeLoader.yaml_implicit_resolvers.items()
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def loaded(text: str) -> Any:
    result = yaml.load(text.encode(), path="a.yaml")
    assert result.diagnostics == ()
    return result.documents[0].value if result.documents else None


# What JSON and YAML write alike: no surrogate pairs, no exponents without a point.
shared_texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cn"], exclude_characters="\ufeff"))
shared_numbers = st.integers(-(2**63), 2**63 - 1) | st.decimals(-(10**9), 10**9, places=3).map(float)
shared_values = st.recursive(
    st.none() | st.booleans() | shared_numbers | shared_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(shared_texts, inner, max_size=4),
    max_leaves=25,
)


@relaxed
@given(shared_values)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert same(loaded(json.dumps(value, ensure_ascii=False)), value)


@relaxed
@given(values, st.booleans(), st.booleans())
def test_what_pyyaml_writes_is_read_back_or_refused(value: Any, flow: bool, unicode: bool) -> None:
    text = pyyaml.safe_dump(value, default_flow_style=flow, allow_unicode=unicode, width=40, sort_keys=False)
    result = yaml.load(text.encode(), path="a.yaml")
    if result.diagnostics:
        # PyYAML leaves texts bare that only YAML 1.2 or the YAML 1.1 specification reads as something else.
        assert all("quote" in found.expected or "char" in found.message for found in result.diagnostics)
    else:
        assert same(loaded(text), value)


@relaxed
@given(values)
def test_what_ruamel_writes_is_read_as_ruamel_reads_it_or_refused(value: Any) -> None:
    out = io.StringIO()
    ruamel.yaml.YAML().dump(value, out)
    text = out.getvalue()
    result = yaml.load(text.encode(), path="a.yaml")
    if not result.diagnostics:
        assert same(loaded(text), value)


@settings(relaxed, max_examples=1000)
@given(plain)
def test_a_plain_scalar_that_is_accepted_means_the_same_in_yaml_1_1_and_1_2(text: str) -> None:
    document = f"key: {text}\n"
    result = yaml.load(document.encode(), path="a.yaml")
    if result.diagnostics:
        return
    found = result.documents[0].value
    older = pyyaml.load(document, Loader=Loader11)
    newer = ruamel_loads(document)
    assert same(found, older)
    if not isinstance(newer["key"], datetime.date):
        assert same(found, newer)


@settings(relaxed, max_examples=1000)
@given(plain)
def test_a_plain_key_that_is_accepted_is_a_text_in_yaml_1_1_too(text: str) -> None:
    document = f"{text}: 1\n"
    result = yaml.load(document.encode(), path="a.yaml")
    if not result.diagnostics:
        assert same(pyyaml.load(document, Loader=Loader11), result.documents[0].value)


@relaxed
@given(values)
def test_places_point_at_what_they_name(value: Any) -> None:
    text = pyyaml.safe_dump({"root": value}, allow_unicode=True, width=10_000)
    result = yaml.load(text.encode(), path="a.yaml")
    if result.diagnostics:
        return
    document = result.documents[0]
    lines = text.split("\n")
    for path, place in document.positions.items():
        assert document.position(path) == place
        key = path[-1] if path else "root"
        rest = lines[place.line - 1][place.column - 1 :]
        if isinstance(key, str) and key.isascii() and key.isalnum() and not rest.startswith(("?", "!", "'", '"')):
            assert rest.startswith(key)
