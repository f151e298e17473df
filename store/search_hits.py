"""What a search finds: newest first, with those whose title says it all before the others.

Only as many documents are looked at as an answer may need, so that a word that stands everywhere costs no more than a
rare one. In SQLite one walk over the index gives titles before texts (``search``). PostgreSQL sorts all that its index
finds: so the newest documents are looked through first, which hold enough of a common word, and the index is asked for
what is rare. The planner knows neither: how the newest are asked for leaves it no choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import lru_cache
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from store.backend import Backend
from store.codec import clean
from store.contract import Hit
from store.search import TEXTS
from store.search_text import Question, place_word, score
from store.session import Params, Row, Statement

MOST_HITS = 100
_CANDIDATES = 400
"""So many texts are looked at that may have some of the words in their title. Of one word there is no such part."""
_FOR_EACH = 10
"""So many documents are looked through in PostgreSQL for each that may be found, before its index is asked. With many
more its planner would sort a small namespace."""
_NEWEST_OF_ALL = 4_000
"""The same where they are of any namespace, which costs less."""
_SEQ = "CASE WHEN d.kind = 'Event' AND substr(d.ref, 1, 6) = 'event/' THEN CAST(substr(d.ref, 7) AS BIGINT) ELSE 0 END"
_SHOWN = f"d.kind, d.namespace, d.name, d.uid, d.state, d.agent, d.at, {_SEQ} seq"
"""The fields of Hit in their order; the last one follows, and what tells documents apart."""
_FOUND = f"{_SHOWN}, 0, d.id, d.title_words"
_IS_IN_TITLE = "array_to_tsvector(string_to_array(d.title_words, ' ')) @@"
_IS_IN_TEXT = "d.words @@"
_WORDS, _PLACED = "CAST(:words AS tsquery)", "CAST(:placed AS tsquery)"
_VALUE = re.compile(r":(?:kind|agent|state|place)\d+")
_Ask = Callable[[Statement, Params], list[Row]]


def find(backend: Backend, question: Question, limit: int) -> list[Hit]:
    """See ``contract.Store.search``."""
    limit = max(0, min(limit, MOST_HITS))
    if not limit or (question.namespaces is not None and not question.namespaces):
        return []
    asked = _Asked(question, limit)
    if not question.words:
        return asked.newest(backend.ask)
    hits = asked.sqlite(backend) if backend.dialect_name == "sqlite" else asked.postgres(backend)
    hits.sort(key=attrgetter("in_title"), reverse=True)  # which leaves the newest of equals before the others
    return hits[:limit]


def _hit(row: Row, in_title: int) -> Hit:
    return Hit._make((*row[:8], in_title))


class _Asked:
    """One question."""

    def __init__(self, question: Question, limit: int) -> None:
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

    def newest(self, ask: _Ask) -> list[Hit]:
        """All that pass the filters."""
        return [Hit._make(row[:9]) for row in ask(_every(self._counts), {**self._params, "most": self._limit})]

    def sqlite(self, backend: Backend) -> list[Hit]:
        """One walk, which ends when there are no better ones. Of a word alone the first rows nearly always are all."""
        statement = _walk(self._count > 1, self._counts)
        params = {**self._params, "words": _fts(self._question), "count": self._count, "most": self._limit}
        if self._count == 1 and not self._question.last_is_begun:
            rows = backend.ask(statement, params)
            hits, enough = self._first(rows)
            if enough or len(rows) < self._limit:
                return hits
        params["most"] = 2 * (self._limit + self._texts)
        with backend.reading() as session, closing(session.stream(statement, params)) as walk:
            return self._first(walk)[0]

    def _first(self, rows: Iterable[Row]) -> tuple[list[Hit], bool]:
        """Those up to where there are no better ones, and whether that was reached."""
        found: dict[int, Hit] = {}
        scored, limit, texts = self._count > 1, self._limit, self._texts
        for row in rows:
            if row[9] in found:
                continue  # its title was there before
            whole = row[8]
            found[row[9]] = _hit(row, self._score(row[10])) if scored and not whole else Hit._make(row[:9])
            texts -= not whole
            if len(found) >= limit and (whole or not scored or texts <= 0):
                return list(found.values()), True
        return list(found.values()), False

    def _score(self, title_words: str) -> int:
        """How many of the words stand in a title."""
        if self._count == 1 and self._question.words[0] not in title_words:
            return 0  # nearly always, so it is seen at once
        return score(title_words.split(), self._question)

    def postgres(self, backend: Backend) -> list[Hit]:
        """Texts hold the words of their titles. So titles are asked for only where there may be more of them."""
        texts, titles = self._newest_texts(backend.ask)
        enough = len(texts) == self._texts
        if not enough or 0 < self._whole(texts) < self._limit:
            with backend.reading() as session:  # what several statements find has to be of one moment
                if enough:
                    texts, _ = self._newest_texts(session.rows)
                if len(texts) < self._texts:
                    texts = self._texts_of(self._asked(session.rows, _by_index, _IS_IN_TEXT, self._texts))
                more = len(texts) == self._texts and self._whole(texts) < self._limit
                titles = self._all_titles(session.rows) if more else []
        return list(({row[9]: _hit(row, self._count) for row in titles} | texts).values())

    def _newest_texts(self, ask: _Ask) -> tuple[dict[int, Hit], list[Row]]:
        """And the newest titles, where those of the texts have none of the words."""
        rows = self._asked(ask, _at_once, self._texts, self._limit, self._question.last_is_begun)
        texts, titles = ([row for row in rows if row[-1] is title] for title in (False, True))
        return self._texts_of(texts), titles

    def _texts_of(self, rows: list[Row]) -> dict[int, Hit]:
        return {row[9]: _hit(row, self._score(row[10])) for row in rows}

    def _whole(self, texts: dict[int, Hit]) -> int:
        return sum(hit.in_title == self._count for hit in texts.values())

    def _all_titles(self, ask: _Ask) -> list[Row]:
        titles = self._asked(ask, _by_looking, _IS_IN_TITLE, self._limit)
        if len(titles) < self._limit:
            titles = self._asked(ask, _by_index, _IS_IN_TITLE, self._limit)
        return titles

    def _asked(self, ask: _Ask, statement: Callable[..., Statement], *of: str | int) -> list[Row]:
        params = {
            **self._params, "words": _tsquery(self._question, placed=False),
            "placed": _tsquery(self._question, placed=True),
        }  # fmt: skip
        return ask(statement(*of, self._counts), params)


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
def _walk(scored: bool, counts: tuple[int, ...]) -> Statement:
    """SQLite walks its index from the first row when it is named first, and stops when nobody asks for more."""
    where = " AND ".join(["search_text MATCH :words", *_filters(counts)])
    title = ", d.title_words" if scored else ""
    return _statement(
        f"SELECT {_SHOWN}, (search_text.rowid < {TEXTS}) * :count, d.id{title} FROM search_text"  # noqa: S608
        f" CROSS JOIN search_docs d ON d.id = {TEXTS} - search_text.rowid % {TEXTS}"
        f" WHERE {where} ORDER BY search_text.rowid LIMIT :most"
    )


@lru_cache(maxsize=128)
def _by_looking(target: str, most: int, counts: tuple[int, ...]) -> Statement:
    return _statement(_looking(target, most, counts))


@lru_cache(maxsize=128)
def _by_index(target: str, most: int, counts: tuple[int, ...]) -> Statement:
    found = _indexed(target, counts)
    return _statement(f"WITH d AS MATERIALIZED ({found}) SELECT * FROM d ORDER BY d.id DESC LIMIT {most}")  # noqa: S608


@lru_cache(maxsize=128)
def _at_once(most: int, limit: int, is_begun: bool, counts: tuple[int, ...]) -> Statement:
    """Texts among the newest; and, where their titles have none of the words, those titles that do."""
    text = (
        f"WITH texts AS MATERIALIZED ({_looking(_IS_IN_TEXT, most, counts)}), titles AS MATERIALIZED"  # noqa: S608
        f" ({_indexed(_IS_IN_TITLE, counts)} AND (SELECT count(*) FROM texts) = {most}"
        f" AND NOT EXISTS (SELECT FROM texts d WHERE {_IS_IN_TITLE} {_WORDS}))"
        " SELECT *, FALSE FROM texts UNION ALL"
        f" SELECT * FROM (SELECT *, TRUE FROM titles ORDER BY id DESC LIMIT {limit}) first"
    )
    return _statement(text if is_begun else _planned_once(text))


def _planned_once(text: str) -> str:
    """PostgreSQL plans a statement at each use, which takes longer than to run it, unless the values that it is given
    change nothing: so they come as what sub-selects give. For whole words only: one that is begun costs its index far
    more than the few documents of a small namespace, and the planner has to see which one it is."""
    text = _VALUE.sub(r"(SELECT CAST(\g<0> AS text))", text).replace("d.namespace IN", "d.namespace || '' IN")
    return text.replace(_WORDS, f"(SELECT {_WORDS})").replace(_PLACED, f"(SELECT {_PLACED})")


def _looking(target: str, most: int, counts: tuple[int, ...]) -> str:
    """Those among the newest, of one namespace or of all."""
    place, window = ("WHERE namespace = :place0 ", _FOR_EACH * most) if counts[3] == 1 else ("", _NEWEST_OF_ALL)
    where = " AND ".join([f"{target} {_WORDS}", *_filters(counts)])
    return (
        f"SELECT {_FOUND} FROM (SELECT * FROM search_docs {place}ORDER BY id DESC LIMIT {window}) d"  # noqa: S608
        f" WHERE {where} ORDER BY d.id DESC LIMIT {most}"
    )


def _indexed(target: str, counts: tuple[int, ...]) -> str:
    """All that the index finds, in no order."""
    where = " AND ".join([f"{target} {_PLACED}", *_filters(counts)])
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
