"""Users of a cluster become subjects, and never two of them the same one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.cluster_user import subject_of
from schemas.base import SUBJECT_PATTERN


@pytest.mark.parametrize(
    ("username", "subject"),
    [
        ("alice", "user:alice"),
        ("ada@example.org", "user:ada@example.org"),
        ("ada+work@example.org", "user:ada+work@example.org"),
        ("oidc:alice", "user:oidc+3Aalice"),
        ("oidc+3Aalice", "user:oidc+2B3Aalice"),
        ("system:serviceaccount:ci:deployer", "service:ci/deployer"),
        ("ci/deployer", "user:ci/deployer"),
        ("", ""),
        ("système", "user:syst+C3+A8me"),
        ("-x", ""),
        ("x" * 400, ""),
    ],
)
def test_a_user_has_one_subject(username: str, subject: str) -> None:
    assert subject_of(username) == subject


NAMES = st.text(alphabet="aA3+:/|@.Bé", min_size=1, max_size=8)


@given(NAMES, NAMES)
def test_two_users_are_never_one_subject(one: str, other: str) -> None:
    subjects = subject_of(one), subject_of(other)
    assert all(not each or re.fullmatch(SUBJECT_PATTERN, each) for each in subjects)
    assert one == other or subjects[0] != subjects[1] or subjects == ("", "")
