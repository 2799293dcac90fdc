"""The forms of requests and answers that are not events themselves."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dtest.events.parameters import Chosen, ParameterNames, Strategy
from dtest.events.policy import Ranking, Timeouts


class ErrorBody(BaseModel):
    """What is wrong, in one sentence, and the next step."""

    code: str
    message: str
    hint: str = ""


class Problem(BaseModel):
    """The form of every error."""

    error: ErrorBody


class Page(BaseModel):
    """A part of a list; ``next`` asks for the following part."""

    items: list[dict[str, Any]]
    next: str | None = None
    seq: int = Field(description="The journal's sequence number that this answer reflects.")


class SubmittedTask(BaseModel):
    """What became of one task of a submission."""

    task_id: str
    status: Literal["accepted", "refused", "sent"] = Field(
        description="`sent`: recorded, but the read model has not reached it yet."
    )
    code: str | None = None
    detail: str | None = None
    note: str = Field("", description="Why it may wait for ever, where that is known.")


class Submitted(BaseModel):
    """A recorded submission."""

    run_id: str
    seq: int = Field(description="Read with `?after=<seq>` to see its effect.")
    tasks: list[SubmittedTask]


class Requested(BaseModel):
    """A recorded request."""

    seq: int
    note: str = Field("", description="Why it will change nothing, where that is known.")


class ReasonBody(BaseModel):
    """Why, in the caller's words."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=2000, examples=["superseded by a newer commit"])


class PolicyBody(BaseModel):
    """The policies to choose; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    ranking: Ranking | None = None
    strategy: Strategy | None = Field(None, examples=["minimal"])
    timeouts: Timeouts | None = None
    parameters: Chosen = Field(default_factory=dict, examples=[{"breaker_threshold": 5}])
    reset: ParameterNames = Field((), examples=[["rejoin_s_max"]])


class QueryBody(BaseModel):
    """One SELECT over the read model."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(max_length=100_000, examples=["SELECT status, count(*) FROM tasks GROUP BY 1"])


class QueryAnswer(BaseModel):
    """The rows of a query."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool


class WhyAnswer(BaseModel):
    """All reasons why a task does not run now."""

    task_id: str
    status: str
    reasons: list[dict[str, Any]]
    seq: int
