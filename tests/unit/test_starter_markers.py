"""The markers agent: what counts as unfinished, how severe it is, and licences."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from remit_client.agents import markers
from remit_client.agents.globs import Globs
from remit_client.agents.licences import header, is_licence_file, read_licence
from remit_client.agents.marker_scan import Severity, scan
from remit_client.agents.markers import Audit, audit_tree, render
from remit_client.agents.tree import Tree

from tests.fakes.effort import effort

FAIL, WARNING = Severity.FAIL, Severity.WARNING
APACHE = "Apache License\n        Version 2.0, January 2004\n   http://www.apache.org/licenses/\n"


def found(path: str, text: str) -> list[tuple[int, str, Severity]]:
    return [(f.line, f.word, f.severity) for f in scan(path, text)]


def audit(root: Path, *, exclude: tuple[str, ...] = (), require_header: bool = False) -> tuple[Audit, Tree]:
    return audit_tree(
        root,
        paths=Globs(["**"], "paths"),
        exclude=Globs(exclude, "exclude"),
        require_header=require_header,
        check=lambda: None,
    )


@pytest.mark.parametrize(
    ("path", "line", "word", "severity"),
    [
        ("a.py", "# TODO: later", "TODO", FAIL),
        ("a.py", "# TODO", "TODO", FAIL),
        ("a.py", "# TODO(ann): later", "TODO", WARNING),
        ("a.py", "x = 1  # FIXME #12 breaks", "FIXME", WARNING),
        ("a.py", "# TODO: see https://example.org/1", "TODO", WARNING),
        ("a.py", "# TODO PROJ-12 later", "TODO", WARNING),
        ("a.py", "# TODO: org/repo#7", "TODO", WARNING),
        ("a.py", "# TODO( ): nobody", "TODO", FAIL),
        ("a.py", "# todo: lower case", "TODO", FAIL),
        ("a.py", "# a word first. FIXME: then this", "FIXME", FAIL),
        ("a.py", "TODO: inside a docstring", "TODO", FAIL),
        ("a.py", "    raise NotImplementedError", "stub", FAIL),
        ("a.py", "    raise NotImplementedError('x')", "stub", FAIL),
        ("a.py", "x = 'PLACEHOLDER'", "PLACEHOLDER", FAIL),
        ("a.sh", "# HACK around it", "HACK", FAIL),
        ("a.ts", "// XXX: odd", "XXX", FAIL),
        ("a.ts", "/* TODO */", "TODO", FAIL),
        ("a.ts", " * FIXME in a block", "FIXME", FAIL),
        ("a.ts", "throw new Error('Not implemented yet')", "stub", FAIL),
        ("A.java", "throw new NotImplementedException();", "stub", FAIL),
        ("a.rs", "fn f() { todo!() }", "stub", FAIL),
        ("a.rs", "    unimplemented!(\"x\")", "stub", FAIL),
        ("a.rs", "fn f<'a>() {} // TODO x", "TODO", FAIL),
        ("a.go", 'panic("not implemented")', "stub", FAIL),
        ("a.kt", "fun f(): Int = TODO()", "stub", FAIL),
        ("a.sql", "-- TODO index", "TODO", FAIL),
        ("a.html", "<!-- TODO text -->", "TODO", FAIL),
        ("a.yaml", "password: PLACEHOLDER", "PLACEHOLDER", FAIL),
        ("Makefile", "# TODO", "TODO", FAIL),
        ("noext", "# TODO", "TODO", FAIL),
        ("a.md", "TODO: write", "TODO", FAIL),
        ("a.md", "- [ ] **TODO** write", "TODO", FAIL),
        ("a.md", "## TODO", "TODO", FAIL),
        ("a.md", "text <!-- TODO(bob) --> text", "TODO", WARNING),
        ("a.md", "PLACEHOLDER", "PLACEHOLDER", FAIL),
    ],
)  # fmt: skip
def test_unfinished_places_are_found_with_their_severity(path: str, line: str, word: str, severity: Severity) -> None:
    assert found(path, f"x\n{line}\n") == [(2, word, severity)]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.py", "s = '# TODO: no'"),
        ("a.py", 's = "TODO"'),
        ("a.py", "# a comment about TODO markers"),
        ("a.py", "todo: list[int] = []"),
        ("a.py", "# autodoc: TODOS are fine, MYTODO: too"),
        ("a.py", "RE = r'raise NotImplementedError'"),
        ("a.py", "kind = word != 'PLACEHOLDER' and x"),
        ("a.ts", "const url = 'http://x/TODO'"),
        ("a.ts", "const s = `// TODO`"),
        ("a.rs", "let todo = 1;"),
        ("a.md", "The severity of a TODO is low, see TODO markers."),
        ("a.md", "`TODO: x`"),
        ("a.md", "mktemp XXXXXX"),
        ("a.txt", "nothing here"),
    ],
)
def test_mentions_are_no_findings(path: str, line: str) -> None:
    assert found(path, f"{line}\n") == []


def test_fenced_code_in_prose_is_not_looked_at() -> None:
    assert found("a.md", "```\nTODO: x\n```\nTODO: y\n") == [(4, "TODO", FAIL)]


@pytest.mark.parametrize(
    "decorator", ["@abstractmethod", "@abc.abstractmethod", "@property\n@abstractmethod", "@overload"]
)
def test_the_body_of_an_abstract_method_is_no_stub(decorator: str) -> None:
    text = f'{decorator}\ndef f(\n    self,\n) -> int:\n    """Words."""\n\n    raise NotImplementedError\n'
    assert found("a.py", text) == []
    assert found("a.py", text.replace(decorator, "@other")) != []


def test_one_line_is_one_finding() -> None:
    assert len(found("a.py", "# TODO: a FIXME: b XXX: c\n")) == 1


@pytest.mark.parametrize(
    "piece",
    ["# TODO\n", "TODO ", "TODO" + " " * 50, '"TODO', "# TODO:-:-", "TODO\n", "'\\", " raise NotImplementedError\n"],
)
@pytest.mark.parametrize("path", ["a.py", "a.ts", "a.md", "a"])
def test_a_file_made_to_be_slow_takes_time_in_proportion_to_its_size(path: str, piece: str) -> None:
    def took(size: int) -> float:
        text = piece * (size // len(piece)) + "\n# TODO"
        return effort(lambda: scan(path, text))

    assert took(200_000) < 24 * max(took(25_000), 0.002) + 0.05


def test_binary_vendored_and_huge_files_are_passed_over_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markers, "MAX_FILE_BYTES", 1000)
    (tmp_path / "LICENSE").write_text(APACHE)
    (tmp_path / "a.bin").write_bytes(b"\0# TODO: x\n")
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/a.py").write_text("# TODO: x\n")
    (tmp_path / "big.py").write_text("# TODO: x\n" * 200)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/a.py").write_text("# TODO: x\n")
    result, tree = audit(tmp_path, exclude=("tests/**",))
    assert result.places == []
    text = render(result, tree)
    assert "**Nothing unfinished was found.**" in text
    for words in (
        "binary files: 1",
        "directories left out: 1",
        "files larger than 0 MB: 1",
        "excluded by the input: 1",
    ):
        assert words in text


def test_a_file_of_a_gigabyte_costs_nothing(tmp_path: Path) -> None:
    with open(tmp_path / "big.py", "wb") as file:
        file.truncate(1 << 30)
    began = time.process_time()
    _, tree = audit(tmp_path)
    assert tree.notes["files larger than 1 MB"] == 1
    assert time.process_time() - began < 1


def test_findings_are_listed_by_severity_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text(APACHE)
    (tmp_path / "b.py").write_text("# TODO: x\n\n# TODO(ann): `y`\n")
    text = render(*audit(tmp_path))
    assert "**1 finding of severity Fail, 1 of severity Warning.**" in text
    assert "## Fail\n\n- `b.py:1` TODO: `TODO: x`" in text
    assert "## Warning\n\n- `b.py:3` TODO: `` TODO(ann): `y` ``" in text


def test_a_repository_without_a_licence_or_with_an_empty_one_is_told(tmp_path: Path) -> None:
    result, tree = audit(tmp_path)
    assert "there is no licence file" in render(result, tree)
    (tmp_path / "LICENSE").touch()
    result, tree = audit(tmp_path)
    assert [(p.file, p.severity, p.text) for p in result.places] == [("LICENSE", FAIL, "the licence file is empty")]
    (tmp_path / "LICENSE").write_text("Do as you like.")
    assert [p.severity for p in audit(tmp_path)[0].places] == [WARNING]
    (tmp_path / "LICENSE").write_text(APACHE)
    assert audit(tmp_path)[0].places == []


def test_a_licence_mark_can_be_required_of_source_files(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text(APACHE)
    (tmp_path / "a.py").write_text("# SPDX-License-Identifier: Apache-2.0\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    (tmp_path / "c.py").write_text("")
    (tmp_path / "d.md").write_text("words\n")
    assert audit(tmp_path)[0].places == []
    result, tree = audit(tmp_path, require_header=True)
    assert [(p.file, p.word) for p in result.places] == [("b.py", "header")]
    assert "1 of 2 source files carry a licence mark" in render(result, tree)


@pytest.mark.parametrize(
    ("path", "is_one"),
    [("LICENSE", True), ("licence.md", True), ("COPYING.LESSER", True), ("LICENSES/MIT.txt", True),
     ("docs/LICENSE", False), ("licenses.py", False), ("LICENSE-MIT", True)],
)  # fmt: skip
def test_licence_files_are_known_by_name(path: str, is_one: bool) -> None:
    assert is_licence_file(path) is is_one


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (APACHE, "Apache-2.0"),
        (
            "# MIT\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy of this software",
            "MIT",
        ),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007", "LGPL-3.0"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"),
        ("Redistribution and use in source and binary forms", "BSD-2-Clause"),
        ("mine", ""),
    ],
)
def test_licences_are_recognised_by_their_text(text: str, name: str) -> None:
    assert read_licence("LICENSE", text).name == name


def test_the_head_of_a_file_names_its_licence() -> None:
    assert header("#!/bin/sh\n# SPDX-License-Identifier: MIT OR Apache-2.0\n") == "MIT OR Apache-2.0"
    assert header("// Copyright 2026 The authors\n") == ""
    assert header("x = 1\n") is None
    assert header("\n" * 30 + "# Copyright\n") is None
