"""Playing specs in virtual time: simulate."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import moment, output
from cli.failures import Exit, Failure
from cli.spec_folder import DiffFormat, specs_of

if TYPE_CHECKING:
    from controllers.simulation.assumptions import Assumptions
    from controllers.simulation.faults import Faults

_DAYS = re.compile(r"(\d{1,3})d")
_LONGEST = timedelta(days=366)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("simulate")(simulate)


def simulate(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="Folder of specs; the project's by default.")] = None,
    length: Annotated[str, typer.Option("--for", help="How long: 12h, 7d.")] = "7d",
    begin: Annotated[
        str | None, typer.Option("--from", help="First day (2026-11-23, UTC); tomorrow when absent.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides what chance brings.")] = 1,
    duration: Annotated[str, typer.Option("--duration", help="Median time that a run takes.")] = "5m",
    cost: Annotated[str, typer.Option("--cost", help="Median cost of a run, in USD.")] = "0.10",
    spread: Annotated[
        float, typer.Option("--spread", min=0, max=3, help="Spread of both: 0 is none, 0.5 doubles or halves many.")
    ] = 0.5,
    failures: Annotated[float, typer.Option("--failures", min=0, max=1, help="Share of runs that fail.")] = 0.05,
    answer_after: Annotated[
        str, typer.Option("--answer-after", help="People say yes to each question after this; never, or a time.")
    ] = "1h",
    faults: Annotated[
        str,
        typer.Option("--faults", help="What goes wrong: none, usual, or deaths=0.02,storms=12h,..."),
    ] = "none",
    form: Annotated[DiffFormat, typer.Option("--output", "-o", help="human, json or markdown.")] = DiffFormat.HUMAN,
) -> None:
    """Play the specs in virtual time: what next week would bring, wait for, and cost.

    The real planner, dispatcher, limits and schedules run over a store of their own; the project's is not touched and
    no program is started. What runs take and cost is assumed; the answer begins with those numbers. The same specs,
    seed and options give the same answer.

    Examples:
      remit simulate
      remit simulate specs/ --for 7d --seed 1 -o markdown
      remit simulate --duration 20m --cost 0.50 --answer-after never
      remit simulate --faults usual --seed 3
    """
    from cli.compiling import compile_paths
    from cli.forecasts import human, markdown
    from controllers.simulation.forecast import forecast

    folder = path or specs_of(context)
    if not folder.is_dir():
        raise Failure(f"{folder} is no folder")
    found = [d for unit in compile_paths([folder]) for d in unit.diagnostics]
    if found:
        raise Failure(f"the specs have {len(found)} error(s): {found[0]}", hint="remit validate")
    assumed = _assumed(duration, cost, spread, failures, answer_after)
    made = forecast(
        folder, begins=_begin(begin), length=_length(length), seed=seed, assumed=assumed, faults=_faults(faults)
    )
    wire = made.to_wire()
    if form is DiffFormat.JSON:
        print(output.dump_json(wire))
        return
    print("\n".join(markdown(wire) if form is DiffFormat.MARKDOWN else human(wire)))


def _assumed(duration: str, cost: str, spread: float, failures: float, answer_after: str) -> Assumptions:
    from controllers.simulation.assumptions import Assumptions

    try:
        usd = Decimal(cost)
    except InvalidOperation:
        usd = Decimal(-1)
    if not 0 <= usd <= 1_000_000:
        raise Failure(f"--cost: {cost!r} is no amount in USD", code=Exit.ERROR)
    return Assumptions(
        duration=_time(duration, "--duration"),
        cost_usd=usd,
        spread=spread,
        failures=failures,
        answer_after=None if answer_after == "never" else _time(answer_after, "--answer-after"),
    )


def _faults(text: str) -> Faults:
    from controllers.simulation import faults

    try:
        return faults.parse(text)
    except ValueError as error:
        raise Failure(f"--faults: {error}", code=Exit.ERROR) from None


def _length(text: str) -> timedelta:
    days = _DAYS.fullmatch(text)
    length = timedelta(days=int(days[1])) if days else _time(text, "--for")
    if not timedelta() < length <= _LONGEST:
        raise Failure(f"--for: {text} is not between a moment and 366 days", code=Exit.ERROR)
    return length


def _time(text: str, flag: str) -> timedelta:
    from schemas.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise Failure(f"{flag}: {error}", code=Exit.ERROR) from None


def _begin(text: str | None) -> datetime:
    if text is None:
        return moment.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise Failure(f"--from: {text!r} is no day such as 2026-11-23", code=Exit.ERROR) from None
