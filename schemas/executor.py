"""Executor: how work reaches an agent. ``type`` selects exactly one block."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import LINE_PATTERN, MAX_SECONDS, Bool, Int, Model, Namespace, StatusModel, block_by_type
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission import Backoff
from schemas.pod_template import PodTemplate
from schemas.quantities import Duration, PositiveDuration, Time
from schemas.secret import EnvVar, ValueFrom


class ExecutorType(StrEnum):
    """How the work is carried."""

    COMMAND = "Command"  # a program on the engine's machine
    HTTP = "Http"  # a worker behind HTTP
    OPEN_CLAW = "OpenClaw"  # an agent of an OpenClaw Gateway
    A2A = "A2A"  # an A2A service
    KUBERNETES_JOB = "KubernetesJob"  # a Job in the cluster
    PULL = "Pull"  # workers that fetch their runs


class OutputFormat(StrEnum):
    """How a program's output is read."""

    REMIT = "Remit"  # it reports over the agent protocol; output is its log
    TEXT = "Text"  # its standard output is the deliverable
    CLAUDE_JSON = "ClaudeJson"  # claude -p --output-format json
    CODEX_JSONL = "CodexJsonl"  # codex exec --json
    GEMINI_JSON = "GeminiJson"  # gemini --output-format json
    OPEN_CODE_JSONL = "OpenCodeJsonl"  # opencode run --format json


class HookedProgram(StrEnum):
    """A coding agent that takes a hook before each tool call."""

    CLAUDE = "Claude"  # Claude Code, claude
    CODEX = "Codex"  # Codex CLI, codex
    GEMINI = "Gemini"  # Gemini CLI, gemini
    OPEN_CODE = "OpenCode"  # OpenCode, opencode
    CURSOR = "Cursor"  # Cursor's CLI, cursor-agent


