"""``remit costs``: what it prints, in every form, and what it adds up."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from controllers.runs import reports
from controllers.runs.once import Once
from controllers.runs.verdict import Share
from schemas.mission import Spend
from schemas.resource import SYSTEM
from tests.fakes.shell import Shell, configure
from tests.fakes.world import World, agent, executor, mission

FLEET = "---\n".join(
    [
        executor(),
        *(agent(name, model="{primary: some}", maxConcurrentMissions=5) for name in ("worker", "other")),
        "apiVersion: remit.dev/v1alpha1\nkind: Project\nmetadata: {name: site}\nspec: {displayName: Site}\n",
    ]
)
HEADER = ["SETTLED", "UNKNOWN", "RESERVED", "TOKENS IN", "TOKENS OUT", "TOOL CALLS", "TIME"]


def used(shell: Shell, run: str, model: str, **figures: object) -> None:
    share = Share(model, Spend.model_validate({"source": "Reported", **figures}))
    with shell.world.store.transaction(SYSTEM) as tx:
        reports.use(tx, shell.world.get("Run", run).uid, share, once=Once(f"{run}{model}", "x"))


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """One mission with a known cost, one without, and one under way."""
    monkeypatch.delenv("REMIT_NAMESPACE", raising=False)
    world = World(tmp_path)
    configure(tmp_path)
    world.commit(
        {
            "fleet.yaml": FLEET,
            "a.yaml": mission("a", projectRef="{name: site}"),
            "b.yaml": mission("b", agent="other"),
            "c.yaml": mission("c", agent="other"),
        }
    )
    world.sync()
    made = Shell(world, capsys)
    used(made, "a-1", "=cmd()", usd=Decimal("0.10"), input_tokens=1200, output_tokens=30)
    world.finish("a-1")
    world.advance(24 * 3600)
    used(made, "b-1", "unheard-of", input_tokens=5)
    world.finish("b-1")
    yield made
    world.close()


def cells(line: str) -> list[str]:
    return line.split()


def test_what_is_known_what_is_not_and_what_is_under_way_stand_apart(shell: Shell) -> None:
    out, err = shell.apart("costs")
    header, *body = out.splitlines()
    assert header.split("  ")[0] == "AGENT"
    assert [word for word in HEADER if word not in header] == []
    assert [cells(line)[:4] for line in body] == [
        ["other", "0", "0.25", "0.25"],
        ["worker", "0.1", "0", "0"],
        ["TOTAL", "0.1", "0.25", "0.25"],
    ]
    assert "Unpriced: unheard-of counts as its worst case" in err


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("agent", ["other", "worker"]),
        ("mission", ["a", "b", "c"]),
        ("project", ["site", ""]),
        ("goal", [""]),
        ("tenant", ["default"]),
        ("provider", [""]),
        ("model", ["=cmd()", "unheard-of", ""]),
        ("day", ["2026-11-21", "2026-11-22"]),
    ],
)
def test_costs_are_told_apart_by(shell: Shell, by: str, names: list[str]) -> None:
    document = json.loads(shell.apart("costs", "--by", by, "-o", "json")[0])
    assert [item[by] for item in document["items"]] == names
    for field in ("settledUsd", "unknownUsd", "reservedUsd"):
        assert sum(Decimal(item[field]) for item in document["items"]) == Decimal(document["total"][field])
    assert (document["total"]["settledUsd"], document["total"]["unknownUsd"]) == ("0.1", "0.25")
    assert yaml.safe_load(shell.apart("costs", "--by", by, "-o", "yaml")[0]) == document


def test_a_spreadsheet_takes_no_name_for_a_formula(shell: Shell) -> None:
    rows = list(csv.reader(io.StringIO(shell.apart("costs", "--by", "model", "-o", "csv")[0])))
    assert rows[0][:4] == ["model", "settledUsd", "unknownUsd", "reservedUsd"]
    assert [row[0] for row in rows[1:]] == ["'=cmd()", "unheard-of", ""]


def test_only_the_last_while(shell: Shell) -> None:
    def settled(since: str) -> str:
        return str(json.loads(shell.apart("costs", "--since", since, "-o", "json")[0])["total"]["settledUsd"])

    assert (settled("2d"), settled("1h"), settled("2026-11-22"), settled("2026-11-21")) == ("0.1", "0", "0", "0.1")
    assert "no such day" in shell("costs", "--since", "2026-11-31", code=2)
    assert "not a duration" in shell("costs", "--since", "yesterday", code=2)


def test_a_namespace_has_its_own_costs(shell: Shell) -> None:
    assert cells(shell.apart("costs", "-n", "elsewhere")[0].splitlines()[-1])[:2] == ["TOTAL", "0"]
    assert cells(shell.apart("costs", "-A", "--by", "tenant")[0].splitlines()[1])[:2] == ["default", "0.1"]
