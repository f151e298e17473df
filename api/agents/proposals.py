"""The endpoints of proposals: an agent asks for a change of the specs, and hears what became of it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.agents.bodies import Bodies, idempotency_key, parse
from api.agents.callers import Caller, Callers
from api.agents.limits import Places
from api.agents.runs import answer_with
from api.problems import Problem
from controllers.reconcilers import proposing
from controllers.reconcilers.proposing import NotAllowed, Proposer
from controllers.runs.once import Once
from controllers.runtime.blocking import Blocking
from schemas.errors import InvalidSpec, OverLimit, Refused, SourceUnreadable
from schemas.proposing import ProposalList, ProposalReceipt, ProposeMessage
from store.contract import Store

_MOST_TOLD = 20
_STATUS = {
    "NotAllowedToPropose": 403,
    "EditUnsafe": 422,
    "NothingToChange": 422,
    "SecretInProposal": 422,
    "KeyReused": 422,
}
_RETRY_S = 30


class ProposalEndpoints:
    """Answers for one store. Everything that blocks runs in threads; belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        proposer: Proposer | None,
        *,
        callers: Callers,
        bodies: Bodies,
        places: Places,
        blocking: Blocking,
    ) -> None:
        self._store = store
        self._proposer = proposer
        self._callers = callers
        self._bodies = bodies
        self._places = places
        self._blocking = blocking

    async def propose(self, request: Request) -> Response:
        """Ask for a change. Raises Problem, RemitError (see ``runs.to_problem``)."""
        caller = await self._callers.identify(request)
        key = idempotency_key(request)
        with self._places.taken(caller.uid):
            async with self._bodies.read(request, large=False) as body:
                return answer_with(await self._blocking.run(self._apply, caller, key, body))

    async def listed(self, request: Request) -> Response:
        """What the agent proposed. Raises Problem."""
        caller = await self._callers.identify(request)
        with self._places.taken(caller.uid):
            return answer_with(await self._blocking.run(self._list, caller))

    def _apply(self, caller: Caller, key: str, body: bytes) -> ProposalReceipt:
        message = parse(ProposeMessage, body)
        once = Once.of(key, b"proposals", body)
        if self._proposer is None:
            raise Problem(409, "NotAGitSource", "no source with branches is followed here")
        try:
            proposal = self._proposer.propose(caller.run, message, once)
        except NotAllowed as error:
            told = [("allowed", text) for text in error.allowed[:_MOST_TOLD]]
            raise Problem(403, error.reason, str(error), errors=told) from None
        except OverLimit:
            raise
        except Refused as error:
            if error.reason not in _STATUS:
                raise
            raise Problem(_STATUS[error.reason], error.reason, str(error)) from None
        except InvalidSpec as error:
            told = [(d.field or "(document)", str(d)) for d in error.diagnostics[:_MOST_TOLD]]
            detail = f"the specs would not compile with it: {error.diagnostics[0]}"
            raise Problem(422, "InvalidSpec", detail, errors=told) from None
        except SourceUnreadable as error:
            raise Problem(503, error.reason, str(error), retry_after_s=_RETRY_S) from None
        return ProposalReceipt(run=caller.run.name, proposal=proposal)

    def _list(self, caller: Caller) -> ProposalList:
        with self._store.snapshot() as snapshot:
            return ProposalList(items=proposing.listed(snapshot, caller.run))
