"""Passes that look only at what a commit changed: they come to the same as passes that look at everything."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from controllers.sources import git, git_tree
from controllers.sources.sync import SourceSync
from controllers.sources.tree import Entry
from controllers.wiring import DEFAULT_SOURCE
from schemas.base import Key
from schemas.event import EventType
from schemas.source import SourceReason
from tests.fakes.world import World, agent, executor, mission


def base(count: int = 30) -> dict[str, str]:
    return {
        "e.yaml": executor(),
        "a.yaml": agent(),
        "closed.yaml": agent("closed", inputSchema="{type: object, additionalProperties: false}"),
        **{f"m/{n}.yaml": mission(f"m{n}") for n in range(count)},
    }


def look(world: World) -> None:
    """What a poll does, and whatever follows from it."""
    world.sync_now(DEFAULT_SOURCE)
    world.settle()


def declared(world: World) -> dict[Key, Any]:
    """All that sources can decide about objects."""
    with world.store.snapshot() as snapshot:
        found = [*snapshot.list_unit("default:.")]
    return {
        r.key: (r.uid, r.generation, r.spec, r.labels, r.annotations, r.unit, r.manager, r.provenance, r.ownership)
        for r in found
    }


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths whose content is read."""
    paths: list[str] = []
    plain = git.GitReader.read_blobs

    def counted(self: git.GitReader, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        for entry, data in plain(self, entries):
            paths.append(entry.path)
            yield entry, data

    monkeypatch.setattr(git.GitReader, "read_blobs", counted)
    return paths


def planned_of(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many declarations each later plan was made of."""
    from controllers.sources import planning

    sizes: list[int] = []
    plain = planning.plan_unit

    def counted(snapshot: Any, source: str, unit: Any, *rest: Any, **options: Any) -> Any:
        sizes.append(len(unit.declared))
        return plain(snapshot, source, unit, *rest, **options)

    monkeypatch.setattr(planning, "plan_unit", counted)
    return sizes


def test_one_changed_file_costs_one_file(world: World, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    world.commit(base())
    look(world)
    sizes = planned_of(world, monkeypatch)
    read.clear()
    world.commit({"m/3.yaml": mission("m3", priority="High")})
    look(world)
    assert read == ["m/3.yaml"]
    assert sizes == [1]
    assert world.get("Mission", "m3").spec["priority"] == 80
    assert world.source.units[0].applied_revision == world.source.revision
    assert world.source.units[0].objects == 33


def test_a_new_file_costs_one_file_and_is_counted(
    world: World, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit(base())
    look(world)
    sizes = planned_of(world, monkeypatch)
    read.clear()
    world.commit({"new/n.yaml": mission("fresh")})
    look(world)
    assert (read, sizes) == (["new/n.yaml"], [1])
    assert world.find("Mission", "fresh") is not None
    assert world.source.units[0].objects == 34
    world.commit({"new/n.yaml": mission("fresh", priority="High")})
    look(world)
    assert sizes == [1, 1]


@pytest.mark.parametrize(
    ("files", "delete"),
    [
        ({}, ("m/3.yaml",)),
        ({"m/3.yaml": mission("other")}, ()),
        ({"m/3.yaml": mission("m4")}, ()),
        ({"a.yaml": agent(maxConcurrentMissions=2)}, ()),
        ({"m/3.yaml": mission("m3", dependsOn="[{name: m4}]")}, ()),
        ({"m/3.yaml": mission("m33", annotations="remit.dev/renamed-from: m3")}, ()),
        ({"team/tenant.yaml": "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: team}\nspec: {}\n"}, ()),
        ({"m/3.yaml": mission("m3", colour="red")}, ()),
        ({"m/3.yaml": mission("m3", agent="closed", input="{x: 1}")}, ()),
        ({"m/3.yaml": "# nothing\n"}, ()),
    ],
)  # fmt: skip
def test_what_concerns_others_is_looked_at_with_them(
    world: World, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], delete: tuple[str, ...]
) -> None:
    world.commit(base())
    look(world)
    sizes = planned_of(world, monkeypatch)
    world.commit(files, delete=delete)
    look(world)
    assert not sizes or max(sizes) > 25
    assert world.source.revision is not None
    assert world.source.revision.endswith(world.repo.head)
    narrow = declared(world)
    world.sync()
    assert declared(world) == narrow


def test_an_input_that_the_agent_does_not_take_is_refused(world: World) -> None:
    world.commit(base())
    look(world)
    world.commit({"n.yaml": mission("fresh", agent="closed", input="{x: 1}")})
    look(world)
    assert world.source.units[0].reason is SourceReason.INVALID_SPEC
    assert "inputSchema" in world.source.units[0].errors[0]
    assert world.find("Mission", "fresh") is None


def test_a_changed_prompt_file_reaches_its_agent(world: World) -> None:
    world.commit({**base(), "p.md": "be kind", "a.yaml": agent(systemPromptFrom="{path: p.md}")})
    look(world)
    world.commit({"m/3.yaml": mission("m3", priority="High")})
    look(world)
    world.commit({"p.md": "be brief", "m/3.yaml": mission("m3", priority="Low")})
    look(world)
    assert world.get("Agent", "worker").spec["systemPrompt"] == "be brief"


def test_an_engine_that_starts_again_goes_on_from_there(
    world: World, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit(base())
    look(world)
    world.commit({"m/3.yaml": mission("m3", priority="High")})
    look(world)
    sizes = planned_of(world, monkeypatch)
    world.restart()
    read.clear()
    world.commit({"m/4.yaml": mission("m4", priority="High")})
    look(world)
    assert (read, sizes) == (["m/4.yaml"], [1])
    world.restart()
    world.commit(delete=("m/5.yaml",))
    look(world)
    assert max(sizes) > 25


def test_an_engine_that_was_killed_while_it_applied_looks_at_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: team}\nspec: {}\n"
    world.commit({**base(), "team/tenant.yaml": tenant, "team/m.yaml": mission("t0", agent=None)})
    look(world)
    plain, calls = SourceSync._apply, []

    def killed(self: SourceSync, *given: Any, **options: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(given)
        return plain(self, *given, **options)

    monkeypatch.setattr(SourceSync, "_apply", killed)
    world.commit({"m/new.yaml": mission("fresh"), "team/new.yaml": mission("other", agent=None)})
    with pytest.raises(KeyboardInterrupt):
        world.sync_now(DEFAULT_SOURCE)
    monkeypatch.undo()
    assert world.find("Mission", "fresh") is not None
    world.restart()
    world.commit(delete=("m/new.yaml", "team/new.yaml"))
    look(world)
    assert world.find("Mission", "fresh") is None


def test_a_pass_that_follows_a_commit_is_one_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.commit(base())
    look(world)
    made: list[object] = []
    plain = type(world.store).transaction

    def counted(self: Any, *given: Any, **options: Any) -> Any:
        made.append(given)
        return plain(self, *given, **options)

    monkeypatch.setattr(type(world.store), "transaction", counted)
    monkeypatch.setattr(type(world.store), "cache_blobs", counted)
    world.commit({"m/3.yaml": mission("m3", priority="High"), "new/n.yaml": mission("fresh")})
    world.sync_now(DEFAULT_SOURCE)
    assert len(made) == 1


def test_a_name_that_somebody_took_away_is_looked_at_with_everything(world: World) -> None:
    world.commit(base())
    look(world)
    world.remove("Mission", "m9")
    world.commit({"again.yaml": mission("m9")})
    look(world)
    assert world.source.units[0].reason is SourceReason.INVALID_SPEC


def test_drift_elsewhere_waits_for_the_next_full_look(world: World) -> None:
    world.commit(base())
    look(world)
    world.remove("Mission", "m9")
    world.commit({"m/3.yaml": mission("m3", priority="High")})
    look(world)
    assert world.find("Mission", "m9") is None
    world.clock.tick(601)
    look(world)
    assert world.find("Mission", "m9") is not None


def test_an_object_of_a_changed_file_that_somebody_took_away_comes_back(world: World) -> None:
    world.commit(base())
    look(world)
    world.remove("Mission", "m3")
    world.commit({"m/3.yaml": mission("m3", priority="High")})
    look(world)
    assert world.get("Mission", "m3").spec["priority"] == 80


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_committed_a_full_look_finds_nothing_left(world: World, seed: int) -> None:
    chance = random.Random(seed)
    world.commit(base(12))
    look(world)
    there = {n: f"m{n}" for n in range(12)}
    for step in range(8):
        number = chance.randrange(16)
        name = f"m/{number}.yaml"
        match chance.randrange(6):
            case 0 if number in there and len(there) > 9:
                del there[number]
                world.commit(delete=(name,))
            case 1:
                there[number] = f"m{number}"
                other = chance.choice(sorted(there))
                more = f"dependsOn: [{{name: m{other}}}]\n" if other != number else ""
                world.commit({name: mission(f"m{number}", title=f"step-{step}") + (f"  {more}" if more else "")})
            case 2:
                there[number] = f"m{number}"
                world.commit({name: mission(f"m{number}") + f"---\n{mission(f'x{number}', title=f'step-{step}')}"})
            case 3:
                world.commit({"a.yaml": agent(maxConcurrentMissions=1 + step)})
            case _:
                there[number] = f"m{number}"
                world.commit({name: f"# {step}\n" * (step % 3) + mission(f"m{number}", title=f"step-{step}")})
        look(world)
        errors = world.source.units[0].errors
        after = declared(world)
        world.sync()
        assert declared(world) == after
        assert world.source.units[0].errors == errors
    with world.store.snapshot() as snapshot:
        assert not snapshot.events(types=[EventType.DRIFT_CORRECTED])


def test_a_file_that_changed_in_nothing_that_counts_is_one_file_the_next_time_too(
    world: World, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({**base(), "README.md": "1"})
    look(world)
    sizes = planned_of(world, monkeypatch)
    world.commit({"m/3.yaml": mission("m3") + "# a note\n"})
    look(world)
    world.commit({"m/3.yaml": mission("m3") + "# another note\n"})
    look(world)
    world.commit({"README.md": "2"})
    look(world)
    world.commit({"m/3.yaml": mission("m3", priority="High")})
    look(world)
    assert sizes == [1, 1, 1]
    assert world.source.revision is not None
    assert world.source.revision.endswith(world.repo.head)


def test_a_full_look_after_a_restart_lists_nothing_that_an_earlier_one_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit(base())
    look(world)
    listings: list[str] = []
    plain = git_tree.TreeLister.listing

    def counted(self: git_tree.TreeLister, root: str) -> git_tree.Listing:
        listings.append(root)
        return plain(self, root)

    monkeypatch.setattr(git_tree.TreeLister, "listing", counted)
    world.remove("Mission", "m9")
    world.restart()
    world.clock.tick(601)
    look(world)
    assert listings == []
    assert world.find("Mission", "m9") is not None
    world.restart()
    world.commit(delete=("m/5.yaml",))
    look(world)
    assert len(listings) == 1
    assert world.find("Mission", "m5") is None
