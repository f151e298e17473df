"""Which parser reads which format."""

from __future__ import annotations

from controllers.dispatch.output import claude_json, codex_jsonl, gemini_json, open_code_jsonl, remit, text
from controllers.dispatch.output.parsed import Parser
from schemas.executor import OutputFormat

PARSERS: dict[OutputFormat, Parser] = {
    OutputFormat.REMIT: remit.parse,
    OutputFormat.TEXT: text.parse,
    OutputFormat.CLAUDE_JSON: claude_json.parse,
    OutputFormat.CODEX_JSONL: codex_jsonl.parse,
    OutputFormat.GEMINI_JSON: gemini_json.parse,
    OutputFormat.OPEN_CODE_JSONL: open_code_jsonl.parse,
}
"""Total: every OutputFormat has one."""
