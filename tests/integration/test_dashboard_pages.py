"""Every page of the dashboard over a store with something of everything, asked without a browser."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI

from api.dashboard.facts.frame import frame
from api.dashboard.facts.view import View
from api.dashboard.facts.waiting import needs
from api.dashboard.pages import NAV, OTHERS, PAGES
from api.dashboard.rendering import ASSETS, POLICY, asset, asset_url
from schemas.base import Key
from schemas.errors import StoreUnavailable
from schemas.resource import SYSTEM, Declared, Resource
from tests.fakes.fleet import Seed, seed
from tests.fakes.site import SITE, Page, ask, site_app
from tests.fakes.stores import SqliteHarness

BIDI = "\u202e\u2066\u200b\ufeff\u2028"
HOSTILE = (
    "<script>alert(1)</script>'\"><img src=x onerror=alert(2)> {{7*7}} ${7*7} `rm -rf /` \x1b[31m"
    + BIDI
    + " javascript:alert(3) </pre></td></svg> "
)
LISTS = [entry.href for _, group in NAV for entry in group] + ["/search", "/notifications"]
MORE = [
    "/missions?view=table",
    "/missions?view=timeline",
    "/missions?view=table&state=Blocked",
    "/missions?agent=atlas",
    "/approvals?tab=decided",
    "/events?kind=Mission",
    "/search?q=kind:mission+billing",
    "/search?q=alert",
    "/missions?view=timeline&fold=0",
]
OBJECTS = [
    "/missions/default/apply-dns",
    "/missions/default/audit-links",
    "/missions/default/rotate-staging",
    "/missions/default/backfill-costs/runs/1",
    "/approvals/default/apply-dns-ask",
    "/agents/default/atlas",
    "/projects/default/billing",
    "/goals/default/close-books",
    "/todos/default/sign-contract",
    "/chat/default/backfill-costs-talk",
    "/cron/default/nightly-review",
    "/channels/default/on-call",
    "/policies/default/house-rules",
    "/budgets/default/platform-daily",
    "/skills/default/tracker",
    "/sync/default/default",
    "/executors/default/local",
    "/alerts/default/streak",
    "/tenants/default",
    "/toolcalls/default/apply-dns-1-call-0",
    "/threads/default/backfill-costs-thread",
    "/messages/default/backfill-costs-talk-0",
]


def everywhere() -> list[str]:
    """Pages of every sort."""
    return [*LISTS, *MORE, *OBJECTS, *(f"/{plural}" for plural in OTHERS)]


class Shop:
    """A seeded store with its pages."""

    def __init__(self, folder: Path, hostile: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.harness = SqliteHarness(folder)
        self.clock = self.harness.clock
        self.store = self.harness.open()
        self.seeded: Seed = seed(self.store, self.clock, hostile=hostile)
        self.app: FastAPI = site_app(self.store, self.clock)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("fleet"))
    yield made
    made.harness.close()


@pytest.fixture(scope="module")
def answers(shop: Shop) -> dict[str, httpx2.Response]:
    return ask(shop.app, everywhere())


@pytest.fixture(scope="module")
def pages(answers: dict[str, httpx2.Response]) -> dict[str, Page]:
    return {path: Page(answer.text) for path, answer in answers.items()}


@pytest.fixture(scope="module")
def hostile_answers(hostile: Shop) -> dict[str, httpx2.Response]:
    return ask(hostile.app, everywhere())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("hostile"), HOSTILE)
    yield made
    made.harness.close()


def test_every_page_answers_and_is_whole(answers: dict[str, httpx2.Response], pages: dict[str, Page]) -> None:
    for path, answer in answers.items():
        page = pages[path]
        assert answer.status_code == 200, path
        assert page.unclosed == [], path
        assert len(page.ids) == len(set(page.ids)), f"{path}: {[i for i in page.ids if page.ids.count(i) > 1][:5]}"
        assert len(page.all("h1")) == 1, path
        assert page.all("html")[0].attributes["lang"] == "en"


def test_every_page_has_the_strict_policy_and_nothing_inline(
    answers: dict[str, httpx2.Response], pages: dict[str, Page]
) -> None:
    for path, answer in answers.items():
        page = pages[path]
        assert answer.headers.get_list("content-security-policy") == [POLICY], path
        assert "unsafe" not in POLICY
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert [s.attributes for s in page.all("script")] == [{"src": asset_url("dashboard.js")}], path
        assert page.all("style") == page.all("iframe") == page.all("object") == []
        for element in page.elements:
            assert not [a for a in element.attributes if a == "style" or a.startswith("on")], (path, element)


def test_every_link_of_every_page_leads_somewhere(shop: Shop, pages: dict[str, Page]) -> None:
    seen = set(pages)
    wanted: set[str] = set()
    for path, page in pages.items():
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.ids
            elif link.startswith("https://"):
                assert urlsplit(link).hostname in ("github.com", "hooks.example.org"), (path, link)
            else:
                assert link.startswith("/"), (path, link)
                wanted.add(link.partition("#")[0])
    by_sort: dict[str, list[str]] = {}
    for path in sorted(wanted - seen):
        by_sort.setdefault("/".join(path.partition("?")[0].split("/")[:3]) + path.partition("?")[1], []).append(path)
    some = [path for paths in by_sort.values() for path in paths[:5]]
    statuses = {path: answer.status_code for path, answer in ask(shop.app, some).items()}
    assert {path: code for path, code in statuses.items() if code not in (200, 307)} == {}


def test_links_that_leave_say_where_and_tell_nothing(pages: dict[str, Page]) -> None:
    found = [e for p in pages.values() for e in p.all("a") if e.attributes["href"].startswith("https")]
    assert found
    assert all({"noreferrer", "noopener"} <= set(e.attributes["rel"].split()) for e in found)
    assert "(github.com)" in pages["/projects/default/billing"].text
    place = f"https://github.com/acme/specs/blob/{'3f2a91c0' * 5}/missions/apply-dns.yaml#L3"
    assert place in pages["/missions/default/apply-dns"].links


def test_only_get_and_head_are_routed_and_the_rest_is_refused(shop: Shop) -> None:
    methods = {m for route in shop.app.routes for m in getattr(route, "methods", None) or ()}
    assert methods <= {"GET", "HEAD"}

    async def send() -> list[int]:
        transport = httpx2.ASGITransport(app=shop.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as client:
            codes = [(await client.request(m, "/missions")).status_code for m in ("POST", "PUT", "PATCH", "DELETE")]
            head = await client.head("/missions")
            assert head.status_code == 200
            assert head.content == b""
            return codes

    import asyncio

    assert asyncio.run(send()) == [405, 405, 405, 405]


def test_a_foreign_host_name_gets_nothing(shop: Shop) -> None:
    assert ask(shop.app, ["/"], Host="evil.example")["/"].status_code == 421


def test_hostile_text_stays_text_on_every_page(hostile_answers: dict[str, httpx2.Response]) -> None:
    for path, answer in hostile_answers.items():
        page, html = Page(answer.text), answer.text
        assert answer.status_code == 200, path
        assert page.unclosed == [], path
        assert [s.attributes.get("src") for s in page.all("script")] == [asset_url("dashboard.js")], path
        assert page.all("img") == [], path
        assert not set(BIDI + "\x1b") & set(html), path
        for element in page.elements:
            assert not [a for a in element.attributes if a.startswith("on")], (path, element)
            for name in ("href", "src", "action"):
                value = element.attributes.get(name, "/")
                assert value.startswith(("/", "#", "https://")), (path, value)


def test_hostile_text_never_becomes_a_part_of_a_command(hostile_answers: dict[str, httpx2.Response]) -> None:
    seen = 0
    for path, answer in hostile_answers.items():
        for command in re.findall(r"data-command>([^<]*)<", answer.text):
            seen += 1
            assert re.fullmatch(r"(remit|kubectl) [a-zA-Z0-9 /.:_-]+((&#39;)\.\.\.(&#39;))?", command), (path, command)
    assert seen > 50


def test_a_line_of_a_megabyte_does_not_make_a_page_of_a_megabyte(hostile: Shop) -> None:
    long = "x" * 1_000_000
    with hostile.store.transaction(SYSTEM) as tx:
        mission = tx.get(Key("Mission", "default", "audit-links"))
        assert mission is not None
        tx.put_status(mission, {**mission.status, "deliverable": {**mission.status["deliverable"], "text": long}})
    html = ask(hostile.app, ["/missions/default/audit-links"])["/missions/default/audit-links"].text
    assert len(html) < 200_000
    assert "more characters" in html


def test_commands_that_answer_carry_the_digest_of_what_is_shown(shop: Shop) -> None:
    for path in ("/approvals/default/apply-dns-ask", "/missions/default/apply-dns", "/approvals"):
        html = ask(shop.app, [path])[path].text
        with shop.store.snapshot() as snapshot:
            request = snapshot.get(Key("ApprovalRequest", "default", "apply-dns-ask"))
        assert request is not None
        digest = request.spec["actionDigest"].removeprefix("sha256:")[:12]
        assert f"remit approve apply-dns-ask --digest {digest}" in html, path


def test_badge_tile_list_and_title_tell_one_number(shop: Shop, answers: dict[str, httpx2.Response]) -> None:
    with shop.store.snapshot() as snapshot:
        view = View(snapshot, shop.clock(), SITE)
        told, around = needs(view), frame(view)
    assert told.total == len(told.items) == around.waiting == 4 + 2 + 1
    html = answers["/"].text
    assert f"<title>({told.total}) Fleet" in html
    assert f'<span class="badge">{told.total}<' in html
    assert f"Needs you</span><b>{told.total}</b>" in html
    assert len(re.findall(r'<tr id="need-', answers["/approvals"].text)) == told.total


def test_the_board_shows_every_state_and_counts_what_it_leaves_out(answers: dict[str, httpx2.Response]) -> None:
    html = answers["/missions"].text
    assert html.count('class="card"') == 20
    for word in ("inbox", "assigned", "in progress", "needs approval", "blocked", "review", "closed"):
        assert f"</svg>{word}</span>" in html, word


def test_what_stands_still_says_why(answers: dict[str, httpx2.Response]) -> None:
    board = Page(answers["/missions"].text).text
    assert "waits for budget platform-daily" in board
    assert "waits for mission draft-notes" in board
    assert "waits for a person" in board


def test_errors_of_specs_are_shown_with_their_place(answers: dict[str, httpx2.Response]) -> None:
    text = Page(answers["/sync"].text).text
    assert "missions/ops.yaml:12:7" in text
    assert "did you mean priority?" in text
    assert "delete agent/vesper" in text
    assert "remit confirm " + "ab12" * 4 in text


def test_what_is_wrong_stands_on_every_page_worst_first(answers: dict[str, httpx2.Response]) -> None:
    for path in ("/", "/agents", "/settings"):
        banners = re.findall(r'<div class="banner \w+" id="[^"]*">.*?<b>([^<]*)</b>', answers[path].text)
        assert banners == ["1 error in the specs of default", "wren keeps failing"], path
    assert "1 more" in Page(answers["/"].text).text


def test_the_tree_goes_from_goals_to_tool_calls(answers: dict[str, httpx2.Response]) -> None:
    levels = re.findall(r'aria-level="(\d)"', answers["/goals"].text)
    assert set(levels) == {"1", "2", "3", "4"}
    assert levels[0] == "1"


def test_search_marks_what_was_found_in_titles_and_in_the_log(answers: dict[str, httpx2.Response]) -> None:
    html = answers["/search?q=kind:mission+billing"].text
    assert "Migrate <mark>billing</mark> webhooks" in html
    assert 'href="/missions/default/migrate-billing"' in html


def test_a_transcript_tells_who_said_what_and_what_a_limit_stopped(pages: dict[str, Page]) -> None:
    for path in ("/chat/default/backfill-costs-talk", "/threads/default/backfill-costs-thread"):
        text = " ".join(pages[path].text.split())
        assert "alice How far are you?" in text
        assert text.index("scout (agent)") < text.index("by itself") < text.index("I go on with the last one."), path


def test_charts_have_the_same_as_a_table(answers: dict[str, httpx2.Response]) -> None:
    for path in ("/missions?view=timeline", "/budgets", "/schedule", "/missions/default/apply-dns"):
        page = Page(answers[path].text)
        assert [s for s in page.all("svg") if s.attributes.get("role") == "img"], path
        assert "As a table" in page.text


def test_a_permanent_link_finds_the_object_under_its_new_name(shop: Shop) -> None:
    uid = shop.seeded.uids[Key("Mission", "default", "apply-dns")]
    found = ask(shop.app, [f"/r/{uid}", "/r/nothing"])
    assert found[f"/r/{uid}"].status_code == 307
    assert found[f"/r/{uid}"].headers["location"] == "/missions/default/apply-dns"
    assert found["/r/nothing"].status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/missions/default/nope", "/agents/DEFAULT/x", "/missions/default/apply-dns/runs/99", "/toolcalls/default/x"],
)
def test_what_is_not_there_is_told_on_a_page(shop: Shop, path: str) -> None:
    answer = ask(shop.app, [path])[path]
    assert answer.status_code == 404
    assert Page(answer.text).unclosed == [] if answer.headers["content-type"].startswith("text/html") else True


def test_nonsense_in_the_query_is_no_error(shop: Shop) -> None:
    paths = [
        "/missions?view=%00&state='--&agent=../../x&after=a/b/c",
        "/events?before=99999999999999999999&type=<script>",
        "/events?uid=%27%20or%201=1&since=9y",
        "/search?q=" + "kind:%20" * 50,
        "/approvals?tab[]=x",
        "/todos?who=%ff",
        "/missions?" + "&".join(f"a{i}=1" for i in range(200)),
        "/missions?after=default/zzz&view=table",
    ]
    assert {a.status_code for a in ask(shop.app, paths).values()} == {200}


def test_lists_go_on_where_they_ended(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    store = harness.open()
    with store.transaction(SYSTEM) as tx:
        tx.create_many(
            [Declared("Mission", "default", f"m-{i:03}", {"title": f"Do {i}"}) for i in range(230)],
            status=lambda key: {"state": "Inbox"},
        )
    app = site_app(store, harness.clock)
    path, seen = "/missions?view=table", []
    for _ in range(3):
        html = ask(app, [path])[path].text
        seen += re.findall(r'href="/missions/default/(m-\d+)"', html)
        following = re.search(r'class="more"><a href="([^"]*after=[^"]*)"', html)
        path = following[1].replace("&amp;", "&") if following else ""
    assert path == ""
    assert sorted(set(seen)) == [f"m-{i:03}" for i in range(230)]
    board = ask(app, ["/missions"])["/missions"].text
    assert board.count('class="card"') == 50
    assert "180 more" in board
    harness.close()


def test_an_empty_store_tells_the_first_commands(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    store = harness.open()
    found = ask(site_app(store, harness.clock), LISTS)
    assert {a.status_code for a in found.values()} == {200}
    assert all(Page(a.text).unclosed == [] for a in found.values())
    assert "remit init" in found["/"].text
    harness.close()


def test_a_store_that_does_not_answer_is_told_on_a_page(shop: Shop) -> None:
    class Gone:
        def snapshot(self) -> None:
            raise StoreUnavailable("the database does not answer")

    from api.dashboard.routes import add_dashboard
    from controllers.runtime.blocking import InlineBlocking

    app = FastAPI()
    add_dashboard(app, Gone(), now=shop.clock, blocking=InlineBlocking())  # type: ignore[arg-type]
    answer = ask(app, ["/missions"])["/missions"]
    assert answer.status_code == 503
    assert "the database does not answer" in Page(answer.text).text


def test_a_page_that_did_not_change_is_not_sent_again(shop: Shop) -> None:
    first = ask(shop.app, ["/"])["/"]
    again = ask(shop.app, ["/"], **{"If-None-Match": first.headers["etag"]})["/"]
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    ("takes", "packed"),
    [
        ("gzip, br", True),
        ("br;q=1, GZIP;q=0.5", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
    ],
)
def test_pages_and_files_are_packed_for_whoever_takes_that(shop: Shop, takes: str, packed: bool) -> None:
    for path, found in ask(
        shop.app, ["/", "/missions", asset_url("dashboard.js")], **{"Accept-Encoding": takes}
    ).items():
        assert (found.headers.get("content-encoding") == "gzip") is packed, path
        assert found.headers["vary"] == "Accept-Encoding"
        assert found.text == ask(shop.app, [path], **{"Accept-Encoding": "identity"})[path].text
        assert (int(found.headers["content-length"]) < len(found.content)) is packed


def test_many_who_look_at_one_change_cost_one_rendering(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from api.dashboard.rendering import Templates

    made: list[str] = []
    render = Templates.render

    def counted(self: Templates, name: str, values: dict[str, object]) -> bytes:
        made.append(name)
        return render(self, name, values)

    monkeypatch.setattr(Templates, "render", counted)
    app = site_app(shop.store, shop.clock)
    for _ in range(20):
        ask(app, ["/missions"])
    assert made == ["missions.html"]


def test_no_page_reads_more_than_it_shows(tmp_path: Path) -> None:
    """Pages of a store of a thousand missions read a bounded number of objects."""
    harness = SqliteHarness(tmp_path)
    store = harness.open()
    with store.transaction(SYSTEM) as tx:
        tx.create_many(
            [Declared("Mission", "default", f"m-{i:04}", {"title": "x"}) for i in range(3000)],
            status=lambda key: {"state": "Done"},
        )
    read: list[int] = []

    class Counting:
        def __init__(self, snapshot: object) -> None:
            self._snapshot = snapshot

        def __getattr__(self, name: str) -> object:
            return getattr(self._snapshot, name)

        def objects(self, *given: object, **more: object) -> list[Resource]:
            found: list[Resource] = self._snapshot.objects(*given, **more)  # type: ignore[attr-defined]
            read.append(len(found))
            return found

    with store.snapshot() as snapshot:
        for page in PAGES:
            if "{" not in page.path:
                read.clear()
                page.read(View(Counting(snapshot), harness.clock(), SITE, page.path))  # type: ignore[arg-type]
                assert sum(read) <= 1500, page.path
    harness.close()


def test_files_and_pages_keep_to_their_budgets(answers: dict[str, httpx2.Response]) -> None:
    sizes = {name: len(gzip.compress(asset(name), 9)) for name in ASSETS}
    assert sizes["dashboard.css"] <= 8 * 1024
    assert sizes["dashboard.js"] <= 12 * 1024
    assert sizes["icons.svg"] <= 8 * 1024
    pages = {path: len(gzip.compress(answer.content, 6)) for path, answer in answers.items()}
    assert {path: size for path, size in pages.items() if size > 60 * 1024} == {}
    page = Page(answers["/"].text)
    files = {e.attributes.get("src") or e.attributes["href"] for e in page.elements if e.name in ("script", "link")}
    assert len(files) + 2 <= 5


def test_files_are_kept_by_browsers_and_change_their_address(shop: Shop) -> None:
    urls = [asset_url(name) for name in ASSETS]
    for url, answer in ask(shop.app, urls).items():
        assert answer.status_code == 200, url
        assert "immutable" in answer.headers["cache-control"]
    assert ask(shop.app, ["/dashboard/../routes.py", "/dashboard/x"])["/dashboard/x"].status_code == 404


def test_the_script_and_the_style_come_from_nowhere_else() -> None:
    for name in ("dashboard.css", "dashboard.js"):
        text = asset(name).decode()
        assert "http" not in text.replace("application/http", "")
        assert "innerHTML" not in text
        assert "eval(" not in text


def test_the_environment_stands_loud_where_mistakes_cost(shop: Shop) -> None:
    app = site_app(shop.store, shop.clock, replace(SITE, environment="production"))
    assert 'class="env loud"' in ask(app, ["/"])["/"].text


def test_columns_can_be_left_out_and_rows_given_room_by_the_address(shop: Shop) -> None:
    path = "/missions?view=table&hide=agent,cost&density=cozy"
    page = Page(ask(shop.app, [path])[path].text)
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", page.html)
    assert heads == ["State", "Mission", "Waits for", "Attempts", "Changed"]
    rows = re.findall(r"<tr id=.*?</tr>", page.html, re.DOTALL)
    assert {row.count("<td") for row in rows} == {5}
    assert page.all("html")[0].attributes["class"] == "cozy"
    assert any("hide=cost" in link and "agent" not in link.partition("hide=")[2] for link in page.links)


def test_the_board_stands_apart_by_agent_and_shows_the_same_cards(shop: Shop) -> None:
    found = ask(shop.app, ["/missions", "/missions?lanes=agent", "/missions?lanes=goal"])
    cards = {path: sorted(i for i in Page(a.text).ids if i.startswith("card-")) for path, a in found.items()}
    assert len(cards["/missions"]) > 10
    assert cards["/missions"] == cards["/missions?lanes=agent"] == cards["/missions?lanes=goal"]
    groups = [i for i in Page(found["/missions?lanes=agent"].text).ids if re.fullmatch(r"group-\w+", i)]
    assert len(groups) > 2


def test_the_log_of_a_run_and_of_everything_can_be_taken_along(shop: Shop) -> None:
    run = "/missions/default/backfill-costs/runs/1"
    found = ask(shop.app, [run, f"{run}/log", "/missions/default/backfill-costs/runs/99/log", "/events?ns=default"])
    assert f"{run}/log" in Page(found[run].text).links
    log = found[f"{run}/log"]
    assert log.text == "backfill-costs-1 begins\nreads docs\n"
    assert log.headers["content-disposition"] == 'attachment; filename="backfill-costs-1.log"'
    assert found["/missions/default/backfill-costs/runs/99/log"].status_code == 404
    files = [link for link in Page(found["/events?ns=default"].text).links if "export" in link]
    assert files == [f"/api/v1/events/export?format={form}&namespace=default" for form in ("csv", "jsonl")]
    assert ask(shop.app, files[:1])[files[0]].text.startswith("seq,at,type")


def test_kubectl_is_offered_where_it_can_read(answers: dict[str, httpx2.Response]) -> None:
    text = Page(answers["/missions/default/apply-dns"].text).text
    assert "kubectl --server http://127.0.0.1:8420 describe missions apply-dns -n default" in text
    assert "kubectl" not in Page(answers["/"].text).text


def test_a_tenant_has_a_page_with_its_own_figures(shop: Shop) -> None:
    found = ask(shop.app, ["/o/default", "/o/none", "/o/%3Cscript%3E", "/"])
    assert [found[p].status_code for p in ("/o/default", "/o/none", "/o/%3Cscript%3E")] == [200, 404, 404]
    page = Page(found["/o/default"].text)
    assert "Fleet of default" in page.text
    assert "/missions?view=table&state=Blocked&ns=default" in page.links
    with shop.store.transaction(SYSTEM) as tx:
        agent = tx.create(Declared("Agent", "elsewhere", "lonely", {}))
    other = Page(ask(shop.app, ["/o/elsewhere"])["/o/elsewhere"].text)
    assert re.search(r"Needs you\s*0", other.text)
    assert "of 1" in other.text
    with shop.store.transaction(SYSTEM) as tx:
        tx.remove(agent)


def test_clocks_that_disagree_are_told(shop: Shop) -> None:
    path = "/settings"
    assert "Clocks disagree" not in ask(shop.app, [path])[path].text
    late = site_app(shop.store, lambda: shop.clock() - timedelta(hours=2))
    assert "Clocks disagree" in ask(late, [path])[path].text


def test_settings_tell_how_the_process_is(answers: dict[str, httpx2.Response]) -> None:
    assert "Queue objects ready" in answers["/settings"].text
