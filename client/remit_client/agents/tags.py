"""The ``tags`` agent: puts a release tag on a scratch repository of its own, with leave.

Input: ``tag`` (default "v0.1.0"), ``stateDir`` (where the repository is kept, below the project; default
``.remit/agents/tags``), ``timeLimitSeconds`` (without effect on the wait for leave).

A tag that others may have fetched cannot be taken back, so pushing one is an act with an effect outside: the agent asks
before it pushes, waits for a person, and pushes once. A tag that stands already, because the program was ended between
the push and its report, is not pushed again.
"""

from __future__ import annotations

import json
import os
import sys

from remit_client.agents import program
from remit_client.agents.bare_repository import BareRepository
from remit_client.agents.git_log import is_ref
from remit_client.agents.inventory import state_folder
from remit_client.agents.markdown import code, document, plain
from remit_client.errors import Failure

PLAN = (
    "Prepare the release commit in a scratch repository, ask for leave to push the tag, push it once, and hand in "
    "where it stands."
)
TOOL = "push_tag"
REPOSITORY = "releases.git"


def work(task: program.Work) -> program.Outcome:
    """See the module."""
    tag = task.options.text("tag", "v0.1.0")
    folder = state_folder(task.project, task.options.text("stateDir", ""), os.environ, "tags")
    task.options.finish()
    if not is_ref(tag):
        raise Failure("InvalidInput", f"input.tag {tag!r:.100} is not a name of a tag")
    repository = BareRepository(folder / REPOSITORY)
    commit = repository.prepare(tag)
    if repository.tagged(tag) is None:
        _push(task, repository, tag, commit)
    stands = repository.tagged(tag)
    if stands != commit:
        raise Failure("TagTaken", f"the tag {tag} stands at another commit: {stands}; choose another input.tag")
    text = document(
        [
            f"# Release {plain(tag)}",
            "",
            f"The tag {code(tag)} stands in {code(REPOSITORY)} at {code(commit)}.",
        ]
    )
    evidence = {"tag": tag, "repository": REPOSITORY, "commit": commit}
    return program.Outcome(
        "release.md",
        text,
        f"The tag was read back from the repository after the push: {tag} is {commit}.",
        (program.Artifact("tag.json", json.dumps(evidence, indent=1, sort_keys=True) + "\n"),),
    )


def _push(task: program.Work, repository: BareRepository, tag: str, commit: str) -> None:
    task.say(f"asking for leave to push {tag}", 30)
    args = {"repository": REPOSITORY, "tag": tag, "commit": commit}
    # The same key when the program is started again for the same run: one call, whatever happens in between.
    decision = task.authorize(TOOL, args, target=f"{tag} in {REPOSITORY}", key=f"{TOOL} {tag}")
    task.say(f"pushing {tag}", 60)
    try:
        repository.push(tag, commit)
    except Failure as error:
        task.tool_result(TOOL, decision, error=str(error))
        raise
    task.tool_result(TOOL, decision)


if __name__ == "__main__":
    sys.exit(program.main(PLAN, work))
