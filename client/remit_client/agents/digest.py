"""The ``digest`` agent: what changed, told from the history of a git repository.

Input: ``root`` (directory, default the project), ``from`` and ``to`` (tags, branches or commits; without ``from`` the
digest begins after the latest tag, and without a tag it tells the last ``last`` commits), ``last`` (default 50),
``groupBy`` (Folder or Verb, default Folder), ``authors`` (default true), ``timeLimitSeconds``. A directory that is no
repository and a repository without commits are no errors: the digest says so.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field

from remit_client.agents import program
from remit_client.agents.git_log import Commit, Git, Repository
from remit_client.agents.markdown import code, count, document, plain, table
from remit_client.agents.tree import show
from remit_client.errors import Failure

PLAN = (
    "Find the range of commits, read it with git log, group it, count files and authors, and write the digest with "
    "every commit named."
)
MAX_COMMITS = 2000
MAX_SHOWN = 500
MAX_SHOWN_PER_GROUP = 100
MAX_GROUPS = 50
MAX_AUTHORS = 50
_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,29})(\([^)]{0,60}\))?!?: ")
_VERB = re.compile(r"[A-Za-z][A-Za-z'-]{0,29}")


@dataclass(frozen=True, slots=True)
class Range:
    """The commits that a digest tells of. ``title`` names them for people; ``start`` None begins with the first."""

    title: str
    start: str | None
    end: str
    most: int


@dataclass(slots=True)
class Group:
    """Commits that belong together and the files they touched."""

    name: str
    commits: list[Commit] = field(default_factory=list)
    files: set[str] = field(default_factory=set)


def choose_range(git: Git, head: str, *, start: str, end: str, last: int) -> Range:
    """The range that the input asks for, "" standing for a bound that is not given. Raises Failure for names that name
    nothing."""
    to = _named(git, end, "to") if end else head
    to_name = show(end) if end else "HEAD"
    if start:
        since = _named(git, start, "from")
        return Range(f"from {show(start)} to {to_name}", since, to, MAX_COMMITS)
    tag = git.latest_tag(to)
    if tag is not None and git.resolve(tag) == to:
        # A release itself: what it holds is what came since the one before.
        to_name = tag
        parent = git.first_parent(to)
        tag = git.latest_tag(parent) if parent else None
        if tag is None:
            return Range(f"the last commits up to {to_name}", None, to, last)
    since_tag = git.resolve(tag) if tag is not None else None
    if since_tag is None:
        return Range(f"the last commits up to {to_name}", None, to, last)
    return Range(f"from {tag} to {to_name}", since_tag, to, MAX_COMMITS)


def _named(git: Git, name: str, field_name: str) -> str:
    commit = git.resolve(name)
    if commit is None:
        raise Failure("UnknownRevision", f"input.{field_name}: the repository has no {show(name)}")
    return commit


def group(commits: list[Commit], by: str) -> list[Group]:
    """Groups in the order of their size, then name. A commit that touches several folders is in the one with most of
    its files; merges are in none."""
    groups: dict[str, Group] = {}
    for commit in commits:
        if commit.parents > 1:
            continue
        name = _verb(commit.subject) if by == "Verb" else _folder(commit.paths)
        members = groups.setdefault(name, Group(name))
        members.commits.append(commit)
        members.files.update(commit.paths)
    return sorted(groups.values(), key=lambda g: (-len(g.commits), g.name))


def _folder(paths: tuple[str, ...]) -> str:
    if not paths:
        return "(no file)"
    tops = Counter(path.partition("/")[0] + "/" if "/" in path else "(top level)" for path in paths)
    return min(tops, key=lambda top: (-tops[top], top))


def _verb(subject: str) -> str:
    prefix = _PREFIX.match(subject)
    word = prefix.group(1) if prefix else ""
    if not word:
        match = _VERB.match(subject)
        word = match.group() if match else "(no word)"
    return word[0].upper() + word[1:].lower()


def render(chosen: Range, commits: list[Commit], total: int, groups: list[Group], *, shallow: bool, names: bool) -> str:
    """The digest."""
    merges = sum(c.parents > 1 for c in commits)
    files = {path for c in commits for path in c.paths}
    authors = Counter(c.author for c in commits if c.parents <= 1)
    lines = ["# Release digest", ""]
    if commits:
        lines.append(f"**{count(len(commits), 'commit')} by {count(len(authors), 'author')}, {plain(chosen.title)}.**")
    else:
        lines.append(f"**No commit {plain(chosen.title)}.**")
    lines.append("")
    if total > len(commits):
        lines += [f"The range holds {count(total, 'commit')}; the latest {len(commits):,} are told.", ""]
    if shallow:
        lines += ["The clone is shallow: history before its cut is not there and not counted.", ""]
    if not commits:
        return document(lines)
    lines += table(
        ("", "Number"),
        [("commits", f"{len(commits):,}"), ("of these merges", f"{merges:,}"), ("files touched", f"{len(files):,}")],
        right=(1,),
    )
    room = MAX_SHOWN
    for part in groups[:MAX_GROUPS]:
        shown = part.commits[: min(room, MAX_SHOWN_PER_GROUP)]
        room -= len(shown)
        lines += ["", f"## {plain(part.name)}", ""]
        lines += [f"{count(len(part.commits), 'commit')}, {count(len(part.files), 'file')}.", ""]
        lines += [f"- {plain(c.subject) or '(no subject)'} ({code(c.id[:10])})" for c in shown]
        if len(part.commits) > len(shown):
            lines.append(f"- and {len(part.commits) - len(shown):,} more; commits.json lists them")
    if len(groups) > MAX_GROUPS:
        rest = groups[MAX_GROUPS:]
        lines += ["", f"And {count(sum(len(g.commits) for g in rest), 'commit')} in {len(rest):,} smaller groups."]
    if names:
        lines += ["", "## Authors", ""]
        ranked = sorted(authors.items(), key=lambda item: (-item[1], item[0]))
        lines += table(("Author", "Commits"), [(plain(a, 80), f"{n:,}") for a, n in ranked[:MAX_AUTHORS]], right=(1,))
        if len(ranked) > MAX_AUTHORS:
            lines += ["", f"And {count(len(ranked) - MAX_AUTHORS, 'more author', 'more authors')}."]
    return document(lines)


def work(task: program.Work) -> program.Outcome:
    """See the module."""
    root = task.root()
    start, end = task.options.text("from", ""), task.options.text("to", "")
    last = task.options.whole("last", 50, 1, MAX_COMMITS)
    by = task.options.choice("groupBy", "Folder", ("Folder", "Verb"))
    names = task.options.flag("authors", True)
    task.options.finish()
    git = Git(root, task.check)
    repository = git.open()
    if repository is None:
        return _nothing("There is no git repository here", "the directory is not inside a git repository")
    if repository.head is None and not end:
        return _nothing("The repository has no commit yet", "the repository has no commit yet")
    return _tell(
        task, git, repository, choose_range(git, repository.head or "", start=start, end=end, last=last), by, names
    )


def _tell(task: program.Work, git: Git, repository: Repository, chosen: Range, by: str, names: bool) -> program.Outcome:
    task.say(f"reading commits, {chosen.title}", 30)
    total = git.count(chosen.start, chosen.end)
    commits = git.log(chosen.start, chosen.end, chosen.most)
    expected = total if chosen.start is not None else len(commits)
    groups = group(commits, by)
    task.say(f"read {count(len(commits), 'commit')}", 90)
    evidence = {
        "range": {"title": show(chosen.title), "from": chosen.start, "to": chosen.end},
        "shallow": repository.shallow,
        "total": total,
        "commits": [{"id": c.id, "author": show(c.author), "subject": show(c.subject)} for c in commits],
    }
    return program.Outcome(
        "digest.md",
        render(chosen, commits, expected, groups, shallow=repository.shallow, names=names),
        f"Every one of {count(len(commits), 'commit')} was read from git log and stands in exactly one group, merges "
        "in none; ids are those of the repository.",
        (program.Artifact("commits.json", json.dumps(evidence, indent=1, sort_keys=True) + "\n"),),
    )


def _nothing(headline: str, reason: str) -> program.Outcome:
    evidence = json.dumps({"commits": [], "reason": reason}, indent=1, sort_keys=True) + "\n"
    return program.Outcome(
        "digest.md",
        document(["# Release digest", "", f"**{headline}, so there is nothing to tell.**"]),
        f"git was asked, and said that {reason}.",
        (program.Artifact("commits.json", evidence),),
    )


if __name__ == "__main__":
    sys.exit(program.main(PLAN, work))
