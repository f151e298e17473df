"""What holds for every test: no deadline on a busy machine, and in CI nothing is skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.scratch import scratch

# Timing says something about the machine, not about the code. The examples are the same in each run, so that what was
# green stays green until somebody changes it; `make soak` looks for new ones.
settings.register_profile(
    "remit",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="REMIT_NEW_EXAMPLES" not in os.environ,
)
settings.load_profile("remit")

# The folders of tests (tmp_path) lie in memory where that can be.
if found := scratch():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", found)


def _of_cluster(item: pytest.Item | None) -> bool:
    """Whether a test is of those that run one after the other, since they share a cluster."""
    return item is not None and any(mark.args == ("kubernetes",) for mark in item.iter_markers("xdist_group"))


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """The last of them ends the cluster, which would take its share of the processor until the end of all tests."""
    yield
    if _of_cluster(item) and not _of_cluster(nextitem):
        from tests.fakes.kubernetes_project import close_shared

        close_shared()


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
