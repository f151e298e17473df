"""Which commands an allowlist vouches for: entries word by word, and what the words of known programs can do."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from types import MappingProxyType

from decisions.policy import shell, wild


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READERS = MappingProxyType(
    {
        ("cat",): "AbeEnstTuv",
        ("du",): "abchHklLmsSx0",
        ("git", "status"): "bsvz",
        ("grep",): "ABCEFGHILTUZabcehilmnoqrsvwxyz",
        ("head",): "cnqvz",
        ("ls",): "1ABCFGHILNQRSTUXZabcdfghiklmnopqrstuvwx",
        ("pwd",): "LP",
        ("stat",): "Lft",
        ("tail",): "cnqvz",
        ("wc",): "Lclmw",
    }
)
"""Programs that only read, with those of their one-letter options that keep it so. An entry that is such a program also
vouches for these options and for paths below the working directory."""

WRAPPERS = _words(
    "busybox chroot command builtin coproc doas env eval exec flock ionice nice nohup nsenter parallel setsid ssh "
    "stdbuf strace su sudo time timeout trap unshare watch xargs"
)
"""Programs that start what their words name."""
INTERPRETERS = _words(
    "sh bash dash zsh ksh fish source . python python2 python3 perl ruby node deno bun php lua awk gawk mawk sed ed "
    "vi vim emacs gdb script find git docker podman kubectl npm npx pnpm yarn pip uv uvx pipx cargo go make"
)
"""Programs that do what their first operand says: with a star in its place, an entry would open everything."""

_ACTING = MappingProxyType(
    {
        "git": (
            frozenset({"-O", "-c", "-C"}),
            ("--config", "--config-env", "--exec", "--exec-path", "--ext-diff", "--git-dir", "--open-files-in-pager",
             "--output", "--paginate", "--receive-pack", "--template", "--textconv", "--upload-pack", "--work-tree"),
        ),
        "grep": (frozenset(), ("--devices",)),
        "rg": (frozenset(), ("--pre", "--hostname-bin")),
        "fd": (frozenset({"-x", "-X"}), ("--exec", "--exec-batch")),
        "find": (
            frozenset(),
            ("-delete", "-exec", "-execdir", "-fls", "-fprint", "-fprint0", "-fprintf", "-ok", "-okdir"),
        ),
        "sed": (frozenset({"-i", "-f"}), ("--in-place", "--file")),
        "sort": (frozenset({"-o", "-T"}), ("--output", "--compress-program", "--temporary-directory")),
        "tree": (frozenset({"-o"}), ("--output",)),
        "tar": (
            frozenset({"-I", "-F"}),
            ("--checkpoint-action", "--info-script", "--new-volume-script", "--rmt-command", "--rsh-command",
             "--to-command", "--use-compress-program"),
        ),
        "zip": (frozenset({"-T"}), ("--unzip-command", "--test")),
        "rsync": (frozenset({"-e"}), ("--rsh", "--rsync-path")),
        "curl": (frozenset({"-K", "-o", "-O", "-T"}), ("--config", "--output", "--remote-name", "--upload-file")),
        "wget": (frozenset({"-O", "-e"}), ("--execute", "--output-document", "--post-file", "--use-askpass")),
        "make": (frozenset({"-f", "-C", "-I"}), ("--eval", "--file", "--makefile", "--directory", "--include-dir")),
        "pytest": (frozenset({"-c", "-p", "-o"}), ("--confcutdir", "--override-ini", "--rootdir", "--basetemp")),
        "man": (frozenset({"-P", "-H"}), ("--pager", "--html")),
        "date": (frozenset({"-s"}), ("--set",)),
        "file": (frozenset({"-C"}), ("--compile",)),
        "less": (frozenset({"-o", "-O", "-k"}), ("--log-file", "--lesskey-file")),
    }
)  # fmt: skip
"""Options that start a program, write a file or take other instructions. ``*`` never stands for them: an entry has to
name them. Long ones also count when shortened, as most programs take any beginning that is unique."""


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One entry of ``allowlists.shell``, compiled."""

    text: str
    literal: tuple[str, ...]
    any_more: bool
    letters: str | None


class BadEntry(ValueError):
    """The entry of an allowlist is not one that can hold; the message says why and what to write."""


def compile_entry(text: str) -> CommandEntry:
    """An entry, ready for use. Raises BadEntry when it could not mean what it says."""
    try:
        words = shlex.split(text, posix=True)
    except ValueError:
        raise BadEntry("its quotes do not pair") from None
    if not words:
        raise BadEntry("it names no program")
    if re.search(r"[$`;&|<>(){}\\\n]", text):
        raise BadEntry("an entry is one program with its words; list joined commands one by one")
    any_more = words[-1] == "*"
    literal = words[:-1] if any_more else words
    if not literal or "*" in literal[0] or shell._PROGRAM.fullmatch(literal[0]) is None:
        raise BadEntry("it begins with the plain name of a program")
    if any_more and _opens_everything(literal):
        raise BadEntry(
            f"'{text}' opens every command, as {literal[0]} starts what its words say; name the words that come first, "
            "or write a rule that allows the tool"
        )
    if "*" in literal:
        raise BadEntry("'*' alone stands at the end only; inside, write it as a part of a word")
    return CommandEntry(text, tuple(literal), any_more, _READERS.get(tuple(words)))


