"""The outbox: outside acts, written in the transaction that decides them and delivered at least once after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.base import Key
from schemas.errors import Fenced
from store.codec import Mask, bounded, clean, dump, from_micros, in_micros, load, load_object, maybe_moment, to_micros
from store.contract import Effect, EffectState
from store.session import Row, Session, Statement
from store.tables import effects

_c = effects.c
_COLUMNS = (
    _c.id,
    _c.key,
    _c.type,
    _c.subject_kind,
    _c.subject_namespace,
    _c.subject_name,
    _c.payload,
    _c.state,
    _c.due_at,
    _c.tries,
    _c.token,
    _c.claimed_by,
    _c.claim_until,
    _c.created_at,
    _c.done_at,
    _c.last_error,
    _c.result,
)
_BY_KEY = Statement(sa.select(*_COLUMNS).where(_c.key == bindparam("key")))
_INSERT = Statement(sa.insert(effects).values({column.name: bindparam(column.name) for column in _c}))
_TAKE = Statement(
    sa.update(effects)
    .where(_c.id == bindparam("at_id"))
    .values(
        state=EffectState.CLAIMED.value,
        tries=_c.tries + 1,
        token=_c.token + 1,
        claimed_by=bindparam("claimed_by"),
        claim_until=bindparam("claim_until"),
    )
)
_OWN = (
    _c.id == bindparam("at_id"),
    _c.token == bindparam("at_token"),
    _c.state == sa.literal(EffectState.CLAIMED.value),
)
_ENDED = {"claimed_by": "", "claim_until": None}
_FINISH = Statement(
    sa.update(effects)
    .where(*_OWN)
    .values(
        state=EffectState.DONE.value,
        done_at=bindparam("done_at"),
        result=bindparam("result"),
        last_error="",
        **_ENDED,
    )
)
_FAIL = Statement(
    sa.update(effects)
    .where(*_OWN)
    .values(
        state=bindparam("state"),
        due_at=bindparam("due_at"),
        done_at=bindparam("done_at"),
        last_error=bindparam("error"),
        **_ENDED,
    )
)
_EXTEND = Statement(sa.update(effects).where(*_OWN).values(claim_until=bindparam("claim_until")))
_ADDRESS = Statement(sa.update(effects).where(*_OWN).values(type=bindparam("to_type")))
_HAND_OVER = Statement(
    sa.update(effects)
    .where(*_OWN)
    .values(type=bindparam("to_type"), state=EffectState.PENDING.value, token=_c.token + 1, **_ENDED)
)
_HASTEN = Statement(
    sa.update(effects)
    .where(_c.key == bindparam("at_key"), _c.state == sa.literal(EffectState.PENDING.value))
    .values(due_at=bindparam("due_at"))
)
_DROP = Statement(
    sa.update(effects)
    .where(_c.key == bindparam("at_key"), _c.state == sa.literal(EffectState.PENDING.value))
    .values(state=EffectState.DEAD.value, done_at=bindparam("done_at"), last_error="withdrawn")
)
_PRUNE = Statement(
    sa.delete(effects).where(
        _c.id.in_(
            sa.select(_c.id)
            .where(
                _c.state.in_([sa.literal(EffectState.DONE.value), sa.literal(EffectState.DEAD.value)]),
                _c.due_at <= bindparam("before"),  # no later than done_at, and in the index
                _c.done_at <= bindparam("before"),
            )
            .limit(bindparam("limit"))
        )
    )
)


@lru_cache(maxsize=16)
def _release(types: int) -> Statement:
    """Give claims back: of ``types`` types, of all for 0."""
    clause = sa.update(effects).where(_c.state == sa.literal(EffectState.CLAIMED.value))
    if types:
        clause = clause.where(_c.type.in_([bindparam(f"type{i}") for i in range(types)]))
    return Statement(clause.values(state=EffectState.PENDING.value, token=_c.token + 1, **_ENDED))


@lru_cache(maxsize=64)
def _due(state: EffectState, types: int) -> Statement:
    """Effects of ``types`` types that may be claimed: Pending and due, or Claimed for too long. Two statements, so that
    each reads the front of an index and stops at the limit."""
    ready = _c.due_at if state is EffectState.PENDING else _c.claim_until
    return Statement(
        sa.select(*_COLUMNS)
        .where(
            _c.state == sa.literal(state.value),
            ready <= bindparam("now"),
            _c.type.in_([bindparam(f"type{i}") for i in range(types)]),
        )
        .order_by(_c.due_at, _c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


@lru_cache(maxsize=64)
def _select(*, states: int, subject: bool, type_: bool) -> Statement:
    clause = sa.select(*_COLUMNS)
    if states:
        clause = clause.where(_c.state.in_([bindparam(f"state{i}") for i in range(states)]))
    if subject:
        clause = clause.where(
            _c.subject_name == bindparam("name"),
            _c.subject_kind == bindparam("kind"),
            _c.subject_namespace == bindparam("namespace"),
        )
    if type_:
        clause = clause.where(_c.type == bindparam("type"))
    return Statement(clause.order_by(_c.due_at, _c.id).limit(bindparam("limit")))


_WAITING_TYPES = Statement(
    sa.select(
        sa.select(_c.type)
        .where(_c.state == sa.literal(EffectState.PENDING.value), _c.due_at <= bindparam("now"))
        .order_by(_c.due_at)
        .limit(256)
        .subquery()
        .c.type
    ).distinct()
)


class OutboxReads:
    """The part of Snapshot that concerns effects."""

    _session: Session

    def effects(
        self,
        *,
        states: Sequence[EffectState] | None = None,
        subject: Key | None = None,
        type: str | None = None,
        limit: int = 1000,
    ) -> list[Effect]:
        if states is not None and not states:
            return []
        statement = _select(states=len(states or ()), subject=subject is not None, type_=type is not None)
        params: dict[str, Any] = {"type": type, "limit": bounded(max(limit, 0))}
        params |= {f"state{i}": str(state) for i, state in enumerate(states or ())}
        if subject is not None:
            params["kind"], params["namespace"], params["name"] = subject
        return [_to_effect(row) for row in self._session.rows(statement, params)]

    def waiting_effects(self, now: datetime) -> frozenset[str]:
        return frozenset(str(type_) for (type_,) in self._session.rows(_WAITING_TYPES, {"now": to_micros(now)}))

    def effect(self, key: str) -> Effect | None:
        row = self._session.row(_BY_KEY, {"key": key})
        return None if row is None else _to_effect(row)


class OutboxWrites(OutboxReads):
    """The part of Transaction that concerns effects."""

    _now: int
    _new_id: Callable[[], str]
    _mask: Mask
    _woken: set[str]

    def enqueue(
        self,
        type: str,
        key: str,
        subject: Key,
        payload: dict[str, Any],
        *,
        due_at: datetime | None = None,
        fresh: bool = False,
    ) -> bool:
        if not fresh and self._session.row(_BY_KEY, {"key": key}) is not None:
            return False
        self._session.insert(
            _INSERT,
            {
                "id": self._new_id(),
                "key": key,
                "type": type,
                "subject_kind": subject.kind,
                "subject_namespace": subject.namespace,
                "subject_name": subject.name,
                "payload": dump(self._mask(payload, subject.namespace)),
                "state": EffectState.PENDING.value,
                "due_at": self._now if due_at is None else to_micros(due_at),
                "tries": 0,
                "token": 0,
                "claimed_by": "",
                "claim_until": None,
                "created_at": self._now,
                "done_at": None,
                "last_error": "",
                "result": "",
            },
        )
        if due_at is None or to_micros(due_at) <= self._now:
            self._woken.add(type)
        return True

    def claim_effects(self, holder: str, *, types: Sequence[str], limit: int, lease_s: float) -> list[Effect]:
        if not types or limit <= 0:
            return []
        params = {f"type{i}": type_ for i, type_ in enumerate(types)} | {"now": self._now, "limit": bounded(limit)}
        ready = [
            [_to_effect(row) for row in self._session.rows(_due(state, len(types)), params)]
            for state in (EffectState.PENDING, EffectState.CLAIMED)
        ]
        until = self._now + in_micros(lease_s)
        taken = [
            replace(
                effect,
                state=EffectState.CLAIMED,
                tries=effect.tries + 1,
                token=effect.token + 1,
                claimed_by=holder,
                claim_until=from_micros(until),
            )
            for effect in islice(merge(*ready, key=lambda effect: (effect.due_at, effect.id)), bounded(limit))
        ]
        self._session.run_many(
            _TAKE, [{"at_id": effect.id, "claimed_by": holder, "claim_until": until} for effect in taken]
        )
        return taken

    def finish_effect(self, effect: Effect, result: dict[str, Any] | None = None) -> None:
        self._own(
            _FINISH,
            effect,
            {
                "done_at": self._now,
                "result": "" if result is None else dump(self._mask(result, effect.subject.namespace)),
            },
        )

    def fail_effect(self, effect: Effect, error: str, *, retry_at: datetime | None) -> None:
        dead = retry_at is None
        values = {
            "state": (EffectState.DEAD if dead else EffectState.PENDING).value,
            "due_at": to_micros(effect.due_at if retry_at is None else retry_at),
            "done_at": self._now if dead else None,
            "error": clean(self._mask(error, effect.subject.namespace)),
        }
        self._own(_FAIL, effect, values)

    def extend_claim(self, effect: Effect, lease_s: float) -> None:
        self._own(_EXTEND, effect, {"claim_until": self._now + in_micros(lease_s)})

    def address_effect(self, effect: Effect, type: str, *, keep: bool) -> None:
        self._own(_ADDRESS if keep else _HAND_OVER, effect, {"to_type": type})

    def release_claims(self, *, types: Sequence[str] | None = None) -> int:
        if types is not None and not types:
            return 0
        return self._session.run(_release(len(types or ())), {f"type{i}": t for i, t in enumerate(types or ())})

    def hasten_effect(self, key: str) -> bool:
        effect = self.effect(key)
        if effect is None or effect.state is not EffectState.PENDING:
            return False
        if to_micros(effect.due_at) <= self._now:
            return True
        if not self._session.run(_HASTEN, {"at_key": key, "due_at": self._now}):
            return False  # claimed meanwhile, by another process
        self._woken.add(effect.type)
        return True

    def drop_effect(self, key: str) -> bool:
        return self._session.run(_DROP, {"at_key": key, "done_at": self._now}) > 0

    def prune_effects(self, before: datetime, *, limit: int) -> int:
        return self._session.run(_PRUNE, {"before": to_micros(before), "limit": bounded(max(limit, 0))})

    def _own(self, statement: Statement, effect: Effect, values: dict[str, Any]) -> None:
        """Write to an effect whose claim still has that token."""
        # Whoever claimed it let out what was held back of it.
        if self._session.run(statement, values | {"at_id": effect.id, "at_token": effect.token}, apart=True):
            return
        now = self.effect(effect.key)
        what = "it is gone" if now is None else f"it is {now.state} with token {now.token}"
        raise Fenced(
            f"the claim on effect {effect.key} (token {effect.token}) has ended: {what}. Its outcome is reported by"
            " whoever holds it now"
        )


def _to_effect(row: Row) -> Effect:
    (
        id_,
        key,
        type_,
        kind,
        namespace,
        name,
        payload,
        state,
        due_at,
        tries,
        token,
        claimed_by,
        claim_until,
        created_at,
        done_at,
        last_error,
        result,
    ) = row
    return Effect(
        id_,
        key,
        type_,
        Key(kind, namespace, name),
        load_object(payload),
        EffectState(state),
        from_micros(due_at),
        tries,
        token,
        claimed_by,
        maybe_moment(claim_until),
        from_micros(created_at),
        maybe_moment(done_at),
        last_error,
        load(result) if result else None,
    )
