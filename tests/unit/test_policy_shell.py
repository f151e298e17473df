"""An allowlist of commands lets through what it says, and nothing that only looks like it."""

from __future__ import annotations

from random import Random

import pytest

from decisions.policy import commands, shell
from decisions.policy.decide import command_listed
from tests.fakes.hostile_shell import ALLOWLIST, HONEST, hostile_command

ENTRIES = [commands.compile_entry(text) for text in ALLOWLIST]
HOSTILE = 10_000


def entry_for(command: str, *entries: str) -> str:
    return command_listed(command, [commands.compile_entry(text) for text in entries] or ENTRIES)[0]


@pytest.mark.parametrize("command", HONEST)
def test_an_honest_command_passes(command: str) -> None:
    assert entry_for(command) in ALLOWLIST


def test_ten_thousand_hostile_commands_do_not_pass() -> None:
    random = Random(20261121)
    seen = {hostile_command(random) for _ in range(HOSTILE * 2)}
    made = sorted(seen)[:HOSTILE] if len(seen) >= HOSTILE else []
    while len(made) < HOSTILE:
        seen.add(hostile_command(random))
        made = list(seen)
    passed = [command for command in made if command_listed(command, ENTRIES)[0]]
    assert passed == []