def _opens_everything(literal: list[str]) -> bool:
    name = program_name(literal[0])
    if name in WRAPPERS:
        return True
    operands = [word for word in literal[1:] if not word.startswith("-") and "=" not in word]
    return name in INTERPRETERS and not operands


def program_name(word: str) -> str:
    """The last part of a path: ``/usr/bin/env`` is ``env``."""
    return word.rpartition("/")[2]


def matches(entry: CommandEntry, words: tuple[str, ...]) -> bool:
    """Whether the entry vouches for a command with these words."""
    count = len(entry.literal)
    if len(words) < count or not all(map(_fits, entry.literal, words)):
        return False
    rest = words[count:]
    if not rest:
        return True
    if entry.any_more:
        return not any(acts(words[0], word) and word not in entry.literal for word in rest)
    return entry.letters is not None and all(_only_reads(word, entry.letters) for word in rest)


def _fits(literal: str, word: str) -> bool:
    """A star inside a word stands for any characters, and never for the beginning of an option or a way out."""
    if "*" not in literal:
        return word == literal
    if word.startswith("-") and not literal.startswith("-"):
        return False
    pieces = tuple(None if letter == "*" else letter for letter in literal)
    return ".." not in word.split("/") and wild.fits(pieces, word)


def acts(program: str, word: str) -> bool:
    """Whether a word is an option that makes the program start, write or obey something else."""
    known = _ACTING.get(program_name(program))
    if known is None or not word.startswith("-") or word in ("-", "--"):
        return False
    short, long = known
    name = word.partition("=")[0]
    if name.startswith("--"):
        return any(option.startswith(name) for option in long) or name in long
    if name in long:
        return True
    return any(f"-{letter}" in short for letter in word[1:])


def _only_reads(word: str, letters: str) -> bool:
    """An operand below the working directory, or one-letter options that are known to be harmless."""
    if word == "-":
        return True
    if word.startswith("-"):
        return re.fullmatch(r"-[A-Za-z0-9]+", word) is not None and all(
            letter in letters or letter.isdigit() for letter in word[1:]
        )
    return not word.startswith(("/", "~")) and ".." not in word.split("/")


_SYSTEM = _words(
    "chpasswd dropdb fdisk groupdel halt init mkfs mkswap parted passwd poweroff reboot shred shutdown sgdisk "
    "telinit userdel usermod wipefs"
)
_ACTIONS = MappingProxyType(
    {
        "gh": ("repo delete", "repo archive", "secret delete"),
        "git": (),
        "heroku": ("apps:destroy", "pg:reset"),
        "kubectl": ("delete namespace", "delete ns", "delete node", "delete pv", "drain"),
        "terraform": ("destroy",),
        "tofu": ("destroy",),
        "zfs": ("destroy",),
        "zpool": ("destroy",),
    }
)


def destroys(program: shell.Program) -> bool:
    """Whether a program, with what is known of its words, destroys a system, an account, or data outside."""
    if program.name is None:
        return False
    name = program_name(program.name)
    words = [word for word in program.words if word is not None]
    if name in _SYSTEM or name.startswith("mkfs."):
        return True
    if name == "dd":
        return any(word.startswith("of=/dev/") for word in words)
    if name == "rm":
        return _removes_outside(program.words)
    if name in ("aws", "gcloud", "az"):
        return any(re.match(r"(delete|terminate|destroy|purge)\b", word) for word in words)
    text = " ".join(word for word in words if not word.startswith("-"))
    return any(text.startswith(action) for action in _ACTIONS.get(name, ()))


def _removes_outside(words: tuple[str | None, ...]) -> bool:
    options = [w for w in words if w is not None and w.startswith("-")]
    recursive = any(w == "--recursive" or (not w.startswith("--") and re.search("[rR]", w)) for w in options)
    if not recursive:
        return False
    targets = [w for w in words if w is None or not w.startswith("-")]
    return any(w is None or w.startswith(("/", "~")) or ".." in w.split("/") or w in (".", "*") for w in targets)


def runs_others(program: shell.Program) -> bool:
    """Whether it starts what its words say, so that they cannot be judged by its name."""
    return program.name is None or program_name(program.name) in _INDIRECT


_INDIRECT = WRAPPERS | _words("sh bash dash zsh ksh fish source . perl script find")
