"""The plugin of OpenClaw, as text: CI has no Node, so here stands what can be seen without running it.
tests/agents/test_node_plugins.py runs it."""

from __future__ import annotations

import re
from pathlib import Path

import remit_client.hooks
from remit_client.hooks.settings import FILES, Placed

TEXT = (Path(remit_client.hooks.__file__).parent / "plugins" / "openclaw.mjs").read_text()
CODE = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("//"))
BEFORE = CODE[CODE.index("async function before") : CODE.index("function remember")]


def test_there_is_one_way_out_of_the_question_that_is_leave() -> None:
    returns = re.findall(r"^.*\breturn\b.*$", BEFORE, re.MULTILINE)
    assert [line.strip() for line in returns] == [
        'if (answer && answer.decision === "allow") return undefined',
        "return { block: true, blockReason: reason }",
    ]
    assert "throw" not in BEFORE
    assert BEFORE.index("try {") < BEFORE.index("await post(") < BEFORE.index("} catch (error) {")


def test_only_a_200_without_a_redirect_is_read() -> None:
    assert 'redirect: "error"' in CODE
    assert "if (answer.status !== 200) throw" in CODE
    assert CODE.index("answer.status !== 200") < CODE.index("answer.json()")


def test_it_gives_up_before_openclaw_and_before_fetch_do() -> None:
    wait, limit = (int(re.search(rf"{name} = ([\d_]+)", CODE)[1]) for name in ("WAIT_S", "LIMIT_MS"))  # type: ignore[index]
    assert wait * 1000 < limit < 300_000
    assert "AbortSignal.timeout(limitMs)" in CODE


def test_the_token_goes_into_the_header_and_nowhere_else() -> None:
    assert CODE.count("REMIT_TOKEN") == 2
    assert re.findall(r"\btoken\b", re.sub(r'"[^"]*"', "", CODE)) == ["token", "token", "token"]
    assert "console" not in CODE


def test_it_imports_the_sdk_alone_and_is_shipped_with_its_manifest() -> None:
    assert re.findall(r"^import .* from \"(.*)\"$", CODE, re.MULTILINE) == ["openclaw/plugin-sdk/plugin-entry"]
    assert "require(" not in CODE
    texts = {path.rpartition("/")[2]: change("", Placed(folder="/x")) for path, change in FILES["openclaw"].files}
    assert set(texts) == {"openclaw.json", "index.mjs", "openclaw.plugin.json", "package.json"}
    assert texts["index.mjs"] == TEXT
    assert all(change(texts[path.rpartition("/")[2]], None) == "" for path, change in FILES["openclaw"].files)
