"""Talking on the wire: messages, follow-ups, commands in chat."""

from __future__ import annotations

from datetime import timedelta

from api.agents.callers import Caller
from controllers.holds.stops import Stops
from controllers.runs import mentions, messages
from controllers.runs.once import Once
from controllers.runs.run_record import agent_actor
from controllers.runs.text import clean
from schemas import protocol
from schemas.message import MessageReason, MessageStatus
from store.contract import Store


class TalkWrites:
    """Carries out what an agent says and asks to be told. Blocks."""

    def __init__(self, store: Store, stops: Stops) -> None:
        self._store = store
        self._stops = stops

    def say(self, caller: Caller, message: protocol.SayMessage, once: Once) -> protocol.SayReceipt:
        """Say something in the thread of the mission or its project."""
        with self._store.transaction(agent_actor(caller.run)) as tx:
            said = messages.agent_says(
                tx,
                caller.uid,
                message.text,
                message.to,
                message.in_reply_to or "",
                once=once,
                thread=message.thread,
                mentions=mentions.subjects(tx, caller.run.namespace, clean(message.text, messages.TEXT)),
                stops=self._stops,
            )
        status = MessageStatus.model_validate(said.message.status)
        reason = MessageReason(status.conditions[0].reason)
        if said.due_at is not None:
            reason = MessageReason.HELD if said.held else MessageReason.COOLDOWN
        return protocol.SayReceipt(
            run=caller.run.name, message=said.message.uid, state=status.state, reason=reason, due_at=said.due_at
        )

    def follow_up(self, caller: Caller, message: protocol.FollowUpMessage, once: Once) -> protocol.FollowUpReceipt:
        """Be told, or have something said, later."""
        with self._store.transaction(agent_actor(caller.run)) as tx:
            asked = messages.asks_follow_up(
                tx,
                caller.uid,
                timedelta(seconds=message.after_s),
                message.text,
                say=message.say,
                once=once,
                stops=self._stops,
            )
        return protocol.FollowUpReceipt(run=caller.run.name, follow_up=asked.id, due_at=asked.due_at)

    def commands(self, caller: Caller, message: protocol.CommandsMessage, once: Once) -> protocol.Receipt:
        """Say which commands the agent takes."""
        with self._store.transaction(agent_actor(caller.run)) as tx:
            messages.offers_commands(tx, caller.uid, message.commands, once=once)
        return protocol.Receipt(run=caller.run.name)
