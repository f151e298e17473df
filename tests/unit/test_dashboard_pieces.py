"""The small parts of the dashboard: texts, commands, links, drawings."""

from __future__ import annotations

import itertools
import math
import re
import shlex
import threading
import unicodedata
from collections.abc import Sequence
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


@pytest.mark.parametrize(("source", "found"), [
    ("https://github.com/acme/specs.git", "https://github.com/acme/specs/compare/main...remit/p-1?expand=1"),
    ("git@codeberg.org:acme/specs", "https://codeberg.org/acme/specs/compare/main...remit/p-1?expand=1"),
    ("https://gitlab.acme.dev/a/b", "https://gitlab.acme.dev/a/b/-/merge_requests/new?"
     "merge_request%5Bsource_branch%5D=remit%2Fp-1&merge_request%5Btarget_branch%5D=main"),
    ("/srv/specs", None), ("https://git.acme.dev/a", None),
])  # fmt: skip
def test_a_pushed_branch_is_one_click_from_a_pull_request(source: str, found: str | None) -> None:
    out = links.compare(source, "main", "remit/p-1")
    assert (out and out.href) == found
    assert links.compare(source, "main", "x y") is None
    assert links.compare(source, "--upload-pack", "b") is None


# Machado, Oliveira, Fernandes 2009: what eyes without one sort of cones see, in linear sRGB, at full severity.
EYES = {
    "all": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def _oklab(linear: Sequence[float]) -> tuple[float, ...]:
    lms = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
           (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
    lab = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
           (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip
    return _by(lab, [max(0.0, v) ** (1 / 3) for v in _by(lms, linear)])


def _by(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _linear(colour: str) -> list[float]:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]


@pytest.mark.parametrize(("scheme", "least"), [(0, 0.07), (1, 0.10)])
@pytest.mark.parametrize("eyes", EYES)
def test_states_stay_apart_for_eyes_that_see_fewer_colours(scheme: int, least: float, eyes: str) -> None:
    css = asset("dashboard.css").decode()
    tones = {t.value: re.findall(rf"--{t.value}:light-dark\((#\w{{6}}),(#\w{{6}})\)", css)[0][scheme] for t in Tone}
    seen = {name: _oklab([min(1.0, max(0.0, v)) for v in _by(EYES[eyes], _linear(c))]) for name, c in tones.items()}
    near = {(a, b): math.dist(seen[a], seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert {pair: round(d, 3) for pair, d in near.items() if round(d, 2) < least} == {}


@pytest.mark.parametrize("scheme", [0, 1])
def test_states_can_be_read_on_every_surface(scheme: int) -> None:
    css = asset("dashboard.css").decode()

    def luminance(colour: str) -> float:
        r, g, b = _linear(colour)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for tone in Tone:
        ink = luminance(re.findall(rf"--{tone.value}:light-dark\((#\w{{6}}),(#\w{{6}})\)", css)[0][scheme])
        for surface in (("#ffffff", "#0e1116"), ("#f6f7f9", "#161b22")):
            ground = luminance(surface[scheme])
            assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, (tone, surface)
