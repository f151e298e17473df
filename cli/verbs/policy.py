"""Policies as tested code: policy explain, test and replay."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, moment, output
from cli.failures import Exit, Failure
from cli.spec_folder import DiffFormat, specs_of
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from cli.policy_cases import Outcome
    from cli.policy_replay import Change, Replay
    from decisions.policy.fleet import Fleet

policy = typer.Typer(help="Try Policies before they hold.", no_args_is_help=True, rich_markup_mode=None)

Specs = Annotated[Path | None, typer.Option("--specs", help="Folder of specs; the project's by default.")]
Form = Annotated[DiffFormat, typer.Option("--output", "-o", help="human, json or markdown.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this word."""
    app.add_typer(policy, name="policy")


@policy.command("explain")
def explain(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(help="Name of a declared agent.")],
    tool: Annotated[str, typer.Argument(help="Tool that it would call.")],
    args: Annotated[str, typer.Option("--args", help="Arguments of the call, as a JSON object.")] = "{}",
    target: Annotated[str, typer.Option("--target", help="What the agent would say it acts on.")] = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    specs: Specs = None,
    live: Annotated[bool, typer.Option("--live", help="By what is in force, not by the files here.")] = False,
) -> None:
    """Say how a call would be decided, which rule decides, where it stands, and what would allow it.

    Holds, limits and budgets are not asked: this is about the rules.

    Examples:
      remit policy explain worker shell_exec --args '{"command": "git push"}'
    """
    from decisions.policy.decide import decide
    from decisions.policy.facts import Call, Circumstances
    from schemas.base import Key

    try:
        arguments = json.loads(args)
    except ValueError as error:
        raise Failure(f"--args is not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise Failure("--args is not a JSON object", hint="""remit policy explain AGENT TOOL --args '{"path": "a"}'""")
    fleet = _live(context) if live else _fleet(specs or specs_of(context))
    facts = fleet.agent(Key("Agent", namespace, agent))
    if facts is None:
        there = ", ".join(key.short for key in fleet.agents[:10]) or "none"
        raise Failure(f"no agent {agent} is declared in namespace {namespace}", f"there are: {there}")
    ruling = decide(Call(tool, arguments, target), facts, fleet.rules_for(facts), Circumstances(moment.now()))
    print(output.safe(ruling.explain(), lines=True))


@policy.command("test")
def hold_cases(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders with cases; the project's specs by default.")
    ] = None,
    specs: Specs = None,
    form: Form = DiffFormat.HUMAN,
    quiet: common.Quiet = False,
) -> None:
    """Hold the specs against the cases that are kept beside them, in files whose names end with .policytest.

    Exit codes: 0 every case held, 1 one did not, 2 an error.

    Examples:
      remit policy test
      remit policy test specs/policies/house-rules.policytest -o markdown
    """
    from cli import policy_cases

    folder = specs or specs_of(context)
    cases = policy_cases.read(paths or [folder])
    outcomes = list(policy_cases.run(cases, _fleet(folder), moment.now()))
    failed = [o for o in outcomes if o.wrong]
    _print_outcomes(outcomes, failed, form, quiet=quiet)
    if failed:
        raise typer.Exit(int(Exit.DIFFERENT))


@policy.command("replay")
def replay(
    context: typer.Context,
    since: Annotated[str, typer.Option("--since", help="How far back: 7d, 12h.")] = "7d",
    specs: Specs = None,
    head: Annotated[str | None, typer.Option("--head", help="The specs of this commit, not the files here.")] = None,
    form: Form = DiffFormat.HUMAN,
) -> None:
    """Run recorded calls against proposed specs, and tell which of them would be decided otherwise.

    Exit codes: 0 none, 1 some, 2 an error.

    Examples:
      remit policy replay --since 7d
      remit policy replay --head my-branch -o markdown
    """
    from cli import policy_replay

    span = _span(since)
    proposed = _fleet(specs or specs_of(context), head)
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        found = policy_replay.replay(snapshot, proposed, moment.now() - span)
    _print_replay(found, since, form)
    if found.changes:
        raise typer.Exit(int(Exit.DIFFERENT))


def _span(text: str) -> timedelta:
    from schemas.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise Failure(f"--since {text}: {error}") from None


def _fleet(folder: Path, head: str | None = None) -> Fleet:
    from cli.plans import compile_any
    from cli.policy_replay import of_declared
    from decisions.policy.fleet import Fleet
    from schemas.errors import InvalidSpec

    units = compile_any(folder, head or str(folder))
    faults = tuple(d for unit in units for d in unit.diagnostics)
    if faults:
        raise InvalidSpec(faults)
    return Fleet(of_declared(item for unit in units for item in unit.declared))


def _live(context: typer.Context) -> Fleet:
    from cli.policy_replay import of_store
    from decisions.policy.fleet import Fleet

    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        return Fleet(of_store(snapshot))


def _print_outcomes(outcomes: list[Outcome], failed: list[Outcome], form: DiffFormat, *, quiet: bool) -> None:
    if form is DiffFormat.JSON:
        print(output.dump_json({"cases": len(outcomes), "failed": [_outcome_wire(o) for o in failed]}))
        return
    total = f"{len(outcomes)} case{'s' if len(outcomes) != 1 else ''}"
    if form is DiffFormat.MARKDOWN:
        print(f"**{len(failed)} of {total} failed**" if failed else f"**{total} hold**")
        for o in failed:
            print(f"- {_quoted(o.placed.place)} {_quoted(o.placed.case.name)}: {_quoted('; '.join(o.wrong))}")
        return
    for o in failed:
        print(f"{output.paint('FAIL', 'bad')}  {output.safe(o.placed.case.name)}  ({output.safe(o.placed.place)})")
        for line in o.wrong:
            print(f"      {output.safe(line)}")
        if o.ruling is not None:
            print("\n".join(f"      {line}" for line in output.safe(o.ruling.explain(), lines=True).splitlines()))
    if failed:
        print(f"{len(failed)} of {total} failed")
    elif not quiet:
        print(f"{total} hold")


def _outcome_wire(outcome: Outcome) -> dict[str, Any]:
    ruling = outcome.ruling
    wire: dict[str, Any] = {"name": outcome.placed.case.name, "place": outcome.placed.place, "wrong": outcome.wrong}
    if ruling is not None:
        wire |= {"verdict": ruling.verdict, "risk": ruling.risk, "rule": ruling.decisive.rule}
    return wire


def _print_replay(found: Replay, since: str, form: DiffFormat) -> None:
    from schemas.policy import Verdict

    counts = [
        (Verdict.REQUIRE_APPROVAL, "would now need approval"),
        (Verdict.DENY, "would now be denied"),
        (Verdict.ALLOW, "would now be allowed"),
        (None, "are of agents that are declared no more"),
    ]
    said = [f"{count} {words}" for verdict, words in counts if (count := found.becoming(verdict))]
    rows = sorted(found.changes.items(), key=lambda item: (-item[1], item[0].agent, item[0].tool, item[0].rule))
    if form is DiffFormat.JSON:
        wire = {"since": since, "calls": found.looked_at, "changed": found.changed}
        print(output.dump_json({**wire, "changes": [_change_wire(c, n, found) for c, n in rows]}))
        return
    calls = "1 call" if found.looked_at == 1 else f"{found.looked_at} calls"
    head = f"{calls} of the last {since}: " + (", ".join(said) or "none would be decided otherwise")
    if form is DiffFormat.MARKDOWN:
        print(f"**{head}**")
        if rows:
            print("\n| calls | agent | tool | before | after | decided by |\n|---|---|---|---|---|---|")
        for change, count in rows:
            cells = [change.agent, change.tool, _word(change.before), _word(change.after), change.rule]
            print(f"| {count} | {' | '.join(map(_quoted, cells))} |")
        return
    print(head)
    if rows:
        body = [
            [str(n), c.agent, c.tool, _word(c.before), _word(c.after), output.safe(c.rule), found.examples[c]]
            for c, n in rows
        ]
        print(output.table(body, ["CALLS", "AGENT", "TOOL", "BEFORE", "AFTER", "DECIDED BY", "SUCH AS"]))


def _change_wire(change: Change, count: int, found: Replay) -> dict[str, Any]:
    return {
        "agent": change.agent, "tool": change.tool, "before": change.before, "after": change.after,
        "rule": change.rule, "calls": count, "example": found.examples[change],
    }  # fmt: skip


def _word(verdict: Any) -> str:
    return str(verdict) if verdict is not None else "-"


def _quoted(text: str) -> str:
    """Text for a cell of Markdown: nothing in it ends the cell or begins a mark of its own."""
    inside = output.safe(text).replace("`", "'").replace("|", "\\|")
    return f"`{inside}`"
