"""Walking a hostile directory, path patterns, options, and Markdown around foreign text."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remit_client import Canceled, Failure
from remit_client.agents.globs import Globs
from remit_client.agents.markdown import code, plain
from remit_client.agents.options import Options
from remit_client.agents.tree import Tree, read_bytes, resolve_inside, show, to_text, walk


def walked(root: Path, **options: Any) -> Tree:
    return walk(root, check=lambda: None, **options)


def paths(tree: Tree) -> list[str]:
    return [entry.path for entry in tree.files]


def test_regular_files_come_sorted_and_other_peoples_are_left_out(tmp_path: Path) -> None:
    ours, foreign = ("b", "a/z", "a/y"), ("node_modules/x", ".venv/x", "env/pyvenv.cfg", "sub/.git")
    for name in (*ours, *foreign, ".git/config", ".remit/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tree = walked(tmp_path)
    assert paths(tree) == ["a/y", "a/z", "b"]
    assert tree.notes == {"directories left out": 4}


def test_symbolic_links_loops_and_special_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "etc").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "f").touch()
    tree = walked(tmp_path)
    assert paths(tree) == ["f"]
    assert tree.notes == {"symbolic links": 3, "special files": 1}


def test_a_tree_without_a_bottom_is_not_followed_to_its_end(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(150):
            os.mkdir("d" * 40)
            os.chdir("d" * 40)
        Path("f").touch()
    finally:
        os.chdir(here)
    tree = walked(tmp_path)
    assert tree.files == []
    assert tree.notes["directories deeper than 64"] + tree.notes["unreadable directories"] == 1


def test_names_that_are_no_text_are_walked_and_shown(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff\xfe", "wb"):
        pass
    (path,) = paths(walked(tmp_path))
    assert show(path) == "\\xff\\xfe"


def test_more_files_than_the_bound_end_the_walk_with_a_word(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    tree = walked(tmp_path, max_files=10)
    assert len(tree.files) == 10
    assert tree.incomplete == "there are more than 10 files"


def test_a_walk_can_be_stopped(tmp_path: Path) -> None:
    def check() -> None:
        raise Canceled

    with pytest.raises(Canceled):
        walk(tmp_path, check=check)


def test_excluded_directories_are_not_entered(tmp_path: Path) -> None:
    (tmp_path / "tests/deep").mkdir(parents=True)
    (tmp_path / "tests/deep/x").touch()
    (tmp_path / "tests2").touch()
    tree = walked(tmp_path, exclude=Globs(["tests/**"], "exclude"))
    assert paths(tree) == ["tests2"]


def test_only_regular_files_are_read_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "f").write_bytes(b"12345")
    refusals = {"pipe": "not a regular file", "link": "symbolic", ".": "not a regular", "none": "No such"}
    for name, words in refusals.items():
        with pytest.raises(OSError, match=words):
            read_bytes(tmp_path / name, 10)
    assert read_bytes(tmp_path / "f", 3) == b"123"


def test_text_is_decoded_whatever_it_is() -> None:
    assert to_text(b"\xef\xbb\xbfa\r\nb\rc\xff") == "a\nb\nc\ufffd"


@pytest.mark.parametrize("path", ["..", "a/../..", "/", "/etc", "out", "a/out"])
def test_a_directory_outside_of_the_project_is_refused(tmp_path: Path, path: str) -> None:
    project = tmp_path / "p"
    (project / "a").mkdir(parents=True)
    (project / "out").symlink_to("..")
    (project / "a/out").symlink_to("../out")
    with pytest.raises(Failure, match="OutsideProject"):
        resolve_inside(project, path, "input.root")


@pytest.mark.parametrize("path", ["none", "f", "loop", "x" * 5000, "a\x00b"])
def test_a_directory_that_is_none_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Failure, match="RootNotFound"):
        resolve_inside(tmp_path, path, "input.root")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "a/b.md", True),
        ("*.md", "a/b.md", True),
        ("*.md", "a/b.mdx", False),
        ("docs/**", "docs/a/b.md", True),
        ("docs/**", "docs", True),
        ("docs/", "docs/a", True),
        ("docs/**", "docs2/a", False),
        ("docs/*.md", "docs/a/b.md", False),
        ("**/b.md", "b.md", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/y/c", False),
        ("?.md", "a.md", True),
        ("?.md", "ab.md", False),
        ("*a*b*", "xxaxxbxx", True),
        ("./a", "a", True),
        ("[a].md", "a.md", False),
        ("a*", "a", True),
    ],
)
def test_patterns_match_as_people_expect(pattern: str, path: str, matches: bool) -> None:
    assert Globs([pattern], "paths").matches(path) is matches


@given(st.lists(st.sampled_from(["*", "**", "a", "b", "?", "a*", "*b"]), min_size=1, max_size=5),
       st.lists(st.sampled_from(["a", "b", "ab", "ba", "abb"]), min_size=1, max_size=5))  # fmt: skip
def test_patterns_agree_with_a_regular_expression(pattern: list[str], path: list[str]) -> None:
    expression = "/".join(pattern)
    if len(pattern) == 1:
        expression = "**/" + expression
    regex = ""
    for part in expression.split("/"):
        regex += "(/[^/]+)*" if part == "**" else "/" + part.replace("*", "[^/]*").replace("?", "[^/]")
    assert Globs(["/".join(pattern)], "p").matches("/".join(path)) is bool(re.fullmatch(regex, "/" + "/".join(path)))


@pytest.mark.parametrize("pattern", ["*a" * 140 + "b", "**/" * 90 + "x", "*" * 300])
def test_a_pattern_made_to_be_slow_is_not(pattern: str) -> None:
    began = time.process_time()
    Globs([pattern], "paths").matches("/".join(["a" * 250] * 15))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("pattern", ["/etc/**", "../x", "a/../b", "x" * 301])
def test_patterns_that_leave_the_root_are_refused(pattern: str) -> None:
    with pytest.raises(Failure, match=r"InvalidInput: input\.paths"):
        Globs([pattern], "paths")


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"text": 5}, "input.text must be a text on one line, not 5"),
        ({"text": "a\nb"}, "input.text must be"),
        ({"flag": "yes"}, "input.flag must be true or false, not 'yes'"),
        ({"flag": 1}, "input.flag must be true or false"),
        ({"whole": 11}, "input.whole must be a whole number from 1 to 10, not 11"),
        ({"whole": True}, "input.whole must be"),
        ({"whole": 2.0}, "input.whole must be"),
        ({"choice": "c"}, "input.choice must be one of A, B, not 'c'"),
        ({"texts": "a"}, "input.texts must be a list"),
        ({"texts": ["a", 1]}, "input.texts must be a list of texts"),
        ({"texts": ["a"] * 101}, "input.texts must be"),
        ({"flags": True}, "input.flags is not an option of this agent; did you mean flag?"),
        ({"zzz": 1}, "known are choice, flag, text, texts, whole"),
    ],
)
def test_wrong_input_is_told_with_the_field_and_what_is_expected(given_: dict[str, Any], words: str) -> None:
    def read() -> None:
        options = Options(given_)
        options.text("text", "")
        options.flag("flag", False)
        options.whole("whole", 1, 1, 10)
        options.choice("choice", "A", ("A", "B"))
        options.texts("texts", [])
        options.finish()

    with pytest.raises(Failure) as caught:
        read()
    assert caught.value.reason == "InvalidInput"
    assert words in caught.value.message


@given(st.text(max_size=80))
def test_foreign_text_cannot_leave_its_inline_code(text: str) -> None:
    result = code(text, cell=True)
    fence = re.match("`+", result)
    assert fence is not None
    assert "\n" not in result
    inner = result[len(fence.group()) : -len(fence.group())]
    assert fence.group() not in re.findall("`+", inner)
    result.encode()


@given(st.text(max_size=80))
def test_foreign_words_hold_no_markup(text: str) -> None:
    result = plain(text)
    assert "\n" not in result
    bare = re.sub(r"\\.", "", result)
    assert not set(bare) & set("`*_[]<>|#&")
    result.encode()
