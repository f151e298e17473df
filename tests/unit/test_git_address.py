"""What is accepted as a repository URL, ref, path and revision, before git sees any of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.sources import git_address, tree
from schemas.errors import SourceUnreadable


def refusal(call: object, text: str) -> str:
    with pytest.raises(SourceUnreadable) as caught:
        call(text)  # type: ignore[operator]
    assert caught.value.reason == tree.ADDRESS_REFUSED
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/specs.git",
        "https://robot@git.example.org:8443/a/b",
        "ssh://git@example.org:2222/specs",
        "git@example.org:acme/specs.git",
        "file:///srv/specs",
        "http://127.0.0.1:8080/specs.git",
        "http://localhost/specs.git",
        "http://[::1]:3000/specs.git",
    ],
)
def test_remote_addresses_are_accepted_as_they_are(url: str) -> None:
    address = git_address.parse_address(url)
    assert address.local is None
    assert address.url == url


@pytest.mark.parametrize("url", ["specs", "./specs", "/srv/specs", "../a b/specs", "specs.git"])
def test_a_local_path_becomes_absolute(url: str) -> None:
    address = git_address.parse_address(url)
    assert address.local == Path(url).absolute()
    assert address.protocols == "none"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-",
        "--upload-pack=touch x",
        "-oProxyCommand=x",
        "ext::sh -c touch% x",
        "fd::17",
        "transport::https://x/y",
        "git://example.org/specs",
        "ftp://example.org/specs",
        "http://example.org/specs",
        "http://127.0.0.1.example.org/specs",
        "https://example.org",
        "https://-x/specs",
        "https://example.org/a b",
        "https://example.org/\x1b[2J",
        "ssh://-oProxyCommand=x/y",
        "git@-oProxyCommand=x:y",
        "git@example.org:-x",
        "file://relative/specs",
        "specs\n--upload-pack=x",
        "specs\0",
        "x" * 2000,
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    assert "repository URL" in refusal(git_address.parse_address, url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    message = refusal(git_address.parse_address, "https://robot:s3cret@example.org/specs")
    assert "s3cret" not in message
    assert "credential helper" in message


def test_what_stands_before_the_at_sign_is_never_shown() -> None:
    assert "token" not in str(git_address.parse_address("https://token@example.org/specs"))
    assert git_address.redact("fatal: https://a:b@x/y failed") == "fatal: https://x/y failed"


@pytest.mark.parametrize("ref", ["main", "release/1.2", "v1.0", "refs/heads/main", "HEAD", "a" * 40, "über", "a@b"])
def test_refs_by_gits_rules_are_accepted(ref: str) -> None:
    assert git_address.parse_ref(ref) == ref


@pytest.mark.parametrize(
    "ref",
    [
        *("", "-x", "--all", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "@", "a@{1}", "/a", "a/"),
        *("a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "a\n", "a\x7f", "a\u202eb", "x" * 1025),
    ],
)
def test_other_refs_are_refused(ref: str) -> None:
    refusal(git_address.parse_ref, ref)


def test_a_branch_comes_before_a_tag_of_its_name() -> None:
    assert git_address.candidates("v1") == ("refs/heads/v1", "refs/tags/v1")
    assert git_address.candidates("refs/tags/v1") == ("refs/tags/v1",)


@pytest.mark.parametrize(
    ("path", "clean"), [(".", ""), ("", ""), ("./a/", "a"), ("a//b/.", "a/b"), (".remit/specs", ".remit/specs")]
)
def test_a_path_is_normalised(path: str, clean: str) -> None:
    assert git_address.parse_path(path) == clean


@pytest.mark.parametrize("path", ["..", "a/../..", "/etc", "a/..", ".git", "a/.GIT/hooks", "a\nb", "x" * 1025])
def test_a_path_that_leaves_or_enters_gits_files_is_refused(path: str) -> None:
    refusal(git_address.parse_path, path)


def test_a_revision_gives_its_commit() -> None:
    assert git_address.parse_revision(f"main@sha1:{'a' * 40}") == "a" * 40
    assert git_address.parse_revision(f"rel/1@sha256:{'b' * 64}") == "b" * 64
    assert git_address.parse_revision("c" * 40) == "c" * 40


@pytest.mark.parametrize("revision", ["", "main", "main@sha1:abc", "dir@sha256:", "-" + "a" * 40, "A" * 40])
def test_other_revisions_are_refused(revision: str) -> None:
    refusal(git_address.parse_revision, revision)


@given(st.text(max_size=60))
def test_no_text_becomes_an_option_a_helper_or_a_control_sequence(text: str) -> None:
    for parse in (git_address.parse_address, git_address.parse_ref, git_address.parse_path):
        try:
            found = parse(text)
        except SourceUnreadable as error:
            shown = str(error)
        else:
            shown = found.url if isinstance(found, git_address.Address) else found
            assert parse is git_address.parse_path or not shown.startswith("-")
            assert parse is not git_address.parse_address or not shown.lower().startswith(("ext::", "fd::"))
        assert not any(ord(character) < 32 or ord(character) == 127 for character in shown)
