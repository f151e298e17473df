"""The ``report`` agent: one release report from what the missions before it handed in.

Input: ``title`` (default "Release report"), ``version`` (shown in the title), ``note`` (a paragraph to begin with),
``timeLimitSeconds``. The deliverables come in the mission's JSON under ``dependencies``: ``[{name, state, deliverable:
{name, mediaType, text}}]``. A reviewer's remarks on the attempt before (``feedback``) are shown at the top. A summary
table comes first, then each deliverable in full with its headings moved down.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remit_client.agents import program
from remit_client.agents.markdown import code, count, document, plain, table
from remit_client.agents.tree import show

PLAN = (
    "Collect what the missions before this one handed in, put it under one table, mark what is missing or unfinished, "
    "and hand it in for a person's review."
)
MAX_PART = 60_000
MAX_TOTAL = 200_000
MAX_PARTS = 200
_MARKDOWN = ("text/markdown", "text/x-markdown")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_HEADING = re.compile(r"( {0,3})(#{1,6})(?=\s|$)")
_DEEPEST = 6


@dataclass(frozen=True, slots=True)
class Part:
    """What one dependency handed in. ``name`` is "" when that is nothing; ``text`` is None when there is no text to
    show: nothing was handed in, no text, or too much of it to be passed on."""

    mission: str
    state: str
    name: str
    media_type: str
    text: str | None

    @property
    def good(self) -> bool:
        """Whether it is finished and has something to show for it."""
        return self.state == "Done" and bool(self.name or self.text)

    @property
    def absence(self) -> str:
        """Why there is no text to show."""
        return "not text, or too long to be passed on" if self.name else "nothing was handed in"

    @property
    def headline(self) -> str:
        """Its first line that is no heading: what a busy reader takes from it. "" when there is none."""
        if self.text is None:
            return ""
        lines = (line.strip() for line in self.text[:MAX_PART].split("\n"))
        first = next((line for line in lines if line and not line.startswith(("#", "|", "```", "~~~"))), "")
        return first.removeprefix("**").removesuffix("**").removeprefix("- ")


def read_parts(mission: Mapping[str, Any]) -> list[Part]:
    """The dependencies of a mission's JSON, sorted by name. Entries that are no objects or have no name are dropped."""
    given = mission.get("dependencies")
    parts = []
    for item in given if isinstance(given, list) else ():
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            continue
        deliverable = item.get("deliverable")
        if not isinstance(deliverable, Mapping):
            deliverable = {}
        text = deliverable.get("text")
        parts.append(
            Part(
                item["name"],
                _word(item.get("state"), "Unknown"),
                _word(deliverable.get("name"), ""),
                _word(deliverable.get("mediaType"), "text/plain"),
                text if isinstance(text, str) else None,
            )
        )
    return sorted(parts, key=lambda part: part.mission)


def _word(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def render(parts: list[Part], *, title: str, note: str, feedback: str) -> str:
    """The report."""
    missing = [part for part in parts if not part.good]
    lines = [f"# {plain(title)}", ""]
    if not parts:
        lines.append("**There is nothing to report on: this mission depends on no other.**")
    elif missing:
        lines.append(
            f"**{len(parts) - len(missing)} of {count(len(parts), 'part')} are in; "
            f"{', '.join(plain(part.mission) for part in missing[:10])}{' …' if len(missing) > 10 else ''} "
            f"{'needs' if len(missing) == 1 else 'need'} a look.**"
        )
    else:
        lines.append(f"**{'The part is' if len(parts) == 1 else f'All {len(parts)} parts are'} in.**")
    if note:
        lines += ["", plain(note, 4000)]
    if feedback:
        lines += ["", "## Remarks of the last review", ""]
        lines += [f"> {plain(line, 1000)}" for line in feedback[:10_000].split("\n")]
    if parts:
        lines += ["", "## Summary", ""]
        lines += table(
            ("Part", "State", "Deliverable", "In one line"),
            [
                (
                    plain(part.mission),
                    plain(part.state),
                    code(part.name, cell=True) if part.name else "none",
                    plain(part.headline, 300) if part.text is not None else part.absence,
                )
                for part in parts[:MAX_PARTS]
            ],
        )
    room = MAX_TOTAL
    for part in parts[:MAX_PARTS]:
        text = part.text or ""
        kept = text[: min(MAX_PART, room)]
        room -= len(kept)
        lines += ["", f"## {plain(part.mission)}", ""]
        if part.text is None:
            lines.append(f"{part.absence[0].upper()}{part.absence[1:]}.")
        else:
            lines += _markdown(kept) if part.media_type.partition(";")[0].strip() in _MARKDOWN else _fenced(kept)
        if len(kept) < len(text):
            lines += ["", f"Cut here: {len(text) - len(kept):,} more characters stand in the deliverable itself."]
    if len(parts) > MAX_PARTS:
        lines += ["", f"And {count(len(parts) - MAX_PARTS, 'more part', 'more parts')}."]
    return document(lines)


def _markdown(text: str) -> list[str]:
    """Markdown of somebody else, fit to stand inside ours: its headings two levels down without its title, no open
    fence, no HTML comment that would hide what follows."""
    lines: list[str] = []
    fence = ""
    titled = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = "".join(c for c in line if c.isprintable() or c == "\t")
        match = _FENCE.match(line)
        if fence:
            if match is not None and match.group(1).startswith(fence) and not match.group(2).strip():
                fence = ""
        elif match is not None and not (match.group(1)[0] == "`" and "`" in match.group(2)):
            fence = match.group(1)
        else:
            line = line.replace("<!--", "&lt;!--")
            heading = _HEADING.match(line)
            if heading is not None and not titled:
                titled = True
                if len(heading.group(2)) == 1:
                    continue  # its title; ours stands above already
            if heading is not None:
                level = min(_DEEPEST, len(heading.group(2)) + 1)
                line = "#" * level + line[heading.end() :]
        lines.append(line)
    if fence:
        lines.append(fence)
    while lines and not lines[0].strip():
        del lines[0]
    while lines and not lines[-1].strip():
        del lines[-1]
    return lines


def _fenced(text: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, *(show(line.replace("\t", "    ")) for line in text.splitlines()), fence]


def work(task: program.Work) -> program.Outcome:
    """See the module."""
    title = task.options.text("title", "Release report")
    version = task.options.text("version", "")
    note = task.options.text("note", "")
    task.options.finish()
    feedback = task.mission.get("feedback")
    parts = read_parts(task.mission)
    task.say(f"collecting {count(len(parts), 'part')}", 30)
    text = render(
        parts,
        title=f"{title} {version}".strip(),
        note=note,
        feedback=feedback if isinstance(feedback, str) else "",
    )
    good = sum(part.good for part in parts)
    evidence = [
        {
            "mission": part.mission,
            "state": part.state,
            "deliverable": part.name,
            "characters": len(part.text) if part.text is not None else None,
        }
        for part in parts
    ]
    return program.Outcome(
        "release-report.md",
        text,
        f"{good} of {count(len(parts), 'part')} are done; each stands here in full unless it says otherwise. Whether "
        "the findings are acceptable is for a person to say.",
        (program.Artifact("parts.json", json.dumps(evidence, indent=1, sort_keys=True) + "\n"),),
    )


if __name__ == "__main__":
    sys.exit(program.main(PLAN, work))
