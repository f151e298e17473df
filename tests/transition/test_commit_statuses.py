"""What a forge shows on the commits of a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from controllers.dispatch.environment import LocalSecrets
from controllers.runtime.blocking import InlineBlocking
from controllers.status.commits import SET_STATUS, CommitStatusEffects, report
from controllers.wiring import DEFAULT_SOURCE
from schemas.errors import Retry, Terminal
from schemas.resource import SYSTEM
from schemas.source import ForgeType
from store.contract import EffectState
from tests.fakes.forges import REPOSITORY, TOKEN, FakeForge, serving
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.asyncio

FLEET = {"fleet.yaml": "---\n".join([executor(), agent(), mission("audit")])}


@dataclass
class Desk:
    """A world whose source has a forge, and what carries statuses there."""

    world: World
    forge: FakeForge
    effects: CommitStatusEffects

    async def look(self) -> list[str]:
        """Look at the source, report, and send what waits; what went wrong."""
        self.forge.commits.add(self.world.repo.head)
        self.world.sync()
        report(self.world.store, DEFAULT_SOURCE)
        with self.world.store.transaction(SYSTEM) as tx:
            claimed = tx.claim_effects("desk", types=[SET_STATUS], limit=10, lease_s=60)
        problems = []
        for effect in claimed:
            try:
                commit = await self.effects.send(effect)
            except (Retry, Terminal) as error:
                problems.append(str(error))
                with self.world.store.transaction(SYSTEM) as tx:
                    tx.fail_effect(effect, str(error), retry_at=tx.now if isinstance(error, Retry) else None)
                continue
            with self.world.store.transaction(SYSTEM) as tx:
                tx.finish_effect(effect)
                if commit is not None:
                    commit(tx)
        self.world.settle()
        return problems

    @property
    def shown(self) -> list[tuple[str, str]]:
        """(commit, state) in the order that they came."""
        return [(s["commit"], s["state"]) for s in self.forge.statuses]

    @property
    def says(self) -> str:
        return self.world.reason("Source", "default", "ForgeReported")


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    with serving(ForgeType.GITHUB) as forge:
        spec = {"type": "GitHub", "url": forge.url, "repository": REPOSITORY, "token": {"env": "FORGE_TOKEN"}}
        world.spec = world.spec.model_validate({**world.spec.model_dump(), "forge": spec})
        world.restart()
        effects = CommitStatusEffects(
            world.store,
            secrets=LocalSecrets({"FORGE_TOKEN": TOKEN}),
            project=world.folder,
            hosts=[forge.host],
            blocking=InlineBlocking(),
        )
        yield Desk(world, forge, effects)


async def test_a_commit_that_is_in_force_is_a_success_once(desk: Desk) -> None:
    head = desk.world.commit(FLEET)
    for _ in range(3):
        assert await desk.look() == []
        desk.world.clock.tick(700)
    assert desk.shown == [(head, "success")]
    assert desk.forge.statuses[0]["context"] == "remit"
    assert desk.says == "True/ForgeReported"


async def test_a_commit_that_does_not_compile_is_a_failure_and_its_cure_a_success(desk: Desk) -> None:
    good = desk.world.commit(FLEET)
    await desk.look()
    bad = desk.world.commit({"fleet.yaml": FLEET["fleet.yaml"].replace("title:", "tittle:")})
    await desk.look()
    cure = desk.world.commit(FLEET)
    await desk.look()
    assert desk.shown == [(good, "success"), (bad, "failure"), (cure, "success")]
    assert "fleet.yaml" in desk.forge.statuses[1]["description"]


async def test_a_plan_that_waits_is_pending_until_it_is_confirmed(desk: Desk) -> None:
    desk.world.commit(FLEET)
    await desk.look()
    head = desk.world.commit(delete=("fleet.yaml",))
    await desk.look()
    assert desk.shown[-1] == (head, "pending")
    digest = desk.world.source.units[0].pending[0].digest
    desk.world.finish("audit-1")
    desk.world.act("Confirmation", "yes", {"planDigest": digest})
    await desk.look()
    assert desk.shown[-1][0] == head


async def test_a_commit_that_is_refused_is_a_failure(desk: Desk) -> None:
    desk.world.commit(FLEET)
    await desk.look()
    head = desk.world.commit({"more.yaml": mission("more")})
    spec = {**desk.world.spec.model_dump(), "quarantine": [head]}
    desk.world.spec = desk.world.spec.model_validate(spec)
    desk.world.restart()
    await desk.look()
    assert desk.shown[-1] == (head, "failure")
    assert "Quarantined" in desk.forge.statuses[-1]["description"]


async def test_a_repository_that_is_away_says_nothing_about_any_commit(desk: Desk) -> None:
    desk.world.commit(FLEET)
    await desk.look()
    before = desk.shown
    away = desk.world.repo.path.with_name("away")
    desk.world.repo.path.rename(away)
    desk.world.sync()
    report(desk.world.store, DEFAULT_SOURCE)
    with desk.world.store.snapshot() as snapshot:
        assert snapshot.effects(states=[EffectState.PENDING], type=SET_STATUS) == []
    away.rename(desk.world.repo.path)
    await desk.look()
    assert desk.shown == before


async def test_a_forge_that_asks_to_wait_is_said_and_asked_again(desk: Desk) -> None:
    head = desk.world.commit(FLEET)
    desk.forge.answers = [(429, {"Retry-After": "30"}, b"{}")]
    assert "429" in (await desk.look())[0]
    assert desk.says == "False/ForgeUnreachable"
    assert await desk.look() == []
    assert desk.shown == [(head, "success")]
    assert desk.says == "True/ForgeReported"


async def test_a_refusal_is_said_and_tried_again_after_a_while(desk: Desk) -> None:
    desk.world.commit(FLEET)
    desk.forge.answers = [(403, {}, b"{}")]
    assert "may not do that" in (await desk.look())[0]
    assert desk.says == "False/ForgeRefused"
    desk.world.clock.tick(60)
    await desk.look()
    assert desk.shown == []
    desk.world.clock.tick(600)
    await desk.look()
    assert len(desk.shown) == 1
    assert desk.says == "True/ForgeReported"


async def test_a_host_that_the_configuration_does_not_name_gets_no_token(desk: Desk) -> None:
    desk.effects = CommitStatusEffects(
        desk.world.store, secrets=LocalSecrets({"FORGE_TOKEN": TOKEN}), project=desk.world.folder, hosts=[],
        blocking=InlineBlocking(),
    )  # fmt: skip
    desk.world.commit(FLEET)
    assert "forgeHosts" in (await desk.look())[0]
    assert desk.forge.requests == []
    assert desk.says == "False/ForgeHostRefused"


async def test_a_token_that_is_not_there_is_said_by_its_reference(desk: Desk) -> None:
    desk.effects = CommitStatusEffects(
        desk.world.store, secrets=LocalSecrets({}), project=desk.world.folder, hosts=[desk.forge.host],
        blocking=InlineBlocking(),
    )  # fmt: skip
    desk.world.commit(FLEET)
    assert "FORGE_TOKEN" in (await desk.look())[0]
    assert desk.says == "False/ForgeCredentialNotFound"


async def test_the_token_stands_nowhere_in_the_store(desk: Desk) -> None:
    desk.world.commit(FLEET)
    await desk.look()
    desk.forge.answers = [(401, {}, TOKEN.encode())]
    desk.world.commit({"more.yaml": mission("more")})
    await desk.look()
    for file in desk.world.folder.rglob("*.db*"):
        assert TOKEN.encode() not in file.read_bytes()


async def test_a_later_outcome_takes_the_place_of_one_that_was_not_sent(desk: Desk) -> None:
    desk.world.commit(FLEET)
    desk.world.sync()
    report(desk.world.store, DEFAULT_SOURCE)
    head = desk.world.commit({"more.yaml": mission("more")})
    await desk.look()
    assert desk.shown == [(head, "success")]
