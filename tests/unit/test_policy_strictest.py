"""Sections that several Policies have: the strictest holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from decisions.policy import strictest
from schemas.policy import PolicySpec, Redaction


def specs(*values: dict[str, Any]) -> list[PolicySpec]:
    return [PolicySpec.model_validate(value) for value in values]


def test_what_is_built_in_holds_where_nobody_speaks() -> None:
    none = specs({}, {})
    assert strictest.approvals(none).timeout == timedelta(hours=111)
    assert strictest.autonomy(none).max_consecutive == 3
    assert strictest.loop_detection(none).review_cycles == 3
    assert strictest.spawn(none).max_active == 30
    assert strictest.redaction([]) is Redaction.STANDARD


def test_the_strictest_of_each_field_holds() -> None:
    a = {
        "approvals": {
            "timeout": "2h",
            "quorum": 1,
            "separationOfDuties": False,
            "approvers": {"roles": ["Approver", "Admin"]},
        },
        "autonomy": {"maxConsecutive": 5, "cooldown": "60s"},
        "loopDetection": {"reviewCycles": 9, "noProgressRuns": 1},
        "spawn": {"maxDepth": 1, "ttl": "9h"},
        "redaction": "Off",
    }
    b = {
        "approvals": {"timeout": "3h", "quorum": 2, "onTimeout": "Deny", "approvers": {"roles": ["Admin"]}},
        "autonomy": {"maxConsecutive": 2},
        "loopDetection": {"reviewCycles": 2, "noProgressRuns": 5},
        "spawn": {"maxDepth": 4, "ttl": "1h"},
        "redaction": "Strict",
    }
    for order in (specs(a, b), specs(b, a)):
        approvals = strictest.approvals(order)
        assert (approvals.timeout, approvals.quorum, approvals.on_timeout) == (timedelta(hours=2), 2, "Deny")
        assert (approvals.separation_of_duties, approvals.approvers.roles) == (True, ("Admin",))
        autonomy = strictest.autonomy(order)
        assert (autonomy.max_consecutive, autonomy.cooldown) == (2, timedelta(seconds=60))
        loops = strictest.loop_detection(order)
        assert (loops.review_cycles, loops.no_progress_runs) == (2, 1)
        spawn = strictest.spawn(order)
        assert (spawn.max_depth, spawn.ttl) == (1, timedelta(hours=1))
        assert strictest.redaction(order) is Redaction.STRICT


def test_where_nobody_is_accepted_by_all_admins_answer() -> None:
    order = specs(
        {"approvals": {"approvers": {"roles": [], "subjects": ["user:ann"]}}},
        {"approvals": {"approvers": {"roles": ["Approver"]}}},
    )
    approvers = strictest.approvals(order).approvers
    assert (approvers.roles, approvers.subjects) == (("Admin",), ())
