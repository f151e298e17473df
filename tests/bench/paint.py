"""Benches of the pages: how much of them a browser loads, and how soon it shows what was committed."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from api.dashboard.pages import NAV
from controllers.runtime.clock import SystemClock
from schemas.event import EventType
from schemas.resource import SYSTEM, Declared
from store.contract import Store
from tests.bench.measure import Measured, percentile, sized
from tests.bench.programs import asked, line, program, say
from tests.fakes.chromium import browser
from tests.fakes.fleet import seed
from tests.fakes.site import ask, served, site_app
from tests.fakes.stores import SqliteHarness

VIEWERS = 100
_PATIENCE_MS = 60_000
_BETWEEN_S = 0.6
"""A page looks again every 0.4 s in the long run; what comes sooner waits for that, and says nothing of the way."""
# Tells when the frame was shown that has a card of this name first: the clock is that of the machine.
_WATCH = """() => {
    window.painted = {};
    new MutationObserver(() => {
        const fresh = [...document.querySelectorAll("#lane-inbox .card .name")].map(n => n.textContent)
            .filter(name => !(name in window.painted));
        if (fresh.length) requestAnimationFrame(() => setTimeout(() => {
            for (const name of fresh) window.painted[name] ??= performance.timeOrigin + performance.now();
        }));
    }).observe(document.getElementById("page"), { childList: true, subtree: true });
}"""


def budget(scale: float) -> Measured:
    """The largest page, compressed, in KiB: of all pages of the navigation, or of the first ones."""
    paths = [entry.href for _, group in NAV for entry in group]
    paths = [*paths, "/missions?view=table", "/missions/default/apply-dns"][: sized(99, scale, 2)]
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open()
        seed(store, harness.clock)
        found = ask(site_app(store, harness.clock), paths)
        harness.close()
    sizes = {path: len(gzip.compress(answer.content, 6)) / 1024 for path, answer in found.items()}
    worst = max(sizes, key=lambda path: sizes[path])
    return Measured(sizes[worst], f"{worst}", "absolute, in KiB", f"{len(sizes)} pages, each with 4 files beside it")


def painted(scale: float) -> Measured:
    """p95 in milliseconds, from before the transaction until the frame is shown. The other viewers are played."""
    events, viewers = sized(40, scale, 1), sized(VIEWERS, scale, 2)
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open()
        seed(store, harness.clock)
        with served(store, harness.clock) as site, browser() as chromium, program("page_load") as others:
            say(others, json.dumps({"port": site.port, "path": "/missions", "viewers": viewers}))
            line(others)
            page = chromium.new_context(base_url=site.url).new_page()
            page.goto("/missions")
            expect(page.locator("#state")).to_contain_text("Live", timeout=_PATIENCE_MS)
            page.evaluate(_WATCH)
            late = [_late(store, page, number) for number in range(events)]
            looked = asked(others, "end")
        harness.close()
    assert looked["fresh"] > viewers, "the other viewers saw nothing new"
    return Measured(percentile(late, 0.95), f"p50 {percentile(late, 0.5):.3g} ms", "absolute, in ms",
                    f"{events} events, {viewers} other viewers who see each")  # fmt: skip


def _late(store: Store, page: Page, number: int) -> float:
    name = f"painted-{number}"
    began = SystemClock().now().timestamp()
    with store.transaction(SYSTEM) as tx:
        mission = tx.create(
            Declared("Mission", "default", name, {"title": name, "priority": 99}), status={"state": "Inbox"}
        )
        tx.event(EventType.CREATED, mission, reason="Created", message=name)
    page.wait_for_function("name => name in window.painted", arg=name, timeout=_PATIENCE_MS)
    at = float(page.evaluate("name => window.painted[name]", name))
    time.sleep(_BETWEEN_S)  # noqa: TID251 - real time is measured
    return at - began * 1000
