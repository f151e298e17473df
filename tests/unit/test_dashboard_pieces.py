"""The small parts of the dashboard: texts, commands, links, drawings."""

from __future__ import annotations

import shlex
import threading
import unicodedata
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard import charts, links, marks, text, timelines
from api.dashboard.commands import WHY, Commands
from api.dashboard.marks import Tone
from api.dashboard.pages import NAV, PAGES
from api.dashboard.rendering import KEPT, Rendered, Renderings, asset, highlighted
from schemas import registry
from schemas.base import Key
from schemas.mission import MissionState
from schemas.resource import Provenance
from schemas.run import RunState

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


@given(st.text())
def test_what_has_no_shape_is_shown_as_an_escape(given_text: str) -> None:
    shown = text.visible(given_text)
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    assert text.visible(shown) == shown
    shown.encode("utf-8")


@given(st.text(max_size=900))
def test_a_line_is_one_line_of_bounded_length(given_text: str) -> None:
    found = text.line(given_text)
    assert len(found) <= text.LONGEST
    assert "\n" not in found


def test_a_block_is_cut_at_its_end_and_within_its_lines() -> None:
    body, hidden = text.block("a" * 50_000)
    assert hidden == 30_000
    assert len(body) < 2_100
    assert text.block("x\ny") == ("x\ny", 0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "now"),
        (42, "42s ago"),
        (61, "1m ago"),
        (-90, "in 1m"),
        (3600 * 3 + 1200, "3h 20m ago"),
        (-86400 * 4, "in 4d"),
    ],
)
def test_time_is_told_from_now(seconds: float, said: str) -> None:
    assert text.ago(NOW - timedelta(seconds=seconds), NOW) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [("3.2", "$3.20"), (None, "-"), ("0", "$0.00"), ("0.0042", "$0.0042"), ("0.000001", "<$0.0001"), ("nan", "-"),
     ("12345.678", "$12,345.68"), (True, "-")],
)  # fmt: skip
def test_money_that_is_not_nothing_never_looks_like_it(value: object, said: str) -> None:
    assert text.money(value) == said


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=90))
def test_a_command_is_one_line_of_names_or_nothing(namespace: str, name: str, digest: str) -> None:
    commands = Commands(".venv/bin/remit")
    key = Key("Mission", namespace, name)
    for line in (
        commands.verb("describe", key=key), commands.answer("approve", key, digest), commands.confirm(digest),
        commands.verb("hold", key=key, end=WHY), commands.answer("deny", key, "sha256:" + "a" * 64, end=WHY),
    ):  # fmt: skip
        if line:
            assert line.isascii()
            assert line.isprintable()
            assert shlex.split(line)[0] == ".venv/bin/remit"
            assert not set(line.replace("'...'", "")) & set("`$;&|<>\n\"'\\")


def test_commands_name_the_namespace_and_the_digest() -> None:
    commands = Commands()
    key = Key("ApprovalRequest", "team", "ask")
    assert commands.answer("approve", key, "sha256:" + "ab" * 32) == "remit approve ask --digest abababababab -n team"
    assert commands.answer("approve", key, "sha256:nothing") == ""
    assert commands.verb("describe", key=Key("Mission", "default", "a")) == "remit describe mission/a"
    assert commands.verb("describe", key=Key("Mission", "default", "a; rm -rf /")) == ""
    with pytest.raises(ValueError, match="one line"):
        Commands("remit\nrm")


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "http://a.example", "data:text/html,x", "https://user:pw@a.example/", "https://a.example/\x00",
     "https://a.example/\" onclick=x", "//a.example", "https://\u0430.example", "HTTPS:a", "https://", 7, None],
)  # fmt: skip
def test_only_plain_https_links_leave_the_site(url: object) -> None:
    assert links.https("x", url) is None


@pytest.mark.parametrize(
    ("source", "base"),
    [
        ("https://github.com/acme/specs.git", "https://github.com/acme/specs/blob/"),
        ("git@github.com:acme/specs.git", "https://github.com/acme/specs/blob/"),
        ("ssh://git@gitlab.example.org/a/b.git", "https://gitlab.example.org/a/b/-/blob/"),
        ("https://codeberg.org/a/b", "https://codeberg.org/a/b/src/commit/"),
        ("specs", ""),
        ("/srv/specs", ""),
        ("https://token@github.com/acme/specs", ""),
    ],
)
def test_the_line_that_declares_an_object_is_linked_where_its_host_shows_lines(source: str, base: str) -> None:
    commit = "a" * 40
    origin = Provenance("default", ".", f"main@sha1:{commit}", "missions/x y.yaml", 21, "")
    found = links.declared(source, origin)
    assert ("" if found is None else found.href) == (f"{base}{commit}/missions/x%20y.yaml#L21" if base else "")


