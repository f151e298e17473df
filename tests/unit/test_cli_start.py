"""What a command may not load: starting costs what the verb needs, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controllers.runtime.clock import SystemClock
from store import open_store
from tests.fakes.engine_process import Project, free_port, until
from tests.fakes.world import EXECUTOR, agent, mission

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


LATER = {
    "alembic", "controllers.calendars", "controllers.cluster", "controllers.effects.calendars",
    "controllers.notify.broadcast", "controllers.notify.email", "controllers.reconcilers.proposing",
    "controllers.secrets.aws", "controllers.secrets.aws_role", "controllers.secrets.vault", "controllers.sources.edit",
    "controllers.status.kubernetes", "apprise", "cryptography", "fastapi", "httpx2", "icalendar", "jsonschema", "kopf",
    "psycopg", "ruamel", "schemas.crd", "smtplib", "sqlalchemy.dialects.postgresql",
    "xml.etree.ElementTree",
}  # fmt: skip
"""What no first dispatch of a local engine needs. Whoever imports it where a module is loaded has every start wait."""
RUNNING = """
import json, os, signal, sys
from pathlib import Path
from api import late

late.QUIET_S = 1e9  # what is loaded some time after the start is none of its business

def tell(*_):
    aside = Path(sys.argv[0] + ".aside")
    aside.write_text(json.dumps(list(sys.modules)))
    aside.replace(sys.argv[0])

sys.argv[0] = os.environ["HOME"] + "/modules"
signal.signal(signal.SIGUSR1, tell)
from cli.entry import main
main()
"""
CALENDAR = """
apiVersion: remit.dev/v1alpha1
kind: Calendar
metadata: {{name: team}}
spec: {{type: CalDav, allowPrivate: true, calDav: {{url: "http://127.0.0.1:{}/"}}}}
"""


def _reason(project: Project) -> str:
    """Why the calendar is ready, or is not."""
    calendar = project.find("Calendar", "team")
    conditions = [] if calendar is None else calendar.status.get("conditions", [])
    return next((c["reason"] for c in conditions if c["type"] == "Ready"), "")


def test_until_the_first_dispatch_the_engine_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    project = Project(tmp_path)
    try:
        started = project.effects / "started"
        specs = {
            "e.yaml": EXECUTOR.replace('"true"', f'"touch {started}"'),
            "a.yaml": agent(),
            "m.yaml": mission("job"),
        }
        project.repo.commit(specs, checkout=False)
        project.database.parent.mkdir(mode=0o700)
        url = f"sqlite:///{project.database}"  # there already: what makes a new one is not asked about
        open_store(url, now=SystemClock().now, new_id=lambda: "unused", create=True).close()
        engine = project.engine(remit=[sys.executable, "-c", RUNNING], ready=False)
        until(started.exists, "the first run")
        engine.send(signal.SIGUSR1)
        told = project.home / "modules"
        until(told.exists, "the names of modules")
        # What was left out is there when it is asked for.
        project.repo.commit({"c.yaml": CALENDAR.format(free_port())}, checkout=False)
        until(lambda: _reason(project) == "Unreachable", "a look into the calendar")
        assert engine.stop() == 0
        assert set(json.loads(told.read_text())) & LATER == set()
    finally:
        project.close()
