"""What holds for every test: no deadline on a busy machine, and in CI nothing is skipped."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Timing says something about the machine, not about the code. The examples are the same in each run, so that what was
# green stays green until somebody changes it; `make soak` looks for new ones.
settings.register_profile(
    "remit",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="REMIT_NEW_EXAMPLES" not in os.environ,
)
settings.load_profile("remit")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With REMIT_NO_SKIP (set by .ci/run) a skipped test fails the run: what it needs has to be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("REMIT_NO_SKIP") or reporter is None:
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped and exitstatus == pytest.ExitCode.OK:
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            reporter.write_line(f"SKIPPED IN CI {report.nodeid}: {reason}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
