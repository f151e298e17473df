"""A forecast for people: in a terminal, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cli.output import safe, table

_COLUMNS = ("MISSIONS", "DONE", "FAILED", "OPEN", "RUNS", "COST USD", "WAIT P50", "WAIT MAX", "WAITED FOR", "ASKED")
_GROUPS = (("By agent", "agents", "AGENT"), ("By maker", "makers", "MADE BY"), ("By day", "days", "DAY"))
_MOST = 40

Rows = Sequence[Sequence[str]]


def human(wire: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal."""
    return _told(wire, lambda title: ["", f"{title}:"], lambda rows, head: table(rows, head).splitlines(), "  ")


def markdown(wire: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")

    def as_table(rows: Rows, head: Sequence[str]) -> list[str]:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        return lines + ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]

    return _told(wire, lambda title: ["", f"### {title}", ""], as_table, "- ")


def _told(
    wire: Mapping[str, Any], title: Callable[[str], list[str]], as_table: Callable[[Rows, Sequence[str]], list[str]],
    item: str,
) -> list[str]:  # fmt: skip
    total = wire["total"]
    lines = [
        f"{wire['from']} to {wire['to']}, seed {wire['seed']}: {total['missions']} missions, {total['runs']} runs, "
        f"{total['costUsd']} USD; {total['done']} done, {total['failed']} failed, {total['open']} open at the end"
    ]
    lines += title("Assumed, not known")
    lines += [f"{item}{text}" for text in _assumed(wire["assumptions"])]
    for name, key, first in _GROUPS:
        rows = [[safe(group), *_cells(figures)] for group, figures in list(wire[key].items())[:_MOST]]
        lines += title(name)
        lines += as_table([*rows, ["TOTAL", *_cells(total)]], [first, *_COLUMNS])
    if wire["limits"]:
        lines += title("Limits")
        rows = [[hit["at"], safe(hit["subject"]), hit["kind"], str(hit["times"]), safe(hit["message"])]
                for hit in wire["limits"][:_MOST]]  # fmt: skip
        lines += as_table(rows, ["FIRST", "LIMIT", "WHAT", "TIMES", "MESSAGE"])
    if wire["budgets"]:
        lines += title("Budgets")
        rows = [
            [safe(b["budget"]), str(b["window"]), str(b["limits"].get("usd", "-")), b["mostSpentUsd"],
             str(b["spent"].get("usd", "-")), safe(b["atTheEnd"]) or "-"]
            for b in wire["budgets"][:_MOST]
        ]  # fmt: skip
        lines += as_table(rows, ["BUDGET", "WINDOW", "LIMIT USD", "MOST SPENT", "AT THE END", "PROBLEM"])
    if wire["approvals"]:
        lines += title("Questions to people")
        lines += [f"{item}{kind}: {count}" for kind, count in wire["approvals"].items()]
    for name, key in (("What people are told", "told"), ("What went wrong", "wentWrong")):
        if wire[key]:
            lines += title(name)
            lines += [f"{item}{kind}: {count}" for kind, count in wire[key].items()]
    if wire["open"]:
        lines += title("Open at the end, oldest first")
        rows = [[safe(m["mission"]), m["state"], m["waitsFor"], m["age"]] for m in wire["open"]]
        lines += as_table(rows, ["MISSION", "STATE", "WAITS FOR", "AGE"])
    if wire["problems"]:
        lines += title("Left out, or in the way")
        lines += [f"{item}{safe(text)}" for text in wire["problems"][:_MOST]]
    return lines


def _assumed(assumed: Mapping[str, Any]) -> list[str]:
    took, paid, fails = assumed["duration"], assumed["costUsd"], assumed["failures"]
    return [
        f"a run takes {took['median']} (median): {took['flag']}, annotation {took['annotation']}",
        f"a run costs {paid['median']} USD (median): {paid['flag']}, annotation {paid['annotation']}",
        f"both spread by {assumed['spread']['value']:g} (deviation of the logarithm): --spread",
        f"{fails['share']:.1%} of runs fail: {fails['flag']}, annotation {fails['annotation']}",
        f"people approve after {assumed['answers']['after']}: --answer-after",
        _faults(assumed["faults"]),
        "every program is there, and nothing of the project's store is taken into account",
    ]


def _faults(faults: Mapping[str, Any]) -> str:
    named = {"storms": "a provider refuses", "jumps": "the clock jumps", "kills": "the engine is killed"}
    found = [f"{text} every {faults[name]}" for name, text in named.items() if faults[name]]
    if faults["deaths"]:
        found.insert(0, f"{faults['deaths']:.1%} of workers die")
    return f"{', '.join(found) if found else 'nothing else goes wrong'}: {faults['flag']}"


def _cells(group: Mapping[str, Any]) -> list[str]:
    waited = ", ".join(f"{name} {spent}" for name, spent in group["waitedFor"].items())
    return [
        *(str(group[name]) for name in ("missions", "done", "failed", "open", "runs", "costUsd")),
        group["waitP50"] or "-",
        group["waitMax"] or "-",
        waited or "-",
        str(group["asked"]),
    ]
