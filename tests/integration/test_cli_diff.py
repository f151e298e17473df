"""`remit diff` as people, programs and pull requests read it. ``python -m tests.integration.test_cli_diff`` rewrites
the files that it is compared with."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

import pytest

from cli.main import run
from tests.fakes.world import agent, executor, mission

GOLDEN = Path(__file__).parent / "golden"
FORMS = {"human": "diff.txt", "json": "diff.json", "markdown": "diff.md"}
BEFORE = {
    "fleet.yaml": executor() + "---\n" + agent(),
    "a.yaml": mission("a", priority=10),
    "b.yaml": mission("b", agent=None),
}
AFTER = {
    "fleet.yaml": executor() + "---\n" + agent(),
    "a.yaml": mission("a", priority=90, title="do `a` | <b>now</b>"),
    "c.yaml": mission("c"),
}


def shown(folder: Path, form: str) -> str:
    """What is printed of going from BEFORE to AFTER."""
    for name, files in (("before", BEFORE), ("after", AFTER)):
        (folder / name).mkdir(exist_ok=True)
        for path, text in files.items():
            (folder / name / path).write_text(text)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(["diff", str(folder / "after"), "--base", str(folder / "before"), "-o", form])
    assert code in (1, 3), out.getvalue()
    return out.getvalue().replace(str(folder), "FOLDER")


@pytest.mark.parametrize("form", FORMS)
def test_a_diff_is_printed_as_it_always_was(tmp_path: Path, form: str) -> None:
    assert shown(tmp_path, form) == (GOLDEN / FORMS[form]).read_text()


def test_a_diff_in_json_is_valid_and_names_every_change(tmp_path: Path) -> None:
    (plan,) = json.loads(shown(tmp_path, "json"))
    assert {(e["action"], e["name"]) for e in plan["entries"]} == {("update", "a"), ("delete", "b"), ("create", "c")}


def main() -> None:
    """Rewrite the files."""
    for form, name in FORMS.items():
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / name).write_text(shown(Path(folder), form))


if __name__ == "__main__":
    main()
