"""What a worker behind HTTP answers, to the request that starts a run and to each question for its result."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, JsonValue

from schemas.base import StatusModel
from schemas.protocol import UsageMessage


class AnswerState(StrEnum):
    """Where the worker says the run stands."""

    RUNNING = "Running"  # it works on it
    SUCCEEDED = "Succeeded"  # deliverable holds the result
    FAILED = "Failed"  # message says why
    CANCELED = "Canceled"  # it was told to stop, and has


class WorkerAnswer(StatusModel):
    """An answer of a worker. Unknown fields are ignored: a worker may say more to others."""

    state: AnswerState | None = Field(
        None, description="Where the run stands; absent: Succeeded with a deliverable, else Running."
    )
    deliverable: JsonValue = Field(None, description="The result: a text, or any JSON.")
    self_review: str = Field("", description="The worker's own check of its deliverable.")
    message: str = Field("", description="For people: why it failed, or what is being done.")
    retryable: bool = Field(True, description="Whether another attempt may help after a failure.")
    percent: int | None = Field(None, ge=0, le=100, description="How far it is.")
    usage: UsageMessage | None = Field(None, description="What the run used.")
    status_url: str = Field("", max_length=2048, description="Where its result can be asked for, on the same host.")

    @property
    def stands(self) -> AnswerState:
        """Where the run stands."""
        if self.state is not None:
            return self.state
        return AnswerState.RUNNING if self.deliverable is None else AnswerState.SUCCEEDED
