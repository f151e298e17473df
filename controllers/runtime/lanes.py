"""Keys that are ready to run: one first-in, first-out lane a priority, with ageing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from enum import IntEnum
from typing import Generic, TypeVar

K = TypeVar("K")


class Priority(IntEnum):
    """Who goes first; the greater number wins."""

    RESYNC = 0  # insurance: the periodic full pass and a cold start
    CHANGE = 1  # something moved: a sync, a wake-up, a due time
    OPERATOR = 2  # a person asked and waits for it
    URGENT = 3  # e-stop and approvals


class Lanes(Generic[K]):
    """The ready keys, each in exactly one lane. Every operation is O(1), whatever waits.

    The highest lane is served first. Once the head of a lower lane has waited `ageing_s` seconds, higher lanes get at
    most `turns - 1` more keys before the longest-waiting such head gets one. So no lane starves, and an urgent key
    still waits for at most one lesser key, however old the backlog. Ageing looks at heads only, which are the oldest:
    a lane is sorted by the time of entering it.
    """

    def __init__(self, *, ageing_s: float, turns: int) -> None:
        if ageing_s <= 0 or turns < 2:
            raise ValueError("lanes need a positive ageing time and at least 2 turns")
        self._ageing_s = ageing_s
        self._turns = turns
        self._lanes: tuple[OrderedDict[K, float], ...] = tuple(OrderedDict() for _ in Priority)
        self._downwards = tuple(sorted(Priority, reverse=True))
        self._places: dict[K, Priority] = {}
        self._passed_over = 0
        # A live view: membership and length of what is ready are the hottest questions of the queue.
        self.places: Mapping[K, Priority] = self._places

    def push(self, key: K, priority: Priority, now: float) -> bool:
        """Append `key` to its lane; a key that already waits in a lower one moves up (its waiting time starts
        again), in a higher one stays. Returns whether the key is new here. `now` never falls."""
        place = self._places.get(key)
        if place is not None:
            if place >= priority:
                return False
            del self._lanes[place][key]
        self._places[key] = priority
        self._lanes[priority][key] = now
        return place is None

    def pop(self, now: float) -> tuple[K, Priority, float]:
        """Take the key whose turn it is: (key, its priority, when it entered its lane). LookupError when empty."""
        for priority in self._downwards:
            lane = self._lanes[priority]
            if lane:
                break
        else:
            raise LookupError("no key is ready")
        if len(lane) != len(self._places):
            priority = self._turn(priority, now)
            lane = self._lanes[priority]
        elif self._passed_over:
            self._passed_over = 0
        key, since = lane.popitem(last=False)
        del self._places[key]
        return key, priority, since

    def _turn(self, top: Priority, now: float) -> Priority:
        """The lane to serve when keys wait below `top` too."""
        aged = now - self._ageing_s
        oldest: Priority | None = None
        oldest_since = aged
        for priority in self._downwards:
            lane = self._lanes[priority]
            if priority < top and lane:
                since = next(iter(lane.values()))
                if since <= aged and (oldest is None or since < oldest_since):
                    oldest, oldest_since = priority, since
        if oldest is None:
            self._passed_over = 0
            return top
        self._passed_over += 1
        if self._passed_over < self._turns:
            return top
        self._passed_over = 0
        return oldest

    def clear(self) -> None:
        """Drop everything."""
        for lane in self._lanes:
            lane.clear()
        self._places.clear()
        self._passed_over = 0

    def depths(self) -> dict[Priority, int]:
        """How many keys wait in each lane."""
        return {priority: len(self._lanes[priority]) for priority in Priority}

    def oldest(self) -> float | None:
        """When the longest-waiting key entered its lane; None when nothing waits."""
        return min((next(iter(lane.values())) for lane in self._lanes if lane), default=None)
