"""The pool of connections: who gets one, who waits, which ones are ended."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from store.pool import Pool, PoolExhausted


class Line:
    """A connection that knows whether it was ended, and who holds it."""

    def __init__(self) -> None:
        self.ended = False
        self.held = threading.Lock()

    def close(self) -> None:
        self.ended = True
        raise OSError("the line was dead already")


def pool(*, kept: int = 2, most: int = 3, wait_s: float = 0.01) -> Pool[Line]:
    return Pool(Line, kept=kept, most=most, wait_s=wait_s)


def test_the_connection_that_was_used_last_is_taken_first() -> None:
    lines = pool()
    one, two = lines.take(), lines.take()
    lines.give_back(one, sound=True)
    lines.give_back(two, sound=True)
    assert lines.take() is two
    assert lines.take() is one


def test_no_more_are_out_than_allowed_and_one_that_comes_back_is_given_to_who_waits() -> None:
    lines = pool(most=1)
    one = lines.take()
    with pytest.raises(PoolExhausted):
        lines.take()
    patient = Pool(Line, kept=1, most=1, wait_s=60)
    held = patient.take()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(patient.take)
        patient.give_back(held, sound=True)
        assert waiting.result() is held
    lines.give_back(one, sound=True)
    assert lines.take() is one


def test_one_that_failed_and_those_for_which_there_is_no_room_are_ended() -> None:
    lines = pool(kept=1)
    one, two, three = lines.take(), lines.take(), lines.take()
    lines.give_back(one, sound=False)
    lines.give_back(two, sound=True)
    lines.give_back(three, sound=True)
    assert (one.ended, two.ended, three.ended) == (True, False, True)
    assert lines.take() is two


def test_connecting_that_fails_takes_nobodys_place() -> None:
    def refused() -> Line:
        raise ConnectionRefusedError

    lines = Pool(refused, kept=1, most=1, wait_s=0.01)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            lines.take()


def test_a_pool_that_is_closed_ends_what_waits_and_what_comes_back() -> None:
    lines = pool()
    one, two = lines.take(), lines.take()
    lines.give_back(one, sound=True)
    lines.close()
    assert (one.ended, two.ended) == (True, False)
    lines.give_back(two, sound=True)
    assert two.ended


def test_many_threads_never_hold_the_same_connection() -> None:
    lines = Pool(Line, kept=2, most=4, wait_s=60)

    def use() -> bool:
        for _ in range(200):
            line = lines.take()
            alone = line.held.acquire(blocking=False)
            if not alone or line.ended:
                return False
            line.held.release()
            lines.give_back(line, sound=True)
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(done.result() for done in [threads.submit(use) for _ in range(8)])