def test_every_kind_with_objects_has_an_address() -> None:
    paths = {page.path.split("/{")[0] for page in PAGES}
    for name in registry.NAMES:
        base = links.page(name.kind, "default", "x").removesuffix("/default/x")
        assert base in paths or base == f"/{name.plural}"


def test_keys_of_the_navigation_are_told_apart() -> None:
    keys = [entry.key for _, group in NAV for entry in group]
    assert len(set(keys)) == len(keys)


def test_every_state_has_a_glyph_that_is_drawn() -> None:
    drawn = {symbol.attrib["id"] for symbol in ElementTree.fromstring(asset("icons.svg"))}
    used = {marks.state("Mission", s).glyph for s in MissionState} | {marks.state("Run", s).glyph for s in RunState}
    used |= {entry.glyph for _, group in NAV for entry in group}
    used |= {marks.risk(r).glyph for r in ("Green", "Yellow", "Red", "")} | {marks.state("X", "Nonsense").glyph}
    assert used <= drawn
    assert len({(marks.state("Mission", s).glyph, marks.state("Mission", s).word) for s in MissionState}) == 9


def _bar(begin: float, end: float, **more: bool) -> timelines.Bar:
    return timelines.Bar(NOW + timedelta(seconds=begin), NOW + timedelta(seconds=end), "<b>x</b>", Tone.BUSY, **more)


def test_a_long_idle_gap_is_folded_and_says_so() -> None:
    lanes = [("run", [_bar(0, 60), _bar(14_460, 14_520)])]
    folded = str(timelines.draw(lanes, fold=True, label="x"))
    assert "4h folded" in folded
    assert "folded" not in timelines.draw(lanes, fold=False, label="x")


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e5), st.booleans()), max_size=40), st.booleans())
def test_drawings_are_well_formed_and_stay_in_their_frame(spans: list[tuple[float, float, bool]], fold: bool) -> None:
    drawn = str(timelines.draw([("<lane>", [_bar(a, a + b, waiting=w) for a, b, w in spans])], fold=fold, label="<&>"))
    if not spans:
        assert drawn == ""
        return
    for rect in ElementTree.fromstring(drawn).iter("rect"):
        x, width = float(rect.attrib["x"]), float(rect.attrib["width"])
        assert 0 <= x <= x + width <= timelines.WIDE + 1


def test_a_thousand_bars_are_drawn_as_a_few() -> None:
    drawn = str(timelines.draw([("tools", [_bar(i * 3, i * 3 + 1) for i in range(5000)])], fold=True, label="x"))
    assert drawn.count('<rect class="bar') <= timelines.MOST
    assert len(drawn) < 120_000


@given(st.lists(st.floats(0, 1e9), max_size=30))
def test_charts_are_well_formed(values: list[float]) -> None:
    ElementTree.fromstring(str(charts.spark(values)))
    drawn = str(charts.columns([("<n>", v, "<v>") for v in values], label="<l>", cap=5.0, cap_text="<c>"))
    if values:
        ElementTree.fromstring(drawn)


def test_what_was_searched_for_is_marked_and_the_rest_escaped() -> None:
    assert str(highlighted("<b> bill", ((4, 8),))) == "&lt;b&gt; <mark>bill</mark>"


def test_a_rendering_that_many_wait_for_is_made_once_and_old_ones_go() -> None:
    kept, made, gate = Renderings(), [], threading.Barrier(8)

    def make() -> Rendered:
        made.append(1)
        return Rendered.of(200, b"x")

    def ask() -> None:
        gate.wait()
        kept.get(("a",), make)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    for i in range(KEPT + 5):
        kept.get((i,), make)
    assert len(kept._kept) == KEPT


def test_a_rendering_that_failed_is_made_again() -> None:
    kept = Renderings()

    def fail() -> Rendered:
        raise LookupError("not now")

    with pytest.raises(LookupError, match="not now"):
        kept.get(("a",), fail)
    assert kept.get(("a",), lambda: Rendered.of(200, b"x")).status == 200
