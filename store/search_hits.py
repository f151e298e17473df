"""What a search finds: newest first, with those whose title says it all before the others.

Only as many documents are looked at as an answer may need, so that a word that stands everywhere costs no more than a
rare one. In SQLite one walk over the index gives titles before texts (``search``). PostgreSQL sorts all that its index
finds: so the newest documents are looked through first, which hold enough of a common word, and the index is asked for
what is rare. How it is asked leaves its planner no choice, which knows neither.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from store.backend import Backend
from store.codec import clean, from_micros
from store.contract import Hit
from store.search import TEXTS
from store.search_text import Question, place_word, score
from store.session import Row, Session, Statement

MOST_HITS = 100
_CANDIDATES = 400
"""So many texts are looked at that may have some of the words in their title. Of one word there is no such part."""
_FOR_EACH = 10
"""So many documents are looked through in PostgreSQL for each that may be found, before its index is asked. With many
more its planner would sort a small namespace."""
_NEWEST_OF_ALL = 4_000
"""The same where they are of any namespace, which costs less."""
_FOUND = "d.id, d.ref, d.kind, d.namespace, d.name, d.uid, d.state, d.agent, d.at, d.title_words"
_IS_IN_TITLE = "array_to_tsvector(string_to_array(d.title_words, ' ')) @@ CAST"
_IS_IN_TEXT = "d.words @@ CAST"


def find(backend: Backend, question: Question, limit: int) -> list[Hit]:
    """See ``contract.Store.search``."""
    limit = max(0, min(limit, MOST_HITS))
    if not limit or (question.namespaces is not None and not question.namespaces):
        return []
    with backend.reading() as session:
        asked = _Asked(session, question, limit)
        if not question.words:
            return [_hit(row, 0) for row in asked.newest()]
        hits = asked.sqlite() if session.dialect_name == "sqlite" else asked.postgres()
    return sorted(hits, key=_in_title, reverse=True)[:limit]  # which leaves the newest of equals before the others


def _in_title(hit: Hit) -> int:
    return hit.in_title


def _hit(row: Row, in_title: int) -> Hit:
    _, ref, kind, namespace, name, uid, state, agent, at, _ = row
    seq = int(ref[6:]) if ref.startswith("event/") else 0
    return Hit(kind, namespace, name, uid, state, agent, from_micros(at), seq, in_title)


class _Asked:
    """One question to one database."""

    def __init__(self, session: Session, question: Question, limit: int) -> None:
        self._session = session
        self._question = question
        self._count = len(question.words)
        self._limit = limit
        self._texts = _CANDIDATES if self._count > 1 else limit
        self._params: dict[str, Any] = {}
        counts = []
        for name, values in (
            ("kind", question.kinds), ("agent", question.agents), ("state", question.states),
            ("place", question.namespaces or ()),
        ):  # fmt: skip
            counts.append(len(values))
            for number, value in enumerate(sorted(values)):
                self._params[f"{name}{number}"] = clean(value)
        self._counts = tuple(counts)

    def newest(self) -> list[Row]:
        """All that pass the filters."""
        return self._session.rows(_every(self._counts), {**self._params, "most": self._limit})

    def sqlite(self) -> list[Hit]:
        """One walk, which ends when there are no better ones."""
        found: dict[int, Hit] = {}
        count, scored, limit, texts = self._count, self._count > 1, self._limit, self._texts
        params = {**self._params, "words": _fts(self._question), "most": 2 * (limit + texts)}
        with closing(self._session.stream(_walk(self._counts), params)) as rows:
            for whole, *row in rows:
                if row[0] in found:
                    continue  # its title was there before
                in_title = count if whole else score(row[9].split(), self._question) if scored else 0
                found[row[0]] = _hit(tuple(row), in_title)
                texts -= not whole
                if len(found) >= limit and (whole or not scored or texts <= 0):
                    break
        return list(found.values())

    def postgres(self) -> list[Hit]:
        """Texts hold the words of their titles. So titles are asked for only where there may be more of them."""
        first = self._asked(_at_once, most=self._texts, limit=self._limit)
        texts, titles = ([row[1:] for row in first if row[0] is title] for title in (False, True))
        if len(texts) < self._texts:
            texts = self._asked(_by_index, _IS_IN_TEXT, most=self._texts)
        found = {row[0]: _hit(row, score(row[9].split(), self._question)) for row in texts}
        whole = sum(hit.in_title == self._count for hit in found.values())
        if 0 < whole < self._limit and len(texts) == self._texts:
            titles = self._asked(_by_looking, _IS_IN_TITLE, most=self._limit)
            if len(titles) < self._limit:
                titles = self._asked(_by_index, _IS_IN_TITLE, most=self._limit)
        return list(({row[0]: _hit(row, self._count) for row in titles} | found).values())

    def _asked(self, statement: Callable[..., Statement], *of: str, most: int, **more: int) -> list[Row]:
        window = _FOR_EACH * most if self._counts[3] == 1 else _NEWEST_OF_ALL
        params = {
            **self._params, **more, "most": most, "window": window, "words": _tsquery(self._question, placed=False),
            "placed": _tsquery(self._question, placed=True),
        }  # fmt: skip
        return self._session.rows(statement(*of, self._counts), params)


def _filters(counts: tuple[int, ...]) -> list[str]:
    targets = (("kind", "lower(d.kind)"), ("agent", "lower(d.agent)"), ("state", "lower(d.state)"),
               ("place", "d.namespace"))  # fmt: skip
    return [
        f"{target} IN ({', '.join(f':{name}{number}' for number in range(count))})"
        for count, (name, target) in zip(counts, targets, strict=True)
        if count
    ]


# Statements are text of constants and numbered parameters only: the query builder has no words for these.


@lru_cache(maxsize=128)
def _every(counts: tuple[int, ...]) -> Statement:
    where = " AND ".join(_filters(counts) or ["TRUE"])
    return _statement(f"SELECT {_FOUND} FROM search_docs d WHERE {where} ORDER BY d.id DESC LIMIT :most")  # noqa: S608


@lru_cache(maxsize=128)
def _walk(counts: tuple[int, ...]) -> Statement:
    """SQLite walks its index from the first row when it is named first, and stops when nobody asks for more."""
    where = " AND ".join(["search_text MATCH :words", *_filters(counts)])
    return _statement(
        f"SELECT search_text.rowid < {TEXTS}, {_FOUND} FROM search_text"  # noqa: S608
        f" CROSS JOIN search_docs d ON d.id = {TEXTS} - search_text.rowid % {TEXTS}"
        f" WHERE {where} ORDER BY search_text.rowid LIMIT :most"
    )


@lru_cache(maxsize=128)
def _by_looking(target: str, counts: tuple[int, ...]) -> Statement:
    return _statement(_looking(target, counts))


@lru_cache(maxsize=128)
def _by_index(target: str, counts: tuple[int, ...]) -> Statement:
    return _statement(
        f"WITH d AS MATERIALIZED ({_indexed(target, counts)}) SELECT * FROM d ORDER BY d.id DESC LIMIT :most"  # noqa: S608
    )


@lru_cache(maxsize=128)
def _at_once(counts: tuple[int, ...]) -> Statement:
    """Texts among the newest; and, where their titles have none of the words, those titles that do."""
    return _statement(
        f"WITH texts AS MATERIALIZED ({_looking(_IS_IN_TEXT, counts)}), titles AS MATERIALIZED"  # noqa: S608
        f" ({_indexed(_IS_IN_TITLE, counts)} AND (SELECT count(*) FROM texts) = :most"
        f" AND NOT EXISTS (SELECT FROM texts d WHERE {_IS_IN_TITLE}(:words AS tsquery)))"
        " SELECT FALSE, * FROM texts UNION ALL"
        " SELECT * FROM (SELECT TRUE, * FROM titles ORDER BY id DESC LIMIT :limit) first"
    )


def _looking(target: str, counts: tuple[int, ...]) -> str:
    """Those among the newest, of one namespace or of all."""
    place = "WHERE namespace = :place0 " if counts[3] == 1 else ""
    where = " AND ".join([f"{target}(:words AS tsquery)", *_filters(counts)])
    return (
        f"SELECT {_FOUND} FROM (SELECT * FROM search_docs {place}ORDER BY id DESC LIMIT :window) d"  # noqa: S608
        f" WHERE {where} ORDER BY d.id DESC LIMIT :most"
    )


def _indexed(target: str, counts: tuple[int, ...]) -> str:
    """All that the index finds, in no order."""
    where = " AND ".join([f"{target}(:placed AS tsquery)", *_filters(counts)])
    return f"SELECT {_FOUND} FROM search_docs d WHERE {where}"  # noqa: S608


def _statement(text: str) -> Statement:
    return Statement(sa.text(text))


def _fts(question: Question) -> str:
    """In the language of FTS5; words are letters and digits, and stand in quotes."""
    terms = [f'"{word}"' for word in question.words]
    if question.last_is_begun:
        terms[-1] += " *"
    if question.namespaces is not None:
        places = " OR ".join(f'"{place_word(place)}"' for place in sorted(question.namespaces))
        terms.insert(0, f"({places})")
    return " AND ".join(terms)


def _tsquery(question: Question, *, placed: bool) -> str:
    terms = [f"'{word}'" for word in question.words]
    if question.last_is_begun:
        terms[-1] += ":*"
    if placed and question.namespaces is not None:
        places = " | ".join(f"'{place_word(place)}'" for place in sorted(question.namespaces))
        terms.append(f"({places})")
    return " & ".join(terms)
