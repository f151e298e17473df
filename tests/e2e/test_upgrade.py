"""A new engine on the store of an older one, and an old engine on that of a newer one."""

from __future__ import annotations

import contextlib
import sqlite3

from store import revision
from tests.e2e.fleet import mission, workers
from tests.fakes.engine_process import Project, until


def schema(project: Project) -> str:
    with contextlib.closing(sqlite3.connect(project.database)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_an_engine_goes_on_with_the_store_of_an_older_version_and_refuses_that_of_a_newer(project: Project) -> None:
    go = project.folder / "go"
    files = {"fleet.yaml": workers(), "a.yaml": mission("a", "worker", project.effects)}
    project.commit(files | {"b.yaml": mission("b", "worker", project.effects, until=go)})
    engine = project.engine()
    project.comes_to("a", "Done")
    until(lambda: project.get("Run", "b-1").state == "Running", "the work that goes on over the upgrade")
    uids = {name: project.get("Mission", name).uid for name in ("a", "b")}
    events = len(project.events())
    engine.kill()
    project.close_store()
    old = revision.REVISIONS[0]
    project.good("db", "downgrade", old, "--yes")  # the tables as the first version wrote them
    assert schema(project) == old
    refused = project.remit("get", "missions")
    assert refused.code == 2
    assert "remit db upgrade" in refused.err

    engine = project.engine()
    assert schema(project) == revision.HEAD
    go.touch()
    project.comes_to("b", "Done")
    assert {name: project.get("Mission", name).uid for name in ("a", "b")} == uids
    assert len(project.events()) > events
    project.commit({"c.yaml": mission("c", "worker", project.effects)})
    project.comes_to("c", "Done")
    project.good("audit", "verify")
    project.ends_well(engine)
    project.good("db", "check")

    with contextlib.closing(sqlite3.connect(project.database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    late = project.engine(ready=False)
    assert late.ends() == 2
    assert "was written by a newer Remit" in late.err
    assert "Upgrade Remit" in late.err
    assert "Traceback" not in late.err
    assert project.remit("get", "missions").code == 2
