"""The verbs there are: where each is kept and what it does in one line. Imports nothing, so that `--help` and the words
of our hints cost nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """``module`` is imported when the verb is called, and its ``register`` adds the verb. ``summary`` fits a line of 80
    columns beside the name."""

    section: str
    module: str
    summary: str


def _section(title: str, *rows: tuple[str, str, str]) -> dict[str, Verb]:
    return {name: Verb(title, module, summary) for name, module, summary in rows}


VERBS: dict[str, Verb] = {
    **_section(
        "Declare",
        ("init", "cli.verbs.init", "Make a project: remit.yaml and a repository of specs"),
        ("validate", "cli.verbs.validate", "Check spec files: every error at once, with its place"),
        ("diff", "cli.verbs.diff", "Show what the specs would change, and what that does"),
        ("simulate", "cli.verbs.simulate", "Play the specs in virtual time: work, waits, costs, limits"),
        ("apply", "cli.verbs.apply", "Declare objects without git"),
        ("policy", "cli.verbs.policy", "Try Policies: explain a ruling, test cases, replay calls"),
        ("explain", "cli.verbs.explain", "Say what a kind or a field means"),
        ("schema", "cli.verbs.schema", "Print JSON Schemas for editors and tools"),
        ("crd", "cli.verbs.crd", "Print CustomResourceDefinitions for a cluster"),
    ),
    **_section(
        "Run",
        ("run", "cli.verbs.run", "Run the engine on this project"),
        ("sync", "cli.verbs.sync", "Have the engine look at its source now"),
        ("worker", "cli.verbs.worker", "Work on this machine for an engine elsewhere"),
        ("hook", "cli.verbs.hook", "Put the tool calls of coding agents before the gate"),
        ("mcp-proxy", "cli.verbs.mcp_proxy", "Serve the tools of an MCP server through the gate"),
    ),
    **_section(
        "Look",
        ("get", "cli.verbs.get", "List objects, or print some of them"),
        ("describe", "cli.verbs.describe", "Tell all about an object"),
        ("tree", "cli.verbs.tree", "Show what belongs to what"),
        ("timeline", "cli.verbs.timeline", "Tell an object's story: what, who, why, cost, what next"),
        ("events", "cli.verbs.events", "Print the log of everything that happened"),
        ("search", "cli.verbs.search", "Find objects and rows of the log by words"),
        ("calendar", "cli.verbs.calendar", "Show what is due when, or print it for a calendar program"),
        ("costs", "cli.verbs.costs", "Show what work cost: by agent, mission, model, day"),
        ("standup", "cli.verbs.standup", "Tell what was done, what waits, what it cost, what is next"),
        ("logs", "cli.verbs.logs", "Print what a run's program wrote"),
        ("wait", "cli.verbs.wait", "Wait until objects come to a condition or a state"),
    ),
    **_section(
        "Act",
        ("approve", "cli.verbs.approve", "Accept a result, or allow exactly what is asked"),
        ("deny", "cli.verbs.deny", "Turn it down, or send it back with remarks"),
        ("ack", "cli.verbs.ack", "Say that you look after an alert"),
        ("resolve", "cli.verbs.resolve", "Say that what an alert is about is settled"),
        ("say", "cli.verbs.say", "Say something about a mission, in a project, or to an agent"),
        ("chat", "cli.verbs.chat", "Read and follow a thread, and talk in it"),
        ("hold", "cli.verbs.hold", "Stop work without touching what is declared"),
        ("release", "cli.verbs.release", "End Holds"),
        ("estop", "cli.verbs.estop", "Stop everything now; `estop release` ends that"),
        ("cancel", "cli.verbs.cancel", "Give a mission up"),
        ("retry", "cli.verbs.retry", "Run a mission again, or its next attempt now"),
        ("assign", "cli.verbs.assign", "Give a mission to another agent"),
        ("move", "cli.verbs.move", "Give a schedule another time, unless something stands against it"),
        ("pin", "cli.verbs.pin", "Accept tools of an MCP server, as they are defined now"),
        ("confirm", "cli.verbs.confirm", "Release a plan that a guard holds back"),
        ("revert", "cli.verbs.revert", "Undo a commit of the specs by another commit"),
    ),
    **_section(
        "Care",
        ("doctor", "cli.verbs.doctor", "Look at all that a project needs, and say what is missing"),
        ("audit", "cli.verbs.audit", "Verify the log: nothing changed, removed or moved"),
        ("export", "cli.verbs.export", "Take records along: the log, or everything of a tenant"),
        ("db", "cli.verbs.db", "Look after the store: status, backup, check, upgrade"),
    ),
}
"""In the order in which `--help` lists them."""

ELSEWHERE: dict[str, tuple[str, str]] = {
    "create": ("objects are declared in files", "remit apply -f FILE"),
    "delete": ("what a source declares is deleted there, by a commit", "remit diff"),
    "edit": ("objects are edited in the file that declares them", "remit describe KIND/NAME"),
    "patch": ("objects are edited in the file that declares them", "remit describe KIND/NAME"),
    "set": ("objects are edited in the file that declares them", "remit describe KIND/NAME"),
    "api-resources": ("kinds are listed by explain", "remit explain"),
    "pause": ("work is stopped by a Hold", "remit hold KIND/NAME --reason WHY"),
    "resume": ("work goes on when its Hold is released", "remit release NAME"),
    "reject": ("what is asked is turned down by deny", "remit deny mission/NAME --reason WHY"),
    "plan": ("the plan is shown by diff", "remit diff"),
    "status": ("what stands how is told by get", "remit get missions"),
    "log": ("the log is printed by events, a program's output by logs", "remit events"),
    "version": ("the version is an option", "remit --version"),
}
"""Words that people bring from other tools: what Remit does instead, and the command to try."""
