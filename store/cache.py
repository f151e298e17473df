"""Compiled blobs, kept so that a start costs what changed and not the whole repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice

import sqlalchemy as sa
from sqlalchemy import bindparam

from store.backend import Backend
from store.heads import Heads
from store.session import Session, Statement
from store.tables import compile_cache

_c = compile_cache.c
_AT_ONCE = 512

# Two ranges of the index: with "!=" a database looks at every row there is.
_FORGET_OTHERS = Statement(
    sa.delete(compile_cache).where(sa.or_(_c.compiler < bindparam("by"), _c.compiler > bindparam("by")))
)
_ANY = Statement(sa.select(_c.blob).where(_c.compiler == bindparam("by")).limit(1))
_DELETE = Statement(sa.delete(compile_cache).where(_c.compiler == bindparam("by"), _c.blob == bindparam("id")))
_INSERT = Statement(
    sa.insert(compile_cache).values(compiler=bindparam("by"), blob=bindparam("id"), compiled=bindparam("form"))
)


@lru_cache(maxsize=16)
def _select(count: int) -> Statement:
    blobs: list[sa.BindParameter[str]] = [bindparam(f"blob{i}") for i in range(count)]
    return Statement(
        sa.select(_c.blob, _c.compiled).where(_c.compiler == bindparam("by"), _c.blob.in_(blobs)).order_by(_c.blob)
    )


def read(backend: Backend, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Those that are kept. No transaction stays open between two of them."""
    with backend.reading() as session:
        if session.row(_ANY, {"by": compiler}) is None:
            return
    wanted = iter(blobs)
    while chunk := list(islice(wanted, _AT_ONCE)):
        size = 1 << (len(chunk) - 1).bit_length()  # few sizes, so few statements to compile
        params = {f"blob{i}": chunk[min(i, len(chunk) - 1)] for i in range(size)} | {"by": compiler}
        with backend.reading() as session:
            found = session.rows(_select(size), params)
        for blob, compiled in found:
            yield blob, bytes(compiled)


def write(backend: Backend, compiler: str, compiled: Mapping[str, bytes]) -> None:
    """Keep these; forget those of other compilers."""
    with backend.writing() as session:
        Heads.read(session, lock=True)
        session.run(_FORGET_OTHERS, {"by": compiler})
        put(session, compiler, compiled)


def put(session: Session, compiler: str, compiled: Mapping[str, bytes]) -> None:
    """Keep these, in a transaction that is under way."""
    # In the order of the index: each is then put beside the one before.
    rows = [(compiler, blob, compiled[blob]) for blob in sorted(compiled)]
    if session.row(_ANY, {"by": compiler}) is not None:
        session.run_many(_DELETE, [{"by": compiler, "id": blob} for blob in compiled])
    session.insert_rows(_INSERT, ("by", "id", "form"), rows)


class CacheWrites:
    """The part of Transaction that concerns the cache."""

    _session: Session

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        put(self._session, compiler, compiled)
