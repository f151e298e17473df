"""Benches of search: the newest of many messages that hold a common word, in one of many tenants, against the index of
the database with neither tenants nor titles."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import psycopg

from store.contract import Store
from store.search import TEXTS
from store.search_text import Question, index_words, place_word
from tests.bench.measure import Measured, by_turns, ms, processor_seconds, seconds, sized
from tests.fakes.stores import PostgresHarness, SqliteHarness

TENANTS = 50
HITS = 20
_VOCABULARY = 30_000
_COLUMNS = "id, ref, kind, namespace, name, uid, state, agent, at, digest, title_words, words"


def _vocabulary(size: int = _VOCABULARY) -> list[str]:
    chance = random.Random(1)
    found = {"".join(chance.choices("bdfgklmnprstvz", k=1) + chance.choices("aeiou", k=1)) for _ in range(100)}
    while len(found) < size:
        syllables = chance.randint(2, 4)
        found.add("".join(chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(syllables)))
    return sorted(sorted(found), key=lambda word: (len(word) < 3, chance.random()))


def _texts(words: Sequence[str]) -> Iterator[str]:
    """Messages of 8 to 40 words, the first of which are common, as in any language."""
    chance = random.Random(2)
    weights = list(accumulate(1 / (place + 10) for place in range(len(words))))
    pool, at = chance.choices(words, cum_weights=weights, k=20 * len(words)), 0
    while True:
        count = chance.randint(8, 40)
        if at + count > len(pool):
            at = chance.randrange(1000)
        yield " ".join(pool[at : at + count])
        at += count


def _rows(words: Sequence[str], count: int) -> Iterator[tuple[Any, ...]]:
    """Documents as the index keeps them."""
    for number, text in enumerate(islice(_texts(words), count), start=1):
        place, name = f"tenant-{number % TENANTS}", f"m{number:07d}"
        mark = place_word(place)
        yield (number, f"u{name}", "Message", place, name, f"u{name}", "", "", number, "n",
               f"{name} {mark}", f"{index_words(f'{name} {text}')} {mark}")  # fmt: skip


def in_sqlite(scale: float) -> Measured:
    """FTS5."""
    count = sized(1_000_000, scale, 500)
    words = _vocabulary(sized(_VOCABULARY, scale, 1_000))
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open()
        with closing(sqlite3.connect(harness.path)) as raw, raw:
            raw.executemany(f"INSERT INTO search_docs ({_COLUMNS}) VALUES ({', '.join('?' * 12)})", _rows(words, count))
            for start, column in ((TEXTS, "title_words"), (2 * TEXTS, "words")):
                raw.execute(f"INSERT INTO search_text(rowid, words) SELECT {start} - id, {column} FROM search_docs"
                            " ORDER BY id DESC")  # fmt: skip
        with closing(sqlite3.connect(Path(folder, "raw.db"))) as raw:
            raw.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, tenant INT, body TEXT)")
            raw.execute("CREATE VIRTUAL TABLE found USING fts5(body, content='messages', content_rowid='id')")
            with raw:
                texts = enumerate(islice(_texts(words), count), start=1)
                raw.executemany("INSERT INTO messages VALUES (?, ?, ?)", ((n, n % TENANTS, text) for n, text in texts))
                raw.execute("INSERT INTO found(found) VALUES ('rebuild')")
            asked = (
                "SELECT m.id, m.body FROM found JOIN messages m ON m.id = found.rowid WHERE found MATCH ?"
                f" ORDER BY found.rowid DESC LIMIT {HITS}"
            )
            found = _compare(store, words, lambda word: raw.execute(asked, (word,)).fetchall(), count, scale,
                             processor_seconds)  # fmt: skip
        harness.close()
    return found


def in_postgres(scale: float) -> Measured:
    """GIN."""
    count = sized(1_000_000, scale, 500)
    words = _vocabulary(sized(_VOCABULARY, scale, 1_000))
    with tempfile.TemporaryDirectory() as folder:
        harness = PostgresHarness(Path(folder))
        store = harness.open(create=True)
        with psycopg.connect(harness.url, autocommit=True) as raw:
            with raw.cursor().copy(f"COPY search_docs ({_COLUMNS}) FROM STDIN") as copy:
                for row in _rows(words, count):
                    copy.write_row(row)
            raw.execute(
                "CREATE TABLE raw_messages (id BIGINT PRIMARY KEY, tenant INT, body TEXT,"
                " words tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED)"
            )
            with raw.cursor().copy("COPY raw_messages (id, tenant, body) FROM STDIN") as copy:
                for number, text in enumerate(islice(_texts(words), count), start=1):
                    copy.write_row((number, number % TENANTS, text))
            raw.execute("CREATE INDEX raw_messages_words ON raw_messages USING gin (words)")
            raw.execute("VACUUM ANALYZE raw_messages")
            raw.execute("VACUUM ANALYZE search_docs")
            asked = (
                "SELECT id, body FROM raw_messages WHERE words @@ to_tsquery('simple', %s)"
                f" ORDER BY id DESC LIMIT {HITS}"
            )
            found = _compare(store, words, lambda word: raw.execute(asked, (word,)).fetchall(), count, scale, seconds)
            raw.execute("DROP TABLE raw_messages")
        harness.close()
    return found


def _compare(
    store: Store, words: Sequence[str], floor: Callable[[str], list[Any]], count: int, scale: float,
    clock: Callable[[Callable[[], object]], float],
) -> Measured:  # fmt: skip
    word, each, rounds = words[0], 2 if scale < 0.01 else 20, 1 if scale < 0.01 else 9
    question = Question((word,), namespaces=frozenset({"tenant-7"}))
    hits = store.search(question, limit=HITS)
    assert hits, "a common word was not found"
    assert {hit.namespace for hit in hits} == {"tenant-7"}
    assert floor(word)
    a, b = by_turns(
        lambda: [store.search(question, limit=HITS) for _ in range(each)], lambda: [floor(word) for _ in range(each)],
        rounds, clock,
    )  # fmt: skip
    return Measured(a / b, ms(a / each), ms(b / each), f"{count:,} messages, one of {TENANTS} tenants")
