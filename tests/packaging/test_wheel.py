"""What is shipped: the wheels have exactly these top-level names, and nothing that only the repository needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _build(project: Path, out: Path) -> zipfile.ZipFile:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(project)],
        check=True,
        capture_output=True,
        timeout=170,
    )
    (wheel,) = out.glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return _build(ROOT, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_exactly_these_top_level_names(wheel: zipfile.ZipFile) -> None:
    names = {name.split("/")[0] for name in wheel.namelist()}
    packages = {name for name in names if not name.endswith(".dist-info")}
    assert packages == {"api", "cli", "controllers", "decisions", "schemas", "specs", "store"}


def test_the_wheel_carries_the_starter_and_the_types(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.startswith("specs/starter/") and name.endswith(".yaml") for name in names)
    for package in ("api", "cli", "controllers", "decisions", "schemas", "store"):
        assert f"{package}/py.typed" in names


def test_the_wheel_carries_the_pages(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"api/dashboard/static/{name}" for name in ("dashboard.css", "dashboard.js", "icons.svg")} <= names
    assert {f"api/dashboard/templates/{name}.html" for name in ("base", "macros", "fleet", "detail")} <= names


def test_the_wheel_has_the_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "remit = cli.entry:main" in wheel.read(entry).decode()


def test_the_client_is_a_wheel_of_its_own(tmp_path: Path) -> None:
    files = _build(ROOT / "client", tmp_path).namelist()
    names = {name.split("/")[0] for name in files}
    assert {f"remit_client/hooks/plugins/{name}.mjs" for name in ("openclaw", "opencode")} <= set(files)
    assert {name for name in names if not name.endswith(".dist-info")} == {"remit_client"}


def test_the_locks_name_no_host_and_hash_everything() -> None:
    for lock in ("requirements.lock", "bootstrap.lock"):
        lines = (ROOT / lock).read_text().splitlines()
        assert not [line for line in lines if "://" in line]
        pins = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert pins
        assert all("==" in pin and pin.endswith("\\") for pin in pins)


def test_what_must_not_be_used_is_not_in_the_lock() -> None:
    pins = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert not pins & {"niquests", "urllib3-future", "caldav", "aiogram", "bashlex", "httpx", "pgserver"}
