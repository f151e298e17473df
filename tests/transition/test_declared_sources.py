"""Sources that are declared themselves: whose they are, what they may govern, and what is left when one goes."""

from __future__ import annotations

import pytest

from controllers.sources import readers
from schemas.base import Key
from schemas.resource import SYSTEM, Declared
from schemas.source import SourceReason, SourceSpec, SourceStatus
from tests.fakes.repos import Repo
from tests.fakes.world import World, mission

TENANT = "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: %s}\nspec: {displayName: T}\n"


def source(world: World, name: str, repo: Repo | str, namespace: str = "default", **spec: object) -> str:
    """The manifest of a source."""
    url = repo if isinstance(repo, str) else str(repo.path)
    fields = "".join(f"  {k}: {v}\n" for k, v in {"url": url, **spec}.items())
    meta = f"{{name: {name}, namespace: {namespace}}}"
    return f"apiVersion: remit.dev/v1alpha1\nkind: Source\nmetadata: {meta}\nspec:\n{fields}"


def team(world: World, name: str, files: dict[str, str]) -> Repo:
    """A second repository."""
    repo = Repo(world.folder / name)
    repo.commit(files)
    return repo


def status(world: World, name: str, namespace: str = "default") -> SourceStatus:
    return SourceStatus.model_validate(world.get("Source", name, namespace).status)


def test_a_declared_source_is_followed_in_units_of_its_own(world: World) -> None:
    repo = team(world, "team", {"a.yaml": mission("a", agent=None), "acme/tenant.yaml": TENANT % "acme"})
    world.commit({"team.yaml": source(world, "team", repo), "b.yaml": mission("b", agent=None)})
    world.sync()
    assert world.get("Mission", "a").unit == "team:."
    assert world.get("Mission", "a").manager == "git/team"
    assert world.get("Mission", "b").unit == "default:."
    assert [(u.path, u.reason) for u in status(world, "team").units] == [
        (".", SourceReason.SYNCED),
        ("acme", SourceReason.SYNCED),
    ]
    repo.commit({"bad.yaml": "kind: ["})
    world.sync_now(Key("Source", "default", "team"))
    assert world.reason("Source", "team", "Ready") == "False/InvalidSpec"
    assert world.reason("Source", "default", "Ready") == "True/Synced"
    assert world.find("Mission", "a") is not None