_PROGRAMS = {HookedProgram.CURSOR: "cursor-agent"}
_HOMES = ("HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "OPENCODE_CONFIG_DIR", "XDG_CONFIG_HOME")
_SWITCHES = {
    HookedProgram.CLAUDE: ("--bare", "--safe-mode", "--settings", "--setting-sources"),
    HookedProgram.OPEN_CODE: ("--pure",),
}
"""Arguments that take hooks away, or that say where settings are read."""
_TRUST = "--dangerously-bypass-hook-trust"
SESSION = "{session}"
"""Stands for the id of the session in the arguments that go on with it."""


def hooked_at(program: HookedProgram, argv: Sequence[str]) -> int:
    """Where in ``argv`` the program stands, after what starts it. Raises ValueError."""
    name = _PROGRAMS.get(program, program.value.lower())
    for index, word in enumerate(argv):
        if word.rpartition("/")[2] == name:
            return index
    raise ValueError(f"argv names no {name}, which hook {program} is for")


Argument = Annotated[str, StringConstraints(max_length=32_768, pattern=r"^[^\x00]*$")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\x00-\x1f]+$", max_length=2048)]
HEADER_PATTERN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
CANCEL_PATH_PATTERN = r"^/[A-Za-z0-9._~/{}-]{0,499}$"
ENGINE_HEADERS = frozenset(
    {"authorization", "connection", "content-encoding", "content-length", "content-type", "host", "idempotency-key",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
"""Headers that the engine sets itself, in small letters; so are those that begin with ``remit-``."""


class Command(Model):
    """A program; no shell is involved."""

    argv: tuple[Argument, ...] = Field(min_length=1, max_length=256, description="Program and arguments.")
    working_dir: str = Field(
        ".",
        max_length=4096,
        description='Where it runs, relative to the project; "workspace" is a fresh folder for each run.',
    )
    env: tuple[EnvVar, ...] = Field(
        (), max_length=500, description="Its environment, beside the few variables that Remit sets."
    )
    output_format: OutputFormat = Field(OutputFormat.REMIT, description="How its output is read.")
    resume_args: tuple[Argument, ...] = Field(
        (),
        max_length=16,
        description='Added to argv where a run goes on with a session; "{session}" stands for it.',
    )
    hook: HookedProgram | None = Field(
        None, description="Coding agent whose tool calls are put before the gate, by a hook in the run's own settings."
    )
    resume: tuple[Argument, ...] = Field(
        (),
        max_length=256,
        description="Program and arguments, in place of argv, that go on with a session which stopped to wait for "
        "leave; {session} stands for its id.",
    )
    stop_grace: Duration = Field("10s", description="Between the request to stop and the kill.")  # type: ignore[assignment]
    max_output: Int = Field(
        10_485_760, ge=1024, le=1_073_741_824, description="Bytes kept of each of its two output streams."
    )

    @model_validator(mode="after")
    def _resumable(self) -> Self:
        if self.resume and not any(SESSION in word for word in self.resume):
            raise ValueError(f"resume needs {SESSION} in one of its arguments: the id of the session that goes on")
        if self.resume and SESSION in self.resume[0]:
            raise ValueError(f"resume starts with a program; {SESSION} is one of its arguments")
        if self.resume and self.output_format in (OutputFormat.REMIT, OutputFormat.TEXT):
            raise ValueError(f"resume does not go with outputFormat {self.output_format}: it names no session")
        return self

    @model_validator(mode="after")
    def _hookable(self) -> Self:
        if self.resume_args and not any("{session}" in argument for argument in self.resume_args):
            raise ValueError('resumeArgs has to name the session somewhere: write "{session}"')
        program = self.hook
        if program is None:
            return self
        for words in (self.argv, self.resume):
            if not words:
                continue
            hooked_at(program, words)
            off = [word for word in words if word.partition("=")[0] in _SWITCHES.get(program, ())]
            if off:
                raise ValueError(f"{off[0]} does not go with hook {program}: it decides whether the hook runs")
            if program is HookedProgram.CODEX and _TRUST not in words:
                raise ValueError(f"hook Codex needs {_TRUST} in argv: codex skips a hook that nobody reviewed")
        moved = [variable.name for variable in self.env if variable.name in _HOMES]
        if moved:
            raise ValueError(f"{moved[0]} does not go with hook {program}: the hook lies in the run's own HOME")
        return self


class HttpResult(StrEnum):
    """How the end of a run becomes known."""

    CALLBACK = "Callback"  # the worker reports it over the agent protocol
    POLL = "Poll"  # the address that the worker named when it took the run is asked


class HttpHeader(Model):
    """A header for a worker: a plain value or a reference."""

    name: str = Field(pattern=HEADER_PATTERN, description="Name of the header.")
    value: str | None = Field(None, max_length=4096, pattern=LINE_PATTERN, description="Plain value; never a secret.")
    value_from: ValueFrom | None = Field(None, description="Where the value is taken from for each request.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("give exactly one of value and valueFrom")
        if self.name.lower() in ENGINE_HEADERS or self.name.lower().startswith("remit-"):
            raise ValueError(f"the header {self.name} is set by the engine")
        return self


class CancelMethod(StrEnum):
    """How a worker is told to stop."""

    DELETE = "Delete"  # DELETE of the path
    POST = "Post"  # POST to the path, without a body


class HttpCancel(Model):
    """How a worker is told to stop a run."""

    method: CancelMethod = Field(CancelMethod.DELETE, description="Delete or Post.")
    path: str = Field(
        pattern=CANCEL_PATH_PATTERN,
        description="Path on the worker's host; {run} stands for the run's uid, {key} for the idempotency key.",
    )

    @model_validator(mode="after")
    def _names_the_run(self) -> Self:
        if "{run}" not in self.path and "{key}" not in self.path:
            raise ValueError("path has to name the run: put {run} or {key} into it")
        if any(part not in ("run", "key") for part in _braced(self.path)):
            raise ValueError("path knows the places {run} and {key} only")
        return self


def _braced(path: str) -> list[str]:
    return [piece.partition("}")[0] for piece in path.split("{")[1:]] + (
        ["}"] if path.count("{") != path.count("}") else []
    )


class HttpService(Model):
    """What is reached over HTTP."""

    url: HttpUrl = Field(description="Its address.")
    auth: ValueFrom | None = Field(None, description="Bearer token for it.")
    poll_interval: PositiveDuration = Field("5s", description="How often the result is asked for.")  # type: ignore[assignment]
    answer_timeout: PositiveDuration = Field("30s", description="Longest wait for an answer to one request.")  # type: ignore[assignment]
    max_answer: Int = Field(1_048_576, ge=1024, le=67_108_864, description="Most bytes of one answer.")
    allow_private: Bool = Field(False, description="Whether the address may be private or loopback.")

    @model_validator(mode="after")
    def _plain_url(self) -> Self:
        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError("url holds a name or password: use auth or headers with valueFrom")
        if "#" in self.url:
            raise ValueError("url has a fragment, which no server gets to see")
        return self


class HttpWorker(HttpService):
    """A worker behind HTTP."""

    url: HttpUrl = Field(description="Where runs are posted.")
    headers: tuple[HttpHeader, ...] = Field((), max_length=32, description="Headers of every request to it.")
    signature: ValueFrom | None = Field(
        None, description="Secret that requests are signed with: HMAC-SHA256 in the header Remit-Signature."
    )
    result: HttpResult = Field(HttpResult.CALLBACK, description="Callback or Poll.")
    idempotent: Bool = Field(
        False, description="Whether it does the work once however often a run is posted with the same Idempotency-Key."
    )
    cancel: HttpCancel | None = Field(None, description="How it is told to stop; without it nobody tells it.")


class OpenClaw(Model):
    """An agent of an OpenClaw Gateway."""

    url: Annotated[str, StringConstraints(pattern=r"^wss?://[^\s\x00-\x1f]+$", max_length=2048)] = Field(
        description="WebSocket address of the Gateway."
    )
    auth: ValueFrom | None = Field(None, description="Gateway token.")
    agent_id: str = Field("main", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Agent of the Gateway.")
    thinking: str | None = Field(None, max_length=32, description="Thinking level handed to it.")


class A2A(HttpService):
    """An A2A service (protocol 1.0, JSON-RPC): each run is one task of it."""

    url: HttpUrl = Field(description="Its agent card, or the host that has it at /.well-known/agent-card.json.")
    skill: str | None = Field(None, max_length=200, description="Skill that its card has to list, by id.")


class KubernetesJob(Model):
    """A Job in a Kubernetes cluster for each run. The first container is the agent."""

    pod_template: PodTemplate = Field(description="A Kubernetes PodTemplateSpec.")
    namespace: Namespace | None = Field(
        None, description="Namespace of the cluster; default that of the executor. Another one needs kubeconfig."
    )
    kubeconfig: ValueFrom | None = Field(
        None, description="Kubeconfig of the cluster, as text; without it the service account of the engine's pod."
    )
    context: str | None = Field(
        None, min_length=1, max_length=253, pattern=LINE_PATTERN, description="Context in it; default its own."
    )
    agent_url: HttpUrl | None = Field(
        None, description="Where its pods reach the agent protocol; default where the engine listens."
    )
    output_format: OutputFormat = Field(OutputFormat.REMIT, description="How the log of its pod is read.")
    max_output: Int = Field(10_485_760, ge=1024, le=33_554_432, description="Bytes kept of that log.")
    poll_interval: PositiveDuration = Field(
        "5s", description="How often the cluster is asked how it stands; up to six times that for what takes long."
    )  # type: ignore[assignment]
    start_grace: PositiveDuration = Field("2m", description="So long an image may fail to be pulled.")  # type: ignore[assignment]
    backoff_limit: Int = Field(0, ge=0, le=0, description="Always 0: what failed is the mission's to retry.")
    ttl_seconds_after_finished: Int = Field(
        3600, ge=0, le=MAX_SECONDS, description="So long after the end is recorded, the cluster removes the Job."
    )
    queue_name: Namespace | None = Field(None, description="Kueue LocalQueue, which decides when it may begin.")

    @model_validator(mode="after")
    def _context_of_what(self) -> Self:
        if self.context is not None and self.kubeconfig is None:
            raise ValueError("context is one of a kubeconfig: give both")
        return self


class Pull(Model):
    """Workers that fetch their runs."""

    pool: str = Field("default", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Pool of workers.")
    lease: PositiveDuration = Field("60s", description="A worker renews its run at least this often.")  # type: ignore[assignment]
    auth: ValueFrom | None = Field(None, description="Token that its workers prove themselves with.")
    command: Command | None = Field(None, description="Program that remit worker starts for each run, on its machine.")


class ExecutorRetry(Model):
    """How often an attempt to reach the worker is repeated."""

    max_attempts: Int = Field(3, ge=1, le=100, description="Attempts in all.")
    backoff: Backoff = Field(default_factory=Backoff, description="Pauses between them.")


class CircuitBreaker(Model):
    """When to leave a failing worker alone."""

    failure_threshold: Int = Field(5, ge=1, le=1000, description="Failures in a row that open it.")
    open_for: Duration = Field("30s", description="How long it stays open before one trial.")  # type: ignore[assignment]


class Sandbox(Model):
    """Where its programs may read and write."""

    read_paths: tuple[str, ...] = Field((), description="Globs it may read.")
    write_paths: tuple[str, ...] = Field((), description="Globs it may write.")


_BLOCKS = {
    ExecutorType.COMMAND: "command",
    ExecutorType.HTTP: "http",
    ExecutorType.OPEN_CLAW: "open_claw",
    ExecutorType.A2A: "a2a",
    ExecutorType.KUBERNETES_JOB: "kubernetes_job",
    ExecutorType.PULL: "pull",
}
# Written out: the alias generator makes a2A of a2a.
_WIRE_NAMES = {
    "command": "command",
    "http": "http",
    "open_claw": "openClaw",
    "a2a": "a2a",
    "kubernetes_job": "kubernetesJob",
    "pull": "pull",
}


class ExecutorSpec(Model):
    """How work reaches an agent."""

    model_config = block_by_type(
        (type_, None if type_ is ExecutorType.PULL else _WIRE_NAMES[block]) for type_, block in _BLOCKS.items()
    )

    type: ExecutorType = Field(description="Command, Http, OpenClaw, A2A, KubernetesJob or Pull.")
    command: Command | None = Field(None, description="For type Command.")
    http: HttpWorker | None = Field(None, description="For type Http.")
    open_claw: OpenClaw | None = Field(None, description="For type OpenClaw.")
    a2a: A2A | None = Field(None, alias="a2a", description="For type A2A.")
    kubernetes_job: KubernetesJob | None = Field(None, description="For type KubernetesJob.")
    pull: Pull | None = Field(None, description="For type Pull; may be left out.")
    timeout: PositiveDuration = Field("30m", description="Longest run.")  # type: ignore[assignment]
    retry: ExecutorRetry = Field(default_factory=ExecutorRetry, description="Attempts to reach the worker.")
    circuit_breaker: CircuitBreaker = Field(default_factory=CircuitBreaker, description="When to leave it alone.")
    sandbox: Sandbox = Field(default_factory=Sandbox, description="Where its programs may read and write.")

    @property
    def resumes(self) -> bool:
        """Whether a run may be told to go on with a session: its program takes an argument for that, or speaks the
        agent protocol, and finds it in REMIT_SESSION and in its mission."""
        program = self.program
        return (program is not None and bool(program.resume_args)) or self.output_format is OutputFormat.REMIT

    @property
    def output_format(self) -> OutputFormat:
        """How what its program prints is read; Remit where no program is declared."""
        if self.kubernetes_job is not None:
            return self.kubernetes_job.output_format
        return OutputFormat.REMIT if self.program is None else self.program.output_format

    @property
    def program(self) -> Command | None:
        """The program that a run is, wherever it is started; None where none is declared."""
        return self.pull.command if self.pull is not None else self.command

    @model_validator(mode="after")
    def _one_block(self) -> Self:
        wanted = _BLOCKS[self.type]
        if self.pull is not None and self.pull.command is not None and self.pull.command.hook is not None:
            raise ValueError("pull.command takes no hook: it is put in by the engine that starts the program")
        if self.pull is not None and self.pull.command is not None and self.pull.command.resume:
            raise ValueError("pull.command takes no resume: the next run may be fetched by another machine")
        for block in _BLOCKS.values():
            given = getattr(self, block) is not None
            field = _WIRE_NAMES[block]
            if given and block != wanted:
                raise ValueError(f"type {self.type} does not take the block {field}")
            if not given and block == wanted and self.type is not ExecutorType.PULL:
                raise ValueError(f"type {self.type} needs the block {field}")
        return self


class ExecutorReason(StrEnum):
    """Reasons of an Executor's conditions."""

    RECONCILED = "Reconciled"  # runs can be started
    PROGRAM_NOT_FOUND = "ProgramNotFound"  # argv[0] is not on the engine's machine
    WORKING_DIR_NOT_FOUND = "WorkingDirNotFound"  # workingDir does not exist or leaves the project
    SECRET_NOT_FOUND = "SecretNotFound"  # a valueFrom names nothing # noqa: S105
    NO_WORKERS = "NoWorkers"  # type Pull, and no worker has asked for runs of late
    ADDRESS_REFUSED = "AddressRefused"  # type Http or A2A, and its address may not be reached as declared
    CLUSTER_UNUSABLE = "ClusterUnusable"  # type KubernetesJob, and its kubeconfig or its namespace cannot be used
    CIRCUIT_OPEN = "CircuitOpen"  # type Http or A2A, and its worker failed so often that it is left alone for a while
    NOT_RECONCILED_YET = "NotReconciledYet"  # this version has no executor of that type
    HELD = "Held"  # a Hold stops it
    LAST_GOOD_SERVES = "LastGoodServes"  # the declared generation is not healthy; the last good one serves
    DELETING = "Deleting"  # deletionTimestamp is set
    IN_USE = "InUse"  # deletion waits: agents refer to it


class Capabilities(StatusModel):
    """What the executor can do."""

    cancel: bool = Field(False, description="It can stop a run.")
    streaming: bool = Field(False, description="It shows output while a run goes on.")
    cost_reporting: bool = Field(False, description="It reports what a run cost.")
    resume: bool = Field(False, description="It can go on with a session later.")
    approvals: bool = Field(False, description="It can wait for an approval without holding a process.")


class WorkerSeen(StatusModel):
    """A worker of a Pull executor."""

    name: str = Field(description="What it calls itself.")
    slots: int = Field(1, ge=1, description="How many runs it takes at a time.")
    last_seen: Time = Field(description="When it last asked for a run or renewed one, to 15 s.")


class CircuitState(StrEnum):
    """Whether a worker is sent runs."""

    CLOSED = "Closed"  # it is
    OPEN = "Open"  # it failed too often in a row and is left alone
    HALF_OPEN = "HalfOpen"  # one run tries whether it works again


class Circuit(StatusModel):
    """The circuit breaker of an Http executor; every engine on the store goes by it."""

    state: CircuitState = Field(CircuitState.CLOSED, description="Closed, Open or HalfOpen.")
    failures: int = Field(0, description="Failures in a row.")
    opened_at: Time | None = Field(None, description="When it opened last.")
    open_until: Time | None = Field(None, description="Until when the worker is left alone.")
    trial: str = Field("", description="Uid of the run that tries whether the worker works again.")
    trial_until: Time | None = Field(None, description="From when on another run may try.")
    last_failure: str = Field("", description="What failed last.")


class ExecutorStatus(StatusModel):
    """What is true of it."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    serving_generation: int = Field(0, description="Generation that new runs start with.")
    last_good_generation: int = Field(
        0, description="Generation that serves when the declared one turns out broken; 0 once that one has worked."
    )
    failed_generation: int = Field(0, description="Generation whose run could not be started; 0 is none.")
    failed_at: Time | None = Field(None, description="When that was; after 30 minutes it is tried again.")
    failed_message: str = Field("", description="Why it could not be started.")
    capabilities: Capabilities = Field(default_factory=Capabilities, description="What it can do.")
    workers: tuple[WorkerSeen, ...] = Field((), description="Workers seen within a day, by name; for type Pull.")
    workers_ready: int | None = Field(None, description="How many of them were seen of late; for type Pull.")
    last_worker_seen: Time | None = Field(None, description="When a worker was last seen; for type Pull.")
    circuit: Circuit | None = Field(None, description="Its circuit breaker, once it was sent a run; for type Http.")


KIND = KindInfo(
    kind="Executor",
    plural="executors",
    short_names=("ex",),
    object_class=ObjectClass.INTENT,
    spec=ExecutorSpec,
    status=ExecutorStatus,
    reasons=ExecutorReason,
    description="How work reaches an agent.",
    columns=(
        Column("TYPE", "spec.type"),
        Column("READY", "status.conditions[Ready].status"),
        Column("REASON", "status.conditions[Ready].reason"),
        Column("TIMEOUT", "spec.timeout", wide=True),
        Column("WORKERS", "status.workersReady", "integer", wide=True),
        Column("CIRCUIT", "status.circuit.state", wide=True),
        Column("WORKER SEEN", "status.lastWorkerSeen", "date", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.NEXT_RUN, "type": Disruption.DRAIN},
)
