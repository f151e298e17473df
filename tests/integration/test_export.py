"""Records as files: the log with all that its hashes cover, and a tenant that comes back whole from its archive."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from controllers.effects import exports
from controllers.runtime.blocking import InlineBlocking
from schemas.base import Key
from schemas.errors import Refused
from store import archive
from store.contract import EffectState
from tests.fakes.read_api import StoreClock, asking, read_app
from tests.fakes.shell import Shell, configure
from tests.fakes.stores import CountedIds, SqliteHarness
from tests.fakes.world import ALICE, World, agent, executor, mission


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("REMIT_NAMESPACE", "REMIT_STORE"):
        monkeypatch.delenv(name, raising=False)
    world = World(tmp_path)
    configure(tmp_path)
    tenant = "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: default}\nspec: {}\n"
    world.commit(
        {
            "tenant.yaml": tenant,
            "fleet.yaml": executor() + "---\n" + agent(),
            "a.yaml": mission("a"),
            "gone.yaml": mission("gone"),
        }
    )
    world.sync()
    world.finish("a-1")
    world.commit(delete=("gone.yaml",))
    world.sync()
    with world.store.transaction(ALICE) as tx:
        tx.event("MessagePosted", Key("Mission", "default", "a"), reason="=cmd", message='=HYPERLINK("x"),\n"y"')
    yield Shell(world, capsys)
    world.close()


def test_the_log_as_json_holds_everything_that_its_hashes_cover(shell: Shell) -> None:
    rows = [json.loads(line) for line in shell("export", "audit").splitlines()]
    with shell.world.store.snapshot() as snapshot:
        events = snapshot.events(limit=100_000)
    assert [(r["seq"], r["hash"], r["prev_hash"]) for r in rows] == [(e.seq, e.hash, e.prev_hash) for e in events]
    some = shell(
        "export", "audit", "--types", "Transitioned,Created", "--kinds", "Mission", "--since", "1h"
    ).splitlines()
    assert {(json.loads(line)["type"], json.loads(line)["kind"]) for line in some} <= {
        ("Created", "Mission"),
        ("Transitioned", "Mission"),
    }
    assert 0 < len(some) < len(rows)
    assert "there is no Wish" in shell("export", "audit", "--types", "Wish", code=2)


async def _exported(shell: Shell, form: str) -> str:
    async with asking(read_app(shell.world.store, StoreClock(shell.world.clock))) as client:
        answer = await client.get(f"/api/v1/events/export?format={form}")
        assert answer.status_code == 200
        assert "attachment" in answer.headers["content-disposition"]
        return answer.text


def test_the_log_as_csv_opens_no_formula_and_is_the_same_over_http(shell: Shell) -> None:
    text = shell("export", "audit", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[-1]["message"].startswith("'=HYPERLINK")
    assert rows[-1]["reason"] == "'=cmd"
    assert asyncio.run(_exported(shell, "csv")).splitlines() == text.splitlines()
    assert asyncio.run(_exported(shell, "jsonl")) == shell("export", "audit")


def test_a_tenant_comes_back_whole_from_its_archive(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "default.jsonl.gz"
    said = shell("export", "tenant", "default", "--to", str(file))
    assert "read back whole" in said
    assert file.stat().st_mode & 0o077 == 0
    assert "read back whole" in shell("export", "verify", str(file))
    shell("export", "import", str(file), "--into", f"sqlite:///{tmp_path}/other.db")
    harness = SqliteHarness(tmp_path)
    harness.path = tmp_path / "other.db"
    other = harness.open()
    with other.snapshot() as there, shell.world.store.snapshot() as here:
        assert [e.type for e in there.events(subject=Key("Tenant", "", "default"))] == [
            e.type for e in here.events(subject=Key("Tenant", "", "default"))
        ]
        for kind in ("Tenant", "Mission", "Run", "Agent", "Source"):
            assert [(r.uid, r.owner_uid, r.generation, r.spec, r.status) for r in there.objects(kind)] == [
                (r.uid, r.owner_uid, r.generation, r.spec, r.status) for r in here.objects(kind)
            ]
        run = there.objects("Run")[0]
        assert there.get_by_uid(run.owner_uid) == there.get(Key("Mission", "default", "a"))
        assert there.verify_events().problem == ""
        assert [e.message for e in there.events(subject_uid=run.owner_uid)] == [
            e.message for e in here.events(subject_uid=run.owner_uid)
        ]
        gone = next(e.subject_uid for e in here.events() if e.subject.name == "gone")
        assert there.specs(gone) == here.specs(gone)
        told = [e.message for e in here.events(subject_uid=gone) if e.subject.namespace == "default"]
        assert [e.message for e in there.events(subject_uid=gone)] == told != []
    harness.close()
    assert "not empty" in shell("export", "import", str(file), "--into", f"sqlite:///{tmp_path}/other.db", code=2)


@pytest.mark.parametrize("harm", ["cut", "changed", "format", "nonsense", "twice"])
def test_a_harmed_archive_is_refused_and_leaves_nothing(shell: Shell, tmp_path: Path, harm: str) -> None:
    with shell.world.store.snapshot() as snapshot:
        lines = list(archive.lines(snapshot, "default", at=shell.world.clock()))
    if harm == "cut":
        lines.pop()
    elif harm == "changed":
        lines = [line.replace("do a", "do b") for line in lines]
    elif harm == "format":
        lines[0] = lines[0].replace("remit-tenant/1", "remit-tenant/9")
    elif harm == "nonsense":
        lines.insert(3, "{}")
    else:
        lines += lines[:1]
    folder = tmp_path / "new"
    folder.mkdir()
    harness = SqliteHarness(folder)
    empty = harness.open()
    with pytest.raises(Refused):
        archive.load(empty, lines)
    with empty.snapshot() as snapshot:
        assert snapshot.latest_version() == 0
    harness.close()


def test_the_engine_makes_an_export_tells_of_it_and_lets_it_go(shell: Shell, tmp_path: Path) -> None:
    world, state = shell.world, tmp_path / ".remit"
    assert "30d" in shell("export", "tenant", "default", "--keep", "31d", code=2)
    assert "job default-" in shell("export", "tenant", "default")
    with world.store.transaction(ALICE) as tx:
        (asked,) = tx.effects(type=exports.EXPORT)
        assert tx.drop_effect(asked.key)
        assert exports.request(tx, "default", "default-1", timedelta(hours=2))
        assert not exports.request(tx, "default", "default-1", timedelta(hours=2))
    work = exports.ExportEffects(world.store, state, now=world.clock, new_id=CountedIds(), blocking=InlineBlocking())
    with world.store.transaction(ALICE) as tx:
        (effect,) = tx.claim_effects("test", types=[exports.EXPORT], limit=1, lease_s=60)
    for _ in range(2):  # again, as after a crash
        booked = asyncio.run(work.export(effect))
    assert booked is not None
    with world.store.transaction(ALICE) as tx:
        booked(tx)
        tx.finish_effect(effect)
    said = shell("export", "jobs")
    assert "Done" in said
    assert "objects" in said or "object" in said
    path = next((state / "exports").glob("*.gz"))
    assert json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])["tenant"] == "default"
    with world.store.snapshot() as snapshot:
        assert [e.type for e in snapshot.events(types=["ExportRequested", "ExportFinished"])] == [
            "ExportRequested",
            "ExportRequested",
            "ExportFinished",
        ]
        assert snapshot.effect(effect.key).state is EffectState.DONE  # type: ignore[union-attr]
    assert work.prune() == 0
    world.clock.tick(timedelta(hours=2).total_seconds())
    assert work.prune() == 1
    assert "Expired" in shell("export", "jobs")


def test_search_finds_by_words_and_marks_nothing_that_acts(shell: Shell) -> None:
    assert "nothing was found" in shell("search", "a")
    while shell.world.store.index_search(100):
        pass
    assert shell("search", "kind:mission", "do", "a", "-o", "name").split() == ["mission/a"]
    assert "KIND" in shell("search", "kind:event", "hyperlink")
    assert json.loads(shell("search", "zzz", "-o", "json"))["items"] == []
