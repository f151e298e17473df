"""Whether the process is there, and whether each of its components does its work."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from api.read.answers import Reader, json_response
from api.read.engine import EngineFacts
from api.read.guard import BARE_KEY
from api.read.summary import health_document
from schemas.errors import StoreError


def add_health(app: FastAPI, reader: Reader, facts: EngineFacts, version: str) -> None:
    """``/healthz``, ``/readyz`` and ``/version``."""

    @app.get("/healthz", tags=["health"], summary="Say that the process is there", operation_id="healthz")
    async def healthz() -> Response:
        """Answers 200 as long as the process can answer."""
        return json_response({"status": "ok"})

    @app.get("/readyz", tags=["health"], summary="Say what every component does", operation_id="readyz",
             responses={503: {"description": "A component does not do its work; the body names it.",
                              "content": {"application/json": {"schema": {"type": "object"}}}}})  # fmt: skip
    async def readyz(request: Request) -> Response:
        """200 when every component does its work and the store answers, else 503. The same body in both cases; without
        a token, where one is wanted, it says no more than ``ready``."""
        components = health_document(facts.health())
        try:
            await reader.read(lambda snapshot: snapshot.latest_version())
            store_problem = ""
        except StoreError:
            store_problem = "the store does not answer; the log has the reason"
        ready = not store_problem and all(c["ok"] for c in components)
        if BARE_KEY in request.scope:
            return json_response({"ready": ready}, 200 if ready else 503)
        body = {"ready": ready, "store": {"ok": not store_problem, "problem": store_problem}, "components": components}
        return json_response(body, 200 if ready else 503)

    @app.get("/version", tags=["health"], summary="Name the version", operation_id="version")
    async def version_() -> Response:
        """As Kubernetes answers it. ``gitVersion`` tells clients which parts of that API they may use."""
        return json_response({"major": "1", "minor": "32", "gitVersion": f"v1.32.0+remit.{version}",
                              "remitVersion": version, "platform": "", "goVersion": "", "gitCommit": "",
                              "gitTreeState": "", "buildDate": "", "compiler": ""})  # fmt: skip
