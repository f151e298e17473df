"""Patterns of names, paths, hosts and recipients match what they say, and nothing that could be read in two ways."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.policy import globs, wild


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("docs/**", ["docs/a", "docs/a/b.md", "./docs/a", "docs//a"], ["docs", "docsx/a", "a/docs/b", "docs/../x"]),
        ("docs/*.md", ["docs/a.md"], ["docs/a/b.md", "docs/a.txt", "docs/.md/x"]),
        ("**/test_?.py", ["test_a.py", "a/b/test_a.py"], ["test_ab.py", "a/test_a.pyc"]),
        ("src/[ab]/x", ["src/a/x"], ["src/c/x", "src///x"]),
        ("src/[!ab]/x", ["src/c/x"], ["src/a/x"]),
        ("**", ["a", "a/b"], ["/etc/passwd", "../x", "a/../../x", "~/x", "a\\b", "a\x00b", "a\nb", "", "a\u202eb"]),
        ("a+b(c)/*", ["a+b(c)/d"], ["aab(c)/d"]),
    ],
)
def test_paths_stay_below_the_workspace(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in yes if globs.matches_path([pattern], path) is None] == []
    assert [path for path in no if globs.matches_path([pattern], path) is not None] == []


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "api.example.org",
            ["api.example.org", "https://API.example.org/x?y#z", "api.example.org:8080", "http://api.example.org.:80/"],
            ["x.api.example.org", "api.example.org.evil.example", "http://api.example.org@evil.example/",
             "http://evil.example\\@api.example.org/", "http://evil.example#@api.example.org/", "http:api.example.org",
             "//api.example.org", "http://api.example.org:99999/", "http://api.example.org:80:80/", "аpi.example.org",
             "http://api.example.org\t.evil.example/", "http://[api.example.org]/"],
        ),
        ("*.example.org", ["a.example.org", "a.b.example.org"], ["example.org", "evilexample.org", "a.example.org.x"]),
        ("example.org:443", ["https://example.org/", "example.org:443"], ["http://example.org/", "example.org"]),
        ("10.0.0.0/8", ["http://10.1.2.3/x", "10.255.0.1:22"], ["11.0.0.1", "http://167772161/", "http://0x0a000001/"]),
        ("::1/128", ["http://[::1]:80/"], ["http://[::2]/", "::1.evil.example"]),
        ("*", ["https://anything.example/", "localhost"], ["", "http:///x", "http://a b/", "http://user:pw@x.example/"]),
    ],
)  # fmt: skip
def test_hosts_are_those_that_would_be_reached(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [host for host in yes if globs.matches_host([pattern], host) is None] == []
    assert [host for host in no if globs.matches_host([pattern], host) is not None] == []


def test_recipients_are_plain_addresses() -> None:
    assert globs.recipients_of("Ann@Acme.example, bob@acme.example;c@d.example") == (
        "ann@acme.example",
        "bob@acme.example",
        "c@d.example",
    )
    texts = ["", "Ann <a@b.example>", "a@b.example,", "a@b@c.example", "a b@c.example", '"a@x.example"@b.example']
    texts += ["a@b.example\nBcc: x@y.example", "ä@b.example", "a@-.example"]
    for value in (None, [], 5, {"a": "b"}, ["a@b.example", 5], *texts):
        assert globs.recipients_of(value) is None, value
    assert globs.matches_recipient(["*@acme.example"], "x@acme.example") == "*@acme.example"
    assert globs.matches_recipient(["*@acme.example"], "x@sub.acme.example") is None
    assert globs.matches_recipient(["ann@acme.example"], "bob@acme.example") is None


def test_tool_names_match_as_file_names_do() -> None:
    assert globs.matches_name("mcp:tickets/*", "mcp:tickets/list")
    assert globs.matches_name("deploy_?", "deploy_x")
    assert not globs.matches_name("deploy_?", "deploy_xy")
    assert not globs.matches_name("a.c", "abc")
    assert globs.matches_name("[ab]_x", "a_x")
    assert not globs.matches_name("read_file", "Read_file")


def test_no_text_makes_a_pattern_take_long() -> None:
    began = time.perf_counter()
    assert not globs.matches_name("*a" * 90, "a" * 80 + "b" * 120)
    assert globs.matches_path(["**/*a*a*a*a*/**/*b*b*b*/x"], "/".join(["aaaab"] * 170)) is None
    assert globs.matches_path(["**/" * 100 + "x"], "/".join(["a"] * 512)) is None
    assert globs.recipients_of("a." * 30 + "@" + "a-" * 120) is None
    assert globs.host_of("http://" + "a-" * 4_000) is None
    assert time.perf_counter() - began < 20  # measured: 0.1 s; with backtracking: hours


@given(st.text("ab*?[]!-/", max_size=8), st.text("ab-/", max_size=8))
def test_wildcards_match_as_those_of_file_names(pattern: str, text: str) -> None:
    assert wild.fits(wild.compile_wild(pattern), text) is fnmatch.fnmatchcase(text, pattern)
