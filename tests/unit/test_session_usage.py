"""What is kept of a session's usage: exact, once for each run, and worth nothing where somebody else wrote it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from controllers.dispatch.session_usage import SessionUsage
from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageScope, UsageSource, since


def report(usd: str | None, tokens: int) -> UsageReport:
    amount = None if usd is None else Decimal(usd)
    models = (ModelUsage("m", Tokens(input=tokens), amount),)
    return UsageReport(amount, Tokens(input=tokens), UsageSource.REPORTED, UsageScope.SESSION, models)


def test_each_run_pays_for_its_own_part_however_often_its_end_is_read(tmp_path: Path) -> None:
    used = SessionUsage(tmp_path / "sessions")
    paid = []
    for run, total, tokens in (("one", "0.10", 10), ("two", "0.25", 25), ("three", "0.25", 25)):
        for _ in range(2):
            own = since(report(total, tokens), SessionUsage(tmp_path / "sessions").before("s", run))
            used.keep("s", run, report(total, tokens))
        paid.append((own.usd, own.tokens.input, own.models[0].usd))
    assert paid == [(Decimal("0.10"), 10, Decimal("0.10")), (Decimal("0.15"), 15, Decimal("0.15")), (0, 0, 0)]
    assert used.before("other", "four") is None


def test_no_name_of_a_session_becomes_a_path(tmp_path: Path) -> None:
    used = SessionUsage(tmp_path / "sessions")
    used.keep("../../etc/passwd", "one", report(None, 3))
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["sessions"]
    found = used.before("../../etc/passwd", "two")
    assert found is not None
    assert (found.usd, found.tokens.input) == (None, 3)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"usage": 1}', '{"usage": {"usd": "NaN", "tokens": {}, "models": []}}', "[" * 100_000,
     '{"usage": {"usd": "-1", "tokens": {}, "models": []}}', '{"usage": {"usd": null, "tokens": [], "models": []}}',
     '{"usage": {"usd": null, "tokens": {"input": -1}, "models": []}}'],
)  # fmt: skip
def test_what_somebody_else_wrote_counts_for_nothing(tmp_path: Path, text: str) -> None:
    used = SessionUsage(tmp_path)
    used.keep("s", "one", report("1", 1))
    [path] = tmp_path.glob("*.json")
    path.write_text(text)
    assert used.before("s", "two") is None
    used.keep("s", "two", report("2", 2))
    found = used.before("s", "three")
    assert found is not None
    assert found.usd == Decimal(2)


def test_what_is_old_goes(tmp_path: Path) -> None:
    used = SessionUsage(tmp_path / "sessions")
    used.prune(datetime(2100, 1, 1, tzinfo=UTC))
    used.keep("s", "one", report("1", 1))
    used.prune(datetime(2100, 1, 1, tzinfo=UTC) - timedelta(days=36500))
    assert used.before("s", "two") is not None
    used.prune(datetime(2100, 1, 1, tzinfo=UTC))
    assert used.before("s", "two") is None
