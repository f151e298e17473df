"""What is made for many at once is never older than any of their questions."""

from __future__ import annotations

import asyncio

import pytest

from api.dashboard.turns import Turns

pytestmark = pytest.mark.asyncio


class Kitchen:
    """Makes numbers, one after the other, when it is let."""

    def __init__(self) -> None:
        self.begun = 0
        self.let = asyncio.Event()
        self.turns: Turns[str, int] = Turns()

    async def make(self) -> int:
        self.begun += 1
        number = self.begun
        await self.let.wait()
        if number == 3:
            raise ValueError("burnt")
        return number

    def ask(self, key: str = "a") -> asyncio.Task[int]:
        return asyncio.create_task(self.turns.get(key, self.make))


async def steps() -> None:
    for _ in range(5):
        await asyncio.sleep(0)  # noqa: TID251 - gives way


async def test_those_who_ask_while_it_is_made_share_the_next() -> None:
    kitchen = Kitchen()
    first = [kitchen.ask() for _ in range(3)]
    await steps()
    assert kitchen.begun == 1
    late = [kitchen.ask() for _ in range(50)]
    await steps()
    assert kitchen.begun == 1
    kitchen.let.set()
    assert await asyncio.gather(*first) == [1, 1, 1]
    assert await asyncio.gather(*late) == [2] * 50
    assert kitchen.begun == 2
    with pytest.raises(ValueError, match="burnt"):
        await kitchen.ask()
    assert await kitchen.ask() == 4


async def test_different_questions_do_not_wait_for_each_other_and_one_who_leaves_takes_nothing_away() -> None:
    kitchen = Kitchen()
    leaver, stayer, other = kitchen.ask(), kitchen.ask(), kitchen.ask("b")
    await steps()
    assert kitchen.begun == 2
    leaver.cancel()
    await steps()
    kitchen.let.set()
    assert (await stayer, await other) == (1, 2)
    assert leaver.cancelled()
