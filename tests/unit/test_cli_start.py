"""What a command may not load: starting costs what the verb needs, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"sqlalchemy", "alembic", "git", "fastapi", "starlette", "uvicorn", "watchfiles", "kopf", "psycopg", "httpx2"}
PROBE = """
import json, sys
sys.argv = ["remit", *json.loads(sys.argv[1])]
from cli.entry import main
try:
    main()
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps([code or 0, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """(exit code, top-level names of what was imported) of a command."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, names = json.loads(done.stdout.splitlines()[-1])
    return code, set(names)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("get", "--help"),
        ("validate", "specs/starter/missions/check-links.yaml"),
        ("explain", "mission.spec.retry"),
    ],
)
def test_help_and_validate_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code, names = loaded(*arguments)
    assert code == 0
    assert names & (HEAVY | {"ruamel", "jsonschema", "rich"}) == set()


def test_help_needs_no_models() -> None:
    assert loaded("--help")[1] & {"pydantic", "yaml"} == set()


def test_what_a_brief_command_leaves_for_later_is_there_when_it_is_asked_for() -> None:
    program = (
        "import sys; from cli import haste; haste.begin(['validate'])\n"
        "import platform, subprocess\n"
        "from importlib.metadata import entry_points, version\n"
        "assert platform.system() and subprocess.PIPE == -1 and version('pydantic') and len(entry_points()) > 0\n"
        "assert type(sys.modules['platform']).__name__ == 'module'"
    )
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
                   check=True, timeout=60)  # fmt: skip


def test_a_command_that_lasts_keeps_the_collector() -> None:
    program = (
        "import gc; from cli import haste; haste.begin(['get']); assert gc.isenabled(); "
        "haste.begin(['run']); assert not gc.isenabled(); haste.settled(); assert gc.isenabled()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_reading_the_store_loads_the_database_and_nothing_of_the_engine(tmp_path: Path) -> None:
    from tests.fakes.world import World

    world = World(tmp_path)
    world.close()
    (tmp_path / "remit.yaml").write_text(f"store: sqlite:///{next(tmp_path.rglob('*.db'))}\n")
    code, names = loaded("-C", str(tmp_path), "get", "missions")
    assert code == 0
    assert names & (HEAVY - {"sqlalchemy"}) == set()
