"""The environment of an agent program, and where its secrets come from."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from controllers.dispatch.environment import SYSTEM_PATH, LocalSecrets, PrivatePaths, SecretMissing, build
from controllers.dispatch.executor import RunOrder
from schemas.secret import EnvVar, ValueFrom

PATHS = PrivatePaths(Path("/run/mission.json"), Path("/run/home"), Path("/run/tmp"))


def order(project_root: Path) -> RunOrder:
    return RunOrder(
        run_uid="uid-1",
        run_name="audit-1",
        namespace="default",
        attempt=1,
        executor_spec={},
        mission={},
        agent="auditor",
        token="rmt_token",
        agent_url="http://127.0.0.1:8421",
        project_root=project_root,
    )


def test_without_declared_variables_there_are_only_ours(tmp_path: Path) -> None:
    environment = build(order(tmp_path), (), LocalSecrets({"SECRET": "x"}), PATHS, Path("/work"))
    assert environment == {
        "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "HOME": "/run/home",
        "TMPDIR": "/run/tmp",
        "REMIT_URL": "http://127.0.0.1:8421",
        "REMIT_RUN": "uid-1",
        "REMIT_TOKEN": "rmt_token",
        "REMIT_MISSION_FILE": "/run/mission.json",
        "REMIT_WORKSPACE": "/work",
        "REMIT_IDEMPOTENCY_KEY": "",
    }


@pytest.mark.parametrize(
    ("session", "told"),
    [({"id": "0190-ab.c"}, "0190-ab.c"), ({}, ""), (None, ""), ({"id": "--dangerous"}, ""), ({"id": "a b"}, ""),
     ({"id": "a\nb"}, ""), ({"id": 5}, ""), ({"id": "x" * 201}, "")],
)  # fmt: skip
def test_a_session_is_told_only_under_a_name_that_can_be_nothing_else(
    tmp_path: Path, session: object, told: str
) -> None:
    given = replace(order(tmp_path), mission={"session": session, "idempotencyKey": "uid/1"})
    environment = build(given, (), LocalSecrets({}), PATHS, Path("/work"))
    assert environment.get("REMIT_SESSION", "") == told
    assert environment["REMIT_IDEMPOTENCY_KEY"] == "uid/1"


def test_declared_variables_come_from_the_spec_the_engine_and_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file\nsecond line\n")
    (tmp_path / "key").chmod(0o600)
    declared = (
        EnvVar(name="PLAIN", value="a b"),
        EnvVar(name="FROM_ENV", value_from=ValueFrom(env="ENGINE_VAR")),
        EnvVar(name="FROM_FILE", value_from=ValueFrom(file="key")),
        EnvVar(name="FROM_ABSOLUTE", value_from=ValueFrom(file=str(tmp_path / "key"))),
        EnvVar(name="HOME", value="/home/agent"),
    )
    environment = build(order(tmp_path), declared, LocalSecrets({"ENGINE_VAR": "from env"}), PATHS, Path("/work"))
    assert environment["PLAIN"] == "a b"
    assert environment["FROM_ENV"] == "from env"
    assert environment["FROM_FILE"] == environment["FROM_ABSOLUTE"] == "from file\nsecond line"
    assert environment["HOME"] == "/home/agent"
    assert "ENGINE_VAR" not in environment


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (ValueFrom(env="NOT_THERE"), "no environment variable NOT_THERE"),
        (ValueFrom(file="not-there"), "cannot read the file not-there"),
        (ValueFrom(file="."), "not a regular file"),
        (ValueFrom(file="pipe"), "not a regular file"),
        (ValueFrom(file="huge"), "larger than"),
        (ValueFrom(file="binary"), "not UTF-8"),
        (ValueFrom(file="nul"), "NUL byte"),
        (ValueFrom.model_construct(env=None, file="a\0b"), "cannot read"),
        (ValueFrom.model_validate({"vault": {"path": "p", "key": "k"}}), "kind vault"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named_and_no_value_is_shown(
    tmp_path: Path, reference: ValueFrom, said: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").write_text("s3cret" * 20_000)
    (tmp_path / "binary").write_bytes(b"s3cret\xff")
    (tmp_path / "nul").write_bytes(b"s3cret\0")
    for name in ("huge", "binary", "nul"):
        (tmp_path / name).chmod(0o600)
    with pytest.raises(SecretMissing, match="the variable TOKEN has no value") as error:
        build(order(tmp_path), (EnvVar(name="TOKEN", value_from=reference),), LocalSecrets({}), PATHS, Path("/work"))
    assert said in str(error.value)
    assert "s3cret" not in str(error.value)


def test_secrets_do_not_show_in_the_representation_of_what_holds_them(tmp_path: Path) -> None:
    assert "rmt_token" not in repr(order(tmp_path))
    assert "hunter2" not in repr(LocalSecrets({"A": "hunter2"}))
