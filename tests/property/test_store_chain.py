"""The chain of events: any single change anywhere is found, and found where it is."""

from __future__ import annotations

import hashlib
from datetime import UTC
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.resource import canonical_json
from store import chain
from store.codec import clean, dump, from_micros, load, to_micros
from store.contract import GENESIS
from store.session import Row

COLUMNS = 15
texts = st.text(max_size=12)
data = st.dictionaries(texts, st.integers() | texts | st.none() | st.lists(texts, max_size=2), max_size=3)
bodies = st.lists(
    st.tuples(st.integers(-(2**50), 2**50), *[texts.map(clean)] * 10, data.map(dump)), min_size=1, max_size=8
)


def write(contents: list[tuple[Any, ...]]) -> list[Row]:
    """Rows as the store writes them."""
    rows: list[Row] = []
    head = GENESIS
    for seq, body in enumerate(contents, start=1):
        digest = chain.event_hash(head, (seq, *body))
        rows.append((seq, *body, head, digest))
        head = digest
    return rows


def broken(rows: list[Row], written: list[Row]) -> int:
    return chain.verify(rows, head_seq=len(written), head_hash=written[-1][-1]).broken_seq


@given(bodies)
def test_what_was_written_verifies(contents: list[tuple[Any, ...]]) -> None:
    rows = write(contents)
    report = chain.verify(rows, head_seq=len(rows), head_hash=rows[-1][-1])
    assert (report.count, report.head, report.broken_seq, report.problem) == (len(rows), rows[-1][-1], 0, "")


@given(bodies)
def test_the_bytes_are_the_canonical_json_of_the_fields(contents: list[tuple[Any, ...]]) -> None:
    for row in write(contents):
        (
            seq,
            at,
            type_,
            kind,
            namespace,
            name,
            uid,
            actor_kind,
            actor,
            transport,
            reason,
            message,
            text,
            prev,
            digest,
        ) = row
        fields = {
            "seq": seq,
            "at": at,
            "type": type_,
            "subject": {"kind": kind, "namespace": namespace, "name": name},
            "subject_uid": uid,
            "actor": {"kind": actor_kind, "subject": actor, "transport": transport},
            "reason": reason,
            "message": message,
            "data": load(text),
        }
        assert digest == hashlib.sha256((prev + canonical_json(fields)).encode()).hexdigest()


@given(bodies, st.data())
def test_a_changed_field_is_found_in_its_row(contents: list[tuple[Any, ...]], draw: st.DataObject) -> None:
    written = write(contents)
    place = draw.draw(st.integers(0, len(written) - 1))
    column = draw.draw(st.integers(1, COLUMNS - 1))
    value = draw.draw(st.one_of(texts, st.integers(), st.none(), st.binary(max_size=3), st.floats()))
    assume(value != written[place][column])
    changed = (*written[place][:column], value, *written[place][column + 1 :])
    assert broken([*written[:place], changed, *written[place + 1 :]], written) == place + 1


@given(bodies, st.data())
def test_text_moved_from_one_field_to_the_next_is_found(contents: list[tuple[Any, ...]], draw: st.DataObject) -> None:
    """No two fields can share their border: the hash is over quoted texts."""
    written = write(contents)
    place = draw.draw(st.integers(0, len(written) - 1))
    column = draw.draw(st.integers(2, 10))
    row = list(written[place])
    assume(row[column])
    row[column + 1] = row[column][-1] + row[column + 1]
    row[column] = row[column][:-1]
    assert broken([*written[:place], tuple(row), *written[place + 1 :]], written) == place + 1


@given(bodies, st.data())
def test_a_missing_row_is_found_in_its_place(contents: list[tuple[Any, ...]], draw: st.DataObject) -> None:
    written = write(contents)
    first = draw.draw(st.integers(0, len(written) - 1))
    last = draw.draw(st.integers(first, len(written) - 1))
    assert broken(written[:first] + written[last + 1 :], written) == first + 1


@given(bodies, st.randoms(use_true_random=False))
def test_rows_in_another_order_are_found_at_the_first_that_moved(contents: list[tuple[Any, ...]], chance: Any) -> None:
    written = write(contents)
    shuffled = list(written)
    chance.shuffle(shuffled)
    # Somebody who moves rows in a table gives them the numbers of their new places.
    moved = [(seq, *row[1:]) for seq, row in enumerate(shuffled, start=1)]
    first = next((seq for seq, (new, old) in enumerate(zip(moved, written, strict=True), start=1) if new != old), 0)
    assert broken(moved, written) == first


@given(bodies, bodies)
def test_rows_added_at_the_end_are_found(contents: list[tuple[Any, ...]], more: list[tuple[Any, ...]]) -> None:
    written = write(contents)
    assert broken(write(contents + more), written) == len(written) + 1


@given(bodies, bodies)
def test_a_history_written_anew_does_not_fit_the_head(
    contents: list[tuple[Any, ...]], other: list[tuple[Any, ...]]
) -> None:
    written, forged = write(contents), write(other)
    assume(written != forged)
    assert broken(forged, written) > 0


@given(st.datetimes(timezones=st.timezones()))
@settings(max_examples=300)
def test_moments_survive_their_column(moment: Any) -> None:
    assert from_micros(to_micros(moment)) == moment.astimezone(UTC)


@given(st.text() | st.text(alphabet="\0\ud800\udbff\udc00\udfff\U0001f600a"))
def test_clean_text_can_be_encoded_and_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert clean(cleaned) == cleaned