def test_a_repository_cannot_redefine_the_source_that_the_engine_follows(world: World) -> None:
    world.commit({"a.yaml": mission("a", agent=None)})
    world.sync()
    before = world.get("Source", "default").spec
    world.commit({"own.yaml": source(world, "default", "https://git.example/other.git", prune="Never")})
    world.sync()
    assert world.get("Source", "default").spec == before
    assert world.source.units[0].reason is SourceReason.INVALID_SPEC
    assert "own.yaml:1" in world.source.units[0].errors[0]
    assert "remit.yaml" in world.source.units[0].errors[0]


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repositories of this machine stand for remote ones."""
    monkeypatch.setattr(readers, "_require_remote", lambda source, spec: None)


@pytest.mark.usefixtures("reachable")
def test_a_source_of_the_same_name_in_another_namespace_touches_nothing_of_it(world: World) -> None:
    world.commit({"a.yaml": mission("a", agent=None), "b.yaml": mission("b", agent=None)})
    world.sync()
    repo = team(world, "team", {"c.yaml": in_namespace(mission("c", agent=None), "acme")})
    world.commit({"acme.yaml": TENANT % "acme", "team.yaml": source(world, "default", f"file://{repo.path}", "acme")})
    world.sync()
    for name in ("a", "b"):
        assert world.get("Mission", name).unit == "default:."
        assert world.get("Mission", name).deletion_at is None
    assert world.get("Mission", "c", "acme").unit == "acme/default:."
    assert status(world, "default", "acme").units[0].reason is SourceReason.SYNCED


def in_namespace(text: str, namespace: str) -> str:
    return text.replace("metadata: {", f"metadata: {{namespace: {namespace}, ")


@pytest.mark.usefixtures("reachable")
def test_a_source_of_a_tenant_governs_its_own_namespace_only(world: World) -> None:
    repo = team(world, "team", {"c.yaml": in_namespace(mission("c", agent=None), "acme")})
    world.commit({"acme.yaml": TENANT % "acme", "team.yaml": source(world, "specs", f"file://{repo.path}", "acme")})
    world.sync()
    assert world.find("Mission", "c", "acme") is not None
    repo.commit({"d.yaml": mission("d", agent=None), "e.yaml": TENANT % "beta"})
    world.sync_now(Key("Source", "acme", "specs"))
    unit = status(world, "specs", "acme").units[0]
    assert unit.reason is SourceReason.INVALID_SPEC
    assert any("d.yaml:1" in e and "mission/d" in e and "acme" in e for e in unit.errors), unit.errors
    assert any("e.yaml:1" in e for e in unit.errors), unit.errors
    assert world.find("Mission", "d") is None
    assert world.find("Tenant", "beta", "") is None


def test_a_source_of_a_tenant_cannot_read_this_machines_files(world: World) -> None:
    repo = team(world, "team", {"c.yaml": in_namespace(mission("c", agent=None), "acme")})
    world.commit(
        {
            "acme.yaml": TENANT % "acme",
            "local.yaml": source(world, "local", repo, "acme"),
            "folder.yaml": source(world, "folder", repo, "acme", type="Directory"),
            "file.yaml": source(world, "file", f"file://{repo.path}", "acme"),
            "loopback.yaml": source(world, "loopback", "http://127.0.0.1:9/x.git", "acme"),
        }
    )
    world.sync()
    for name in ("local", "folder", "file", "loopback"):
        found = next(c for c in world.get("Source", name, "acme").status["conditions"] if c["type"] == "Ready")
        assert (found["status"], found["reason"]) == ("False", "AddressRefused")
        assert "namespace default" in found["message"]
    assert world.find("Mission", "c", "acme") is None


@pytest.mark.parametrize("url", ["https://git.example/a.git", "ssh://git@git.example/a.git", "git@git.example:a.git"])
def test_a_source_of_a_tenant_may_read_from_elsewhere(world: World, url: str) -> None:
    world.commit({"acme.yaml": TENANT % "acme"})
    world.sync()
    with world.store.transaction(SYSTEM) as tx:
        made = tx.create(Declared("Source", "acme", "far", SourceSpec(url=url).to_wire()), manager="git/default")
    world.readers(made, SourceSpec(url=url))


def test_what_two_sources_declare_stays_with_the_first(world: World) -> None:
    repo = team(world, "team", {"a.yaml": mission("a", agent=None, priority=99)})
    world.commit({"a.yaml": mission("a", agent=None)})
    world.sync()
    world.commit({"team.yaml": source(world, "team", repo)})
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 50
    unit = status(world, "team").units[0]
    assert unit.reason is SourceReason.INVALID_SPEC
    assert "belongs to the source 'default'" in unit.errors[0]


def test_what_a_deleted_source_declared_stays_in_force_is_said_and_can_be_taken_over(world: World) -> None:
    repo = team(world, "team", {"a.yaml": mission("a", agent=None, priority=70)})
    fillers = {f"f{n}.yaml": mission(f"f{n}", agent=None) for n in range(6)}
    world.commit({"team.yaml": source(world, "team", repo), **fillers})
    world.sync()
    uid = world.get("Mission", "a").uid
    world.commit(delete=("team.yaml",))
    world.sync()
    assert world.find("Source", "team") is None
    assert world.get("Mission", "a").spec["priority"] == 70
    (event,) = [e for e in world.events("Deleted") if e.subject.kind == "Source"]
    assert event.reason == "Orphaned"
    assert "1 object(s) that it declared stay in force" in event.message
    world.commit({"a.yaml": mission("a", agent=None, priority=71)})
    world.sync()
    taken = world.get("Mission", "a")
    assert (taken.uid, taken.unit, taken.manager, taken.spec["priority"]) == (uid, "default:.", "git/default", 71)


def test_an_object_that_a_tool_made_is_taken_over_by_the_file_that_declares_it(world: World) -> None:
    with world.store.transaction(SYSTEM) as tx:
        tx.create(Declared("Mission", "default", "a", {"title": "x", "priority": 10}), manager="cli/alice")
    world.commit({"a.yaml": mission("a", agent=None)})
    world.sync()
    assert world.get("Mission", "a").unit == "default:."
    assert world.get("Mission", "a").spec["priority"] == 50
