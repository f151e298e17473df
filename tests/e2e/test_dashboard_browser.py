"""The dashboard in a real Chromium: one browser and one seeded store for all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from api.dashboard.pages import NAV
from schemas.base import Key
from schemas.event import EventType
from schemas.resource import SYSTEM, Declared
from store.contract import Store
from tests.fakes.chromium import Complaints, browser
from tests.fakes.fleet import seed
from tests.fakes.site import Served
from tests.fakes.stores import SqliteHarness

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
PATIENCE_MS = 60_000
LISTS = [entry.href for _, group in NAV for entry in group]
PAGES = [
    *LISTS,
    "/search?q=billing",
    "/notifications",
    "/missions?view=table",
    "/missions?lanes=agent",
    "/missions?view=table&hide=agent&density=cozy",
    "/o/default",
    "/missions?view=timeline",
    "/approvals?tab=decided",
    "/missions/default/apply-dns",
    "/missions/default/backfill-costs/runs/1",
    "/approvals/default/apply-dns-ask",
    "/agents/default/atlas",
    "/budgets/default/platform-daily",
    "/chat/default/backfill-costs-talk",
    "/missions/default/nope",
]
WHOLE = ("/missions", "/missions/default/apply-dns")
"""Pages on which every row is looked at; on the others rows of a table are like the first ones."""
REPEATED = "tbody tr:nth-child(n+4), .lines li:nth-child(n+4), .card:nth-child(n+3), .cmd:nth-of-type(n+4)"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Stage:
    """A served store and the browser that looks at it."""

    def __init__(self, folder: Path, chromium: Browser) -> None:
        self.harness = SqliteHarness(folder)
        self.store: Store = self.harness.open()
        self.clock = self.harness.clock
        seed(self.store, self.clock)
        self.site = Served(self.store, self.clock)
        self.browser = chromium
        self.complaints = Complaints()
        self.made = 0

    def context(self, **options: Any) -> BrowserContext:
        """A fresh profile."""
        options.setdefault("viewport", {"width": 1440, "height": 900})
        found = self.browser.new_context(base_url=self.site.url, **options)
        found.set_default_timeout(PATIENCE_MS)
        return found

    def page(self, context: BrowserContext, path: str = "/") -> Page:
        """A watched page."""
        found = self.complaints.watch(context.new_page())
        found.goto(path, wait_until="domcontentloaded")
        return found

    def live(self, context: BrowserContext, path: str = "/") -> Page:
        """A page that hears of changes."""
        found = self.page(context, path)
        expect(found.locator("#state")).to_contain_text("Live", timeout=PATIENCE_MS)
        return found

    def happen(self, title: str) -> str:
        """A mission is made; its name."""
        self.made += 1
        name = f"made-{self.made}"
        with self.store.transaction(SYSTEM) as tx:
            mission = tx.create(
                Declared("Mission", "default", name, {"title": title, "priority": 99}), status={"state": "Inbox"}
            )
            tx.event(EventType.CREATED, mission, reason="Created", message=title)
        return name

    def newest(self) -> int:
        """The number of the last event."""
        with self.store.snapshot() as snapshot:
            return snapshot.events(limit=1, newest_first=True)[0].seq


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with browser() as chromium:
        made = Stage(tmp_path_factory.mktemp("stage"), chromium)
        made.site.start()
        try:
            yield made
        finally:
            made.site.stop()
            made.harness.close()


@pytest.fixture
def context(stage: Stage) -> Iterator[BrowserContext]:
    made = stage.context()
    stage.complaints.clear()
    yield made
    made.close()


def test_axe_finds_nothing_on_any_page_in_light_and_dark(stage: Stage) -> None:
    from axe_playwright_python.base import AXE_SCRIPT

    faults = []
    looking = stage.context(bypass_csp=True, color_scheme="light")
    page = looking.new_page()
    for path in PAGES:
        page.goto(path, wait_until="domcontentloaded")
        page.evaluate(AXE_SCRIPT)
        for shut in page.locator("details.alt, details.cols").all():
            shut.evaluate("node => { node.open = true }")
        # The frame is the same everywhere.
        frame = [] if path == "/" else [["header.top"], ["nav.side"]]
        scope = {"exclude": frame} if frame else {"include": [["body"]]}
        if path not in WHOLE:
            page.evaluate("rows => document.querySelectorAll(rows).forEach(row => row.remove())", REPEATED)
        for scheme, only in (
            ("light", {"type": "tag", "values": AXE_RULES}),
            ("dark", {"type": "rule", "values": ["color-contrast"]}),
        ):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = page.evaluate(
                "([scope, options]) => axe.run(scope, options)",
                [scope, {"runOnly": only, "resultTypes": ["violations"]}],
            )
            faults += [f"{path} {scheme} {f['id']}: {f['nodes'][0]['html'][:160]}" for f in found["violations"]]
    looking.close()
    assert faults == []


def test_a_change_shows_by_itself_and_focus_and_scroll_stay(stage: Stage, context: BrowserContext) -> None:
    page = stage.live(context, "/missions")
    page.locator("#board").evaluate("node => { node.scrollLeft = 7; window.scrollTo(0, 40) }")
    page.locator("a[href='/missions/default/apply-dns']").focus()
    before = page.evaluate("window.scrollY")
    name = stage.happen("Appears by itself")
    expect(page.locator(f"a[href='/missions/default/{name}']")).to_be_visible(timeout=PATIENCE_MS)
    assert page.evaluate("document.activeElement.getAttribute('href')") == "/missions/default/apply-dns"
    assert page.evaluate("window.scrollY") == before
    assert stage.complaints == []


def test_a_pause_holds_the_page_and_counts(stage: Stage, context: BrowserContext) -> None:
    page = stage.live(context, "/missions")
    page.keyboard.press("x")
    expect(page.locator("#state")).to_have_text("Paused")
    name = stage.happen("Waits for the end of the pause")
    expect(page.locator("#state")).to_have_text("Paused, 1 new", timeout=PATIENCE_MS)
    assert page.locator(f"a[href='/missions/default/{name}']").count() == 0
    page.keyboard.press("x")
    expect(page.locator(f"a[href='/missions/default/{name}']")).to_be_visible(timeout=PATIENCE_MS)
    assert stage.complaints == []


def test_ten_tabs_share_one_stream_and_outlive_the_one_that_has_it(stage: Stage, context: BrowserContext) -> None:
    pages = [stage.live(context, "/missions") for _ in range(10)]
    assert stage.site.streams == 1
    name = stage.happen("Seen by ten")
    for page in pages:
        page.bring_to_front()
        expect(page.locator(f"a[href='/missions/default/{name}']")).to_be_visible(timeout=PATIENCE_MS)
    pages[0].close()
    expect(pages[1].locator("#state")).to_contain_text("Live", timeout=PATIENCE_MS)
    pages[9].bring_to_front()
    name = stage.happen("Seen by nine")
    expect(pages[9].locator(f"a[href='/missions/default/{name}']")).to_be_visible(timeout=PATIENCE_MS)
    assert stage.site.streams == 1
    assert stage.complaints == []


def test_the_page_catches_up_after_a_restart_and_starts_anew_on_another_log(
    stage: Stage, context: BrowserContext, tmp_path: Path
) -> None:
    page = stage.live(context, "/missions")
    stage.site.stop()
    expect(page.locator("#state")).not_to_contain_text("Live", timeout=PATIENCE_MS)
    name = stage.happen("Made while nobody served")
    stage.site.start()
    expect(page.locator(f"a[href='/missions/default/{name}']")).to_be_visible(timeout=PATIENCE_MS)
    stage.site.stop()
    other = SqliteHarness(tmp_path)
    stage.site._store = other.open()
    with stage.site._store.transaction(SYSTEM) as tx:
        tx.create(Declared("Mission", "default", "another", {"title": "Of another store"}), status={"state": "Inbox"})
        tx.event(EventType.CREATED, Key("Mission", "default", "another"), reason="Created", message="another")
    stage.site.start()
    expect(page.locator("a[href='/missions/default/another']")).to_be_visible(timeout=PATIENCE_MS)
    assert page.locator("a[href='/missions/default/apply-dns']").count() == 0
    page.close()
    stage.site.stop()
    stage.site._store = stage.store
    stage.site.start()
    other.close()


def test_without_scripts_everything_is_there(stage: Stage) -> None:
    plain = stage.context(java_script_enabled=False)
    page = plain.new_page()
    page.goto("/missions")
    assert page.locator(".card").count() >= 20
    expect(page.locator("#state")).to_have_text("Static")
    page.goto("/goals")
    assert page.locator("#tree tbody tr:visible").count() == page.locator("#tree tbody tr").count()
    page.goto("/search?q=apply-dns")
    expect(page.locator("#t-found")).to_contain_text("Apply the change of DNS")
    plain.close()


def test_the_keyboard_goes_everywhere(stage: Stage, context: BrowserContext) -> None:
    page = stage.page(context, "/")
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url("**/missions")
    page.keyboard.press("]")
    page.wait_for_url("**/missions?view=table")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator("tr.at").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/missions/default/*")
    page.keyboard.press("/")
    page.keyboard.type("xg")
    assert page.locator("#find").input_value() == "xg"
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_contain_text("go to anything")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("budg")
    page.keyboard.press("Enter")
    page.wait_for_url("**/budgets")
    page.goto("/goals")
    row = page.locator("#tree tbody tr").first
    row.focus()
    shown = page.locator("#tree tbody tr:visible").count()
    page.keyboard.press("ArrowLeft")
    assert row.get_attribute("aria-expanded") == "false"
    assert page.locator("#tree tbody tr:visible").count() < shown
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "2"
    assert stage.complaints == []


def test_a_deep_link_opens_at_its_line_with_its_filters(stage: Stage, context: BrowserContext) -> None:
    page = stage.page(context, "/missions/default/backfill-costs/runs/1#L2")
    expect(page.locator("#log-d")).to_have_attribute("open", "")
    expect(page.locator("#log #L2")).to_have_text("reads docs")
    page.goto("/missions?view=table&state=Blocked")
    assert page.locator("main tbody tr").count() == 2
    page.goto(f"/r/{seed_uid(stage)}")
    page.wait_for_url("**/missions/default/apply-dns")


def seed_uid(stage: Stage) -> str:
    with stage.store.snapshot() as snapshot:
        found = snapshot.get(Key("Mission", "default", "apply-dns"))
    assert found is not None
    return found.uid


def test_a_command_is_copied_or_selected(stage: Stage, context: BrowserContext) -> None:
    page = stage.page(context, "/approvals/default/apply-dns-ask")
    wanted = page.locator("code[data-command]").first.inner_text()
    assert "--digest" in page.locator("#acts code").first.inner_text()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#acts [data-copy]").first.click()
    expect(page.locator("#say")).to_contain_text("Copied: remit")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#acts code").first.inner_text()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')) }")
    page.keyboard.press("c")
    expect(page.locator("#say")).to_contain_text("Selected")
    assert page.evaluate("String(getSelection())").strip() == wanted
    assert stage.complaints == []


def test_every_page_fits_a_telephone_and_complains_of_nothing(stage: Stage) -> None:
    small = stage.context(viewport={"width": 390, "height": 844})
    stage.complaints.clear()
    page = stage.complaints.watch(small.new_page())
    wide = {}
    for path in PAGES:
        page.goto(path, wait_until="load")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            wide[path] = width
    small.close()
    assert wide == {}
    assert [c for c in stage.complaints if "404" not in c] == []


def test_no_text_becomes_markup_in_the_page(stage: Stage, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/")
    thrown = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return '' } catch (e) { return e.name } }"
    )
    assert thrown == "TypeError"
    assert page.evaluate("document.querySelectorAll('[style]').length") == 0


def test_light_and_dark_follow_the_button(stage: Stage, context: BrowserContext) -> None:
    page = stage.page(context, "/")
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert page.evaluate(colour) == "rgb(14, 17, 22)"
    page.reload()
    assert page.evaluate(colour) == "rgb(14, 17, 22)"


def test_the_page_stands_still_under_the_pointer(stage: Stage, context: BrowserContext) -> None:
    page = stage.live(context, "/missions")
    page.locator("#lane-inbox h2").hover()
    cards = page.locator("#lane-inbox .card").count()
    name = stage.happen("Waits for the pointer")
    card = page.locator(f"a[href='/missions/default/{name}']")
    # The page has looked again, and knows of the event: the rest of it is new, the column is not.
    expect(page.locator("html")).to_have_attribute("data-seq", str(stage.newest()), timeout=PATIENCE_MS)
    assert card.count() == 0
    assert page.locator("#lane-inbox .card").count() == cards
    page.locator("h1").hover()
    expect(card).to_be_visible(timeout=PATIENCE_MS)
    assert stage.complaints == []


def test_a_page_of_one_tenant_lets_the_others_be(stage: Stage, context: BrowserContext) -> None:
    page = stage.live(context, "/missions?ns=default")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with stage.store.transaction(SYSTEM) as tx:
        tx.event(EventType.UPDATED, Key("Mission", "elsewhere", "far"), reason="Test", message="of another tenant")
    name = stage.happen("Of this tenant")
    expect(page.locator(f"a[href='/missions/default/{name}']")).to_be_visible(timeout=PATIENCE_MS)
    seen = len(asked)
    page.evaluate(
        """() => new BroadcastChannel("remit:" + location.host).postMessage(
            { type: "log", kind: "Mission", ns: "elsewhere", stuck: false })"""
    )
    page.evaluate("() => new Promise(done => setTimeout(done, 900))")
    assert len(asked) == seen
