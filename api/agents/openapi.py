"""The OpenAPI document of the agent port."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api.agents.claims import CLAIM, CLAIM_VERBS, ClaimVerb
from api.agents.runs import VERBS, Verb
from api.problems import MEDIA_TYPE, PROBLEM_SCHEMA
from schemas import protocol
from schemas.authorize import AuthorizeMessage, Decision
from schemas.proposing import ProposalList, ProposalReceipt, ProposeMessage
from schemas.tool_listing import JudgedTools, ServerView, ToolsMessage

_REFS = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "The Idempotency-Key is missing.",
    403: "Not among what this agent may do; errors say what is.",
    401: "No token, a false one, or one whose run has ended: stop working.",
    404: "Not within the scope of this token.",
    408: "The body came too slowly.",
    409: "Not possible in the run's present state; the detail says why.",
    410: "The run has ended: the claim is over.",
    413: "The body or the artifact is too large.",
    415: "The body is not JSON.",
    422: "The body is not accepted (see errors), or the Idempotency-Key was used for another request.",
    429: "Too often; Retry-After says when it would be heard.",
    503: "The store or the engine cannot take it now: send the same request again after Retry-After.",
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "New for each new request, the same when a request is repeated: it is carried out once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of these refusals."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REFS.format(model="Problem")}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def write_options(verb: Verb) -> dict[str, Any]:
    """How a write is described to FastAPI."""
    ref = {"$ref": _REFS.format(model=verb.message.__name__)}
    return {
        "summary": verb.summary,
        "description": verb.message.__doc__,
        "operation_id": verb.name,
        "response_model": verb.receipt,
        "response_model_exclude_none": True,
        "response_description": "Carried out, now or when its Idempotency-Key was first seen.",
        "responses": problems(*sorted(_PROBLEMS.keys() - {410})),
        "openapi_extra": {
            "parameters": [_KEY],
            "requestBody": {"required": True, "content": {"application/json": {"schema": ref}}},
        },
    }


def authorize_options() -> dict[str, Any]:
    """How the question "may I?" is described to FastAPI."""
    ref = {"$ref": _REFS.format(model=AuthorizeMessage.__name__)}
    key = {**_KEY, "required": False, "description": "Names the call; or idempotencyKey in the body does."}
    return {
        "summary": "Ask before a tool is used",
        "description": AuthorizeMessage.__doc__,
        "operation_id": "authorize",
        "response_model": Decision,
        "response_model_exclude_none": True,
        "response_description": "The decision, made now or when the call was first asked about.",
        "responses": problems(*sorted(_PROBLEMS.keys() - {403, 410})),
        "openapi_extra": {
            "parameters": [key],
            "requestBody": {"required": True, "content": {"application/json": {"schema": ref}}},
        },
    }


def tools_options() -> dict[str, Any]:
    """How the report of a tool server's tools is described to FastAPI."""
    ref = {"$ref": _REFS.format(model=ToolsMessage.__name__)}
    return {
        "summary": "Tell what a tool server offers",
        "description": ToolsMessage.__doc__,
        "operation_id": "server-tools",
        "response_model": JudgedTools,
        "response_model_exclude_none": True,
        "response_description": "Which of it the agent is shown. The same again changes nothing.",
        "responses": problems(401, 404, 408, 409, 413, 415, 422, 429, 503),
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": ref}}}},
    }


def propose_options() -> dict[str, Any]:
    """How a proposal is described to FastAPI."""
    ref = {"$ref": _REFS.format(model=ProposeMessage.__name__)}
    return {
        "summary": "Propose a change of the specs",
        "description": ProposeMessage.__doc__,
        "operation_id": "propose",
        "response_model": ProposalReceipt,
        "response_model_exclude_none": True,
        "response_description": "A person is asked, now or when it was first proposed.",
        "responses": problems(*sorted(_PROBLEMS.keys() - {410})),
        "openapi_extra": {
            "parameters": [_KEY],
            "requestBody": {"required": True, "content": {"application/json": {"schema": ref}}},
        },
    }


def claim_options(verb: ClaimVerb) -> dict[str, Any]:
    """How a write about a claim is described to FastAPI."""
    ref = {"$ref": _REFS.format(model=verb.message.__name__)}
    return {
        "summary": verb.summary,
        "description": verb.message.__doc__,
        "operation_id": verb.name,
        "response_model": verb.receipt,
        "response_model_exclude_none": True,
        "responses": problems(400, 401, 404, 408, 409, 410, 413, 415, 422, 429, 503),
        "openapi_extra": {
            "security": [{"workerToken": []}],
            "parameters": [_KEY],
            "requestBody": {"required": True, "content": {"application/json": {"schema": ref}}},
        },
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document: what FastAPI knows of the routes, with the messages, the problem and the token."""
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    _, definitions = models_json_schema(
        [(verb.message, "validation") for verb in (*VERBS, CLAIM, *CLAIM_VERBS)]
        + [(AuthorizeMessage, "validation"), (Decision, "serialization"), (protocol.Inbox, "serialization")]
        + [(protocol.SubAgents, "serialization"), (protocol.ProposedMissions, "serialization")]
        + [(ToolsMessage, "validation"), (ProposeMessage, "validation")]
        + [(ServerView, "serialization"), (JudgedTools, "serialization")]
        + [(ProposalReceipt, "serialization"), (ProposalList, "serialization")],
        ref_template=_REFS,
    )
    components = found.setdefault("components", {})
    components["schemas"] = {
        **components.get("schemas", {}),
        **definitions.get("$defs", {}),
        "Problem": PROBLEM_SCHEMA,
    }
    components["securitySchemes"] = {
        "runToken": {"type": "http", "scheme": "bearer", "description": "REMIT_TOKEN of the run."},
        "workerToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "What spec.pull.auth of the executor has.",
        },
    }
    found["security"] = [{"runToken": []}]
    return found
