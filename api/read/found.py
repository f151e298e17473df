"""Search over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Response

from api.read.answers import Reader, json_response
from api.read.hits import hits
from store.search_text import LONGEST_QUESTION


def add_search(app: FastAPI, reader: Reader) -> None:
    """``/api/v1/search``."""

    @app.get("/api/v1/search", tags=["log"], summary="Search objects and the log", operation_id="search")
    async def search(
        q: Annotated[str, Query(max_length=LONGEST_QUESTION, description="Words and kind: agent: state: ns: .")] = "",
        namespace: Annotated[str | None, Query(max_length=63, description="Only this one, as of lists.")] = None,
        limit: Annotated[int, Query(ge=1, le=100, description="Hits in one answer.")] = 20,
    ) -> Response:
        """Those with most of the words in their title first, then the newest. The last word may be begun only. A
        snippet is plain text with the ranges (begin, end) of what was searched for: whoever shows it escapes it."""
        return json_response(
            {"q": q, "hits": await reader.run(lambda: hits(reader.store, q, limit, namespace=namespace or None))}
        )
