"""The ``listener`` agent: talks with people in the thread of its mission until they are done.

Input: ``askAgainSeconds`` (default 600: how long it waits before it asks again, by a follow-up), ``timeLimitSeconds``
(default 120: when it ends by itself). Commands in chat: ``/notes`` shows what it wrote down, ``/drop`` forgets the last
note, ``/done`` ends the mission. Anything else that a person says is written down. It hands in the notes.
"""

from __future__ import annotations

import contextlib
import sys

from remit_client.agents import program
from remit_client.agents.markdown import document, plain
from remit_client.errors import Failure, RateLimited
from remit_client.protocol import Notice

PLAN = "Ask what is to be written down, write down what people say until one says /done, and hand in the notes."
COMMANDS = {"notes": "shows what was written down", "drop": "forgets the last note", "done": "ends the mission"}
MOST_NOTES = 1_000
_PAUSE_S = 1.0


def work(task: program.Work) -> program.Outcome:
    """See the module."""
    after_s = task.options.whole("askAgainSeconds", 600, 1, 86_400)
    task.options.finish()
    run = task.run
    run.offer(COMMANDS)
    run.say("What shall I write down? /notes shows it, /done ends this.")
    _ask_again(task, after_s)
    notes: list[str] = []
    done = False
    while not done and not task.late:
        notice = run.next_message(_PAUSE_S)
        task.check()
        if notice is None:
            continue
        if notice.type == "FollowUp":
            run.say(notice.text)
            continue
        done = notice.command == "done"
        run.say(_answer(notice, notes), in_reply_to=notice)
        if not done:
            _ask_again(task, after_s)  # whoever speaks cancels the one before
    if not notes:
        raise Failure("NothingSaid", "nobody said anything to write down", retryable=False)
    lines = [f"- {plain(note)}" for note in notes]
    ending = "A person ended it with /done." if done else "The time limit ended it."
    return program.Outcome("notes.md", document(["# Notes", "", *lines]), f"{len(notes)} notes. {ending}")


def _answer(notice: Notice, notes: list[str]) -> str:
    if notice.command == "notes":
        return "\n".join(f"- {note}" for note in notes) or "nothing yet"
    if notice.command == "drop":
        return f"forgotten: {notes.pop()}" if notes else "there is none"
    if notice.command == "done":
        return f"done: {len(notes)} notes"
    if len(notes) >= MOST_NOTES:
        return f"{MOST_NOTES} notes are enough: say /done"
    notes.append(" ".join(notice.text.split()))
    return f"written down as number {len(notes)}"


def _ask_again(task: program.Work, after_s: int) -> None:
    with contextlib.suppress(RateLimited):  # enough of them wait already
        task.run.follow_up(after_s, "Is there more to write down? /done ends this.")


if __name__ == "__main__":
    sys.exit(program.main(PLAN, work))
