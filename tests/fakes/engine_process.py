"""Real engines for tests: a project folder with a real repository, `remit` processes in it, and a look at their store.

Nothing here runs in the test's process but reading. Every process that a project brought forth, at any remove, can be
found by the project's folder (it stands in the arguments or the environment of each), and is ended with the test.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from controllers.runtime.clock import SystemClock
from schemas import condition_check, registry
from schemas.base import Key
from schemas.errors import StoreError
from schemas.resource import Resource
from schemas.run import ENDED, RunState
from store import open_store
from store.contract import Event, Snapshot, Store
from tests.fakes import forking
from tests.fakes.ports import free_port as free_port
from tests.fakes.repos import Repo

T = TypeVar("T")

BIN = Path(sys.executable).parent
REMIT = BIN / "remit"
SLOW = 180.0
"""Longest wait for what takes a second on an idle machine: a test that is green never waits it out."""
LOOKING = 9
"""Pause after a look, in looks: a tenth of a processor goes into looking."""
LONGEST_PAUSE = 1.0


def pause(seconds: float) -> None:
    """Let real processes work."""
    time.sleep(seconds)  # noqa: TID251 - real processes take real time


def until(fact: Callable[[], T], what: str | Callable[[], object], seconds: float = SLOW, every_s: float = 0.02) -> T:
    """The first truthy value of ``fact()``; fails naming ``what`` (asked then) when there is none in time. The dearer a
    look, the longer the pause after it: looking leaves the processor to what is looked at."""
    ends = time.monotonic() + seconds
    while True:
        began = _spent_s()
        value = fact()
        if value:
            return value
        assert time.monotonic() < ends, f"waited {seconds:g} s in vain for {what() if callable(what) else what}"
        pause(max(every_s, min(LOOKING * (_spent_s() - began), LONGEST_PAUSE)))


def _spent_s() -> float:
    """Processor time of this process and of the children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def processes_of(folder: Path) -> dict[int, str]:
    """Living processes (zombies are none) that name the folder in their arguments or environment: pid -> command."""
    found = {}
    wanted = os.fsencode(folder)
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            place = Path("/proc", entry)
            command = (place / "cmdline").read_bytes()
            if command and (wanted in command or wanted in (place / "environ").read_bytes()):
                found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Engine:
    """One `remit run`. Its output lies in files beside the project."""

    def __init__(self, process: forking.Process, out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        """What it said so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it complained about so far."""
        return self._err.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def says(self, text: str, seconds: float = SLOW) -> str:
        """Wait until it has said ``text``; everything it said."""

        def said() -> str:
            assert self.alive or text in self.out, f"the engine ended ({self.process.returncode}): {self.out}{self.err}"
            return self.out if text in self.out else ""

        return until(said, f"{text!r} in the engine's account", seconds)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and see it gone."""
        self.process.kill()
        self.process.wait()

    def ends(self, seconds: float = SLOW) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(timeout=seconds)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end, and wait for that; the exit code."""
        self.send(number)
        return self.ends()


class Project:
    """A project with specs in a git repository, on ports of its own. ``root`` is the folder; programs may leave what
    they do in ``effects``, which lies outside. ``store`` is the URL of a store on a server; ``beside`` is a project
    whose repository and effects this one shares, as an engine on another machine would. Commands are forked (see
    ``forking``); ``plain``: the installed one is started, for what is about starting."""

    def __init__(
        self, folder: Path, *, make: bool = True, interval: str = "60s", store: str = "",
        beside: Project | None = None, plain: bool = False,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.plain = plain
        self.root = folder / "project"
        self.effects = folder / "effects" if beside is None else beside.effects
        self.store_url = store
        self.home = folder / "home"
        for path in (self.root, self.effects, self.home):
            path.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.read_port = free_port()
        self.engines: list[Engine] = []
        self._store: Store | None = None
        self._numbers = itertools.count(1)
        if make:
            self.repo = Repo(self.root / "specs") if beside is None else beside.repo
            url = self.repo.path if store else "specs"
            (self.root / "remit.yaml").write_text(
                f"source:\n  git: {{url: {url}, ref: main, interval: {interval}}}\n"
                f"agentListen: 127.0.0.1:{self.port}\nlisten: 127.0.0.1:{self.read_port}\n"
            )

    @property
    def environment(self) -> dict[str, str]:
        """What its commands get: nothing of the test's own but where programs and code lie."""
        path = f"{BIN}:{os.environ.get('PATH', os.defpath)}"
        given = {"PATH": path, "HOME": str(self.home), "USER": "alice", "LOGNAME": "alice", "LC_ALL": "C.UTF-8"}
        given["REMIT_LISTEN"] = f"127.0.0.1:{self.read_port}"  # also for a project that has no file of ours
        if "PYTHONPATH" in os.environ:  # a checkout that is not the installed one
            given["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return {**given, "REMIT_STORE": self.store_url} if self.store_url else given

    # Processes.

    def engine(self, *flags: str, ready: bool = True, stdout: Any = None, remit: Sequence[str] = ()) -> Engine:
        """Start a `remit run`; ``ready`` waits until it works; ``remit`` stands for the command itself."""
        number = next(self._numbers)
        out, err = self.folder / f"engine-{number}.out", self.folder / f"engine-{number}.err"
        out.touch()
        with out.open("ab") as out_file, err.open("ab") as err_file:
            process: forking.Process
            if remit:
                process = subprocess.Popen(
                    [*remit, "run", *flags],
                    cwd=self.root,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out_file if stdout is None else stdout,
                    stderr=err_file,
                    start_new_session=True,
                )
            else:
                process = self.start("run", *flags, stdout=out_file if stdout is None else stdout, stderr=err_file)
        engine = Engine(process, out, err)
        self.engines.append(engine)
        if ready:
            engine.says("agents report to")
        return engine

    def start(self, *arguments: str, stdout: Any, stderr: Any, **environment: str) -> forking.Process:
        """Start a command; ``environment`` goes beside the project's own."""
        given = {**self.environment, **environment}
        return forking.start(arguments, given, self.root, stdout=stdout, stderr=stderr, plain=self.plain)

    def remit(self, *arguments: str, stdin: str = "", seconds: float = SLOW) -> Ended:
        """Run a command to its end."""
        given = self.environment
        return Ended(*forking.run(arguments, given, self.root, stdin=stdin, seconds=seconds, plain=self.plain))

    def good(self, *arguments: str, **options: Any) -> str:
        """Run a command that has to succeed; what it printed."""
        done = self.remit(*arguments, **options)
        assert done.code == 0, f"remit {' '.join(arguments)}: {done}"
        return done.out

    def processes(self) -> dict[int, str]:
        """Everything that runs because of this project."""
        return processes_of(self.root)

    def agents(self) -> dict[int, str]:
        """The agent programs among them, with what those started."""
        found = {}
        for pid, text in self.processes().items():
            with contextlib.suppress(OSError):
                if b"REMIT_RUN=" in Path(f"/proc/{pid}/environ").read_bytes():
                    found[pid] = text
        return found

    def supervisors(self) -> list[int]:
        """The supervisor and its guardian; the guardian is the older one."""
        return sorted(pid for pid, text in self.processes().items() if "dispatch/supervisor.py" in text)

    def nothing_is_left(self, seconds: float = SLOW) -> None:
        """Wait until nothing of the project runs any more."""
        until(lambda: not self.processes(), lambda: f"the end of {self.processes()}", seconds)

    def close(self) -> None:
        """End whatever is left, and let go. Prints what the engines said, for a test that failed."""
        for engine in self.engines:
            if engine.alive:
                engine.kill()
            print(f"--- engine {engine.pid}, exit code {engine.process.returncode}\n{engine.out[-6000:]}{engine.err}")
        for _ in range(200):
            left = self.processes()
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            pause(0.02)
        if self._store is not None:
            self._store.close()

    # Specs.

    def commit(self, files: dict[str, str] | None = None, *, delete: tuple[str, ...] = ()) -> str:
        """Commit files to the branch as a person would; the commit's id."""
        for name, text in (files or {}).items():
            self.repo.write(name, text)
        for name in delete:
            (self.repo.path / name).unlink()
        self.repo.git("add", "-A")
        self.repo.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.repo.head

    # Looking.

    @property
    def database(self) -> Path:
        return self.root / ".remit" / "state.db"

    def close_store(self) -> None:
        """Let go of the store: somebody else needs it alone."""
        if self._store is not None:
            self._store.close()
            self._store = None

    @contextmanager
    def look(self) -> Iterator[Snapshot]:
        """What the store holds now."""
        if self._store is None:
            self._store = open_store(
                self.store_url or f"sqlite:///{self.database}",
                now=SystemClock().now,
                new_id=lambda: "unused",
                read_only=True,
            )
        with self._store.snapshot() as snapshot:
            yield snapshot

    def find(self, kind: str, name: str, namespace: str = "default") -> Resource | None:
        """The object; None as well while there is no store yet."""
        try:
            with self.look() as snapshot:
                return snapshot.get(Key(kind, namespace, name))
        except StoreError:
            return None

    def get(self, kind: str, name: str) -> Resource:
        """The object."""
        found = self.find(kind, name)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def objects(self, kind: str) -> list[Resource]:
        """Objects of a kind."""
        with self.look() as snapshot:
            return snapshot.objects(kind)

    def state(self, mission: str) -> str:
        """State of a mission, "" while there is none."""
        found = self.find("Mission", mission)
        return found.state if found is not None else ""

    def states(self) -> Counter[str]:
        """How many missions are in which state; none while there is no store yet."""
        try:
            return Counter(m.state for m in self.objects("Mission"))
        except StoreError:
            return Counter()

    def comes_to(self, mission: str, state: str, seconds: float = SLOW) -> None:
        """Wait until a mission is in a state."""
        until(
            lambda: self.state(mission) == state, lambda: f"{mission} to be {state}, not {self.state(mission)}", seconds
        )

    def events(self, *types: str) -> list[Event]:
        """Events of these types, oldest first."""
        with self.look() as snapshot:
            return snapshot.events(types=list(types) or None, limit=100_000)

    def source(self) -> dict[str, Any]:
        """Status of the source; {} while there is none."""
        found = self.find("Source", "default")
        return found.status if found is not None else {}

    def ready(self) -> tuple[str, str, str]:
        """(status, reason, message) of the source's Ready condition."""
        for condition in self.source().get("conditions", ()):
            if condition["type"] == "Ready":
                return condition["status"], condition["reason"], condition.get("message", "")
        return "", "", ""

    def applied(self, commit: str, seconds: float = SLOW) -> None:
        """Wait until a commit was looked at."""
        until(lambda: str(self.source().get("revision", "")).endswith(commit), f"the sync of {commit}", seconds)

    def unsettled(self) -> list[str]:
        """What an engine has still to write down, in transactions of its own, when all missions look finished: passes
        over what was declared, runs, reservations, and the booking of effects."""
        with self.look() as snapshot:
            declared = [r for kind in ("Executor", "Agent", "Mission") for r in snapshot.objects(kind)]
            runs = snapshot.objects("Run")
            reserved = snapshot.open_reservations()
            effects = snapshot.effects(limit=100_000)
        return [
            *(r.key.short for r in declared if r.status.get("observedGeneration") != r.generation),
            *(r.key.short for r in runs if RunState(r.state) not in ENDED),
            *(e.key for e in reserved),
            *(e.key for e in effects if e.state in ("Pending", "Claimed")),
        ]

    def settles(self, seconds: float = SLOW) -> None:
        """Wait until a living engine has written down all that it did."""
        until(lambda: not self.unsettled(), lambda: f"the engine to book {self.unsettled()}", seconds)

    def ends_well(self, *engines: Engine, number: signal.Signals = signal.SIGINT) -> None:
        """Let the engines (the last one, unless others are named) book what they did, end them, and look at what they
        leave."""
        self.settles()
        for engine in engines or (self.engines[-1],):
            assert engine.stop(number) == 0, engine.err
        self.is_sound()

    def is_sound(self, *, rests: bool = True) -> None:
        """What must hold of a store whatever was done to its engines; ``rests``: nobody works on it any more, once the
        engines that live have written down what they did."""
        if rests and any(engine.alive for engine in self.engines):
            self.settles()
        with self.look() as snapshot:
            resources = [r for name in registry.NAMES for r in snapshot.objects(name.kind)]
            report = snapshot.verify_events()
            finished = Counter(e.subject_uid for e in snapshot.events(types=["RunFinished"], limit=100_000))
            reserved = {e.key for e in snapshot.open_reservations()}
            effects = snapshot.effects(limit=100_000)
        assert condition_check.all_problems(resources) == []
        assert (report.broken_seq, report.problem) == (0, "")
        runs = [r for r in resources if r.kind == "Run"]
        missions = [m for m in resources if m.kind == "Mission"]
        for run in runs:
            ended = RunState(run.state) in ENDED
            assert finished[run.uid] == int(ended), f"{run.name} is {run.state} and ended {finished[run.uid]} times"
            assert ended != (f"reserve/run/{run.uid}" in reserved), f"reservation of {run.name}, which is {run.state}"
        current = {(m.namespace, m.status.get("currentRun")) for m in missions}
        for run in runs:
            assert RunState(run.state) in ENDED or (run.namespace, run.name) in current, f"{run.name} is nobody's"
        if rests:
            assert [r.name for r in runs if RunState(r.state) not in ENDED] == []
            assert [e.key for e in effects if e.state in ("Pending", "Claimed")] == []
            assert not reserved

    # Effects of programs.

    def lines(self) -> dict[str, list[str]]:
        """What programs appended: file name -> lines."""
        return {path.name: path.read_text().splitlines() for path in sorted(self.effects.iterdir())}
