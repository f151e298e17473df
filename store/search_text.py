"""What a search is made of: the words of a text, the words of a question, and where they stand in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas import registry
from schemas.errors import UnknownName
from schemas.resource import Resource

LONGEST_TEXT = 20_000
LONGEST_QUESTION = 500
LONGEST_WORD = 64
MOST_WORDS = 12
_SNIPPET = 160
_WORD = re.compile(r"[^\W_]+")
_OPERATOR = re.compile(r"^(kind|agent|state|ns|namespace):(\S*)$", re.IGNORECASE)
_SECRET = re.compile(r"secret|passw|token|key|credential|authorization|^value$", re.IGNORECASE)
_FREE = ("title", "description", "text", "question", "message", "objective", "summary")
"""Fields that a snippet is taken from first."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is searched for: every word has to be there, the last one perhaps only begun. An operator that is named
    more than once means any of its values. ``namespaces`` None is every one."""

    words: tuple[str, ...]
    last_is_begun: bool = False
    kinds: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    namespaces: frozenset[str] | None = None

    @property
    def asks(self) -> bool:
        """Whether it asks for anything: signs alone do not."""
        return bool(self.words or self.kinds or self.agents or self.states) or self.namespaces is not None


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a text and the ranges of it (begin, end; in characters) that were searched for. Plain text: whoever
    shows it escapes it."""

    text: str
    ranges: tuple[tuple[int, int], ...] = ()


def question_of(text: str) -> Question:
    """``text`` as people type it: words, and ``kind: agent: state: ns:`` with a value each. Never raises: whatever it
    holds are words, or nothing."""
    operators: dict[str, set[str]] = {"kind": set(), "agent": set(), "state": set(), "ns": set()}
    rest = []
    text = text[:LONGEST_QUESTION]
    for part in text.split():
        match = _OPERATOR.match(part)
        if match is None:
            rest.append(part)
        elif match[2] and match[1].lower() == "kind":
            operators["kind"].add(_kind(match[2]))
        elif match[2]:
            operators["ns" if match[1].lower() == "namespace" else match[1].lower()].add(match[2].lower())
    words = tuple(dict.fromkeys(words_of(" ".join(rest))))[:MOST_WORDS]
    return Question(
        words,
        last_is_begun=bool(words) and not text.endswith(" "),
        kinds=frozenset(operators["kind"]),
        agents=frozenset(operators["agent"]),
        states=frozenset(operators["state"]),
        namespaces=frozenset(operators["ns"]) or None,
    )


def _kind(text: str) -> str:
    """A kind by any of its names, in lower case; what is none finds nothing."""
    try:
        return registry.find_name(text).kind.lower()
    except UnknownName:
        return text.lower()


def words_of(text: str) -> Iterator[str]:
    """Its words in their order: letters and digits, folded so that case and accents do not matter."""
    for match in _WORD.finditer(text[:LONGEST_TEXT]):
        word = fold(match.group())[:LONGEST_WORD]
        if word:
            yield word


def fold(text: str) -> str:
    """Without case and accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in apart if not unicodedata.combining(c) and (c.isalnum()))


def index_words(text: str) -> str:
    """The words of a text once each, in order, with a space between them: what the databases index."""
    text = text[:LONGEST_TEXT]
    if text.isascii():
        return " ".join(sorted({word[:LONGEST_WORD] for word in _WORD.findall(text.lower())}))
    return " ".join(sorted(set(words_of(text))))


def place_word(namespace: str) -> str:
    """The word that every document of a namespace holds, so that the index itself can tell whose it is. Letters and
    digits only."""
    return "zns" + namespace.encode("utf-8", "surrogatepass").hex()


def title_of(resource: Resource) -> str:
    """What an object is found by first."""
    spec = resource.spec
    return f"{resource.name} {spec.get('title') or spec.get('displayName') or spec.get('objective') or ''}"


def text_of(resource: Resource) -> str:
    """What can be found in an object: the texts of its spec and what was handed in, without what may be a secret."""
    parts = [*_texts(resource.spec)]
    deliverable = resource.status.get("deliverable")
    if isinstance(deliverable, Mapping) and isinstance(deliverable.get("text"), str):
        parts.append(deliverable["text"])
    parts += [str(value) for value in resource.labels.values()]
    return "\n".join(parts)[:LONGEST_TEXT]


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping) and depth < 12:
        first = [name for name in _FREE if name in value]
        for name in [*first, *(n for n in value if n not in first)]:
            if not _SECRET.search(name):
                yield from _texts(value[name], depth + 1)
    elif isinstance(value, list | tuple) and depth < 12:
        for item in value:
            yield from _texts(item, depth + 1)


def snippet(text: str, question: Question) -> Snippet:
    """The piece of ``text`` around the first word that was searched for."""
    found = list(_places(text[:LONGEST_TEXT], question))
    if not found:
        return Snippet(text[:_SNIPPET])
    start = max(0, found[0][0] - _SNIPPET // 3)
    piece = text[start : start + _SNIPPET]
    return Snippet(piece, tuple((a - start, b - start) for a, b in found if b <= start + len(piece)))


def _places(text: str, question: Question) -> Iterator[tuple[int, int]]:
    wanted = set(question.words)
    begun = question.words[-1] if question.words and question.last_is_begun else None
    for match in _WORD.finditer(text):
        word = fold(match.group())[:LONGEST_WORD]
        if word in wanted or (begun is not None and word.startswith(begun)):
            yield match.span()


def score(title_words: Sequence[str], question: Question) -> int:
    """How many of the words stand in the title."""
    there = set(title_words)
    begun = question.words[-1] if question.words and question.last_is_begun else None
    return sum(1 for word in question.words if word in there) + (
        1 if begun is not None and begun not in there and any(w.startswith(begun) for w in there) else 0
    )
