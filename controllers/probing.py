"""What this engine can do with a declared executor, of any type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.environment import SecretMissing
from controllers.dispatch.http import POSTED, HttpExecutor
from controllers.dispatch.jobs.executor import KubernetesJobExecutor
from controllers.dispatch.pull import PullExecutor
from controllers.reconcilers.executors import Probe
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec, ExecutorType
from schemas.run import RunReason

_REASONS = {
    RunReason.PROGRAM_NOT_FOUND: ExecutorReason.PROGRAM_NOT_FOUND,
    RunReason.SECRET_NOT_FOUND: ExecutorReason.SECRET_NOT_FOUND,
}


@dataclass(frozen=True, slots=True)
class Probes:
    """A ``reconcilers.executors.Prober``, over the executors of an engine."""

    project: Path
    command: CommandExecutor
    pull: PullExecutor
    http: HttpExecutor
    jobs: KubernetesJobExecutor

    def __call__(self, spec: ExecutorSpec, namespace: str) -> Probe:
        """Look at the machine. Asks no service."""
        wire = spec.to_wire()
        if spec.type is ExecutorType.COMMAND:
            return self._command(wire, namespace)
        if spec.type is ExecutorType.PULL:
            capabilities, refused = self.pull.capabilities(wire), ExecutorReason.NOT_RECONCILED_YET
            return _checked(lambda: self.pull.check(wire, self.project, namespace), capabilities, refused)
        if spec.type in POSTED:
            capabilities, refused = self.http.capabilities(wire), ExecutorReason.ADDRESS_REFUSED
            return _checked(lambda: self.http.check(wire, self.project, namespace), capabilities, refused)
        if spec.type is ExecutorType.KUBERNETES_JOB:
            capabilities, refused = self.jobs.capabilities(wire), ExecutorReason.CLUSTER_UNUSABLE
            return _checked(lambda: self.jobs.check(wire, namespace), capabilities, refused)
        message = f"accepted and stored; this version does not run type {spec.type} yet"
        return Probe(ExecutorReason.NOT_RECONCILED_YET, message, Capabilities())

    def _command(self, wire: dict[str, Any], namespace: str) -> Probe:
        problem, capabilities = self.command.problem(wire, self.project, namespace), self.command.capabilities(wire)
        if problem is None:
            return Probe(ExecutorReason.RECONCILED, "", capabilities)
        reason = _REASONS.get(problem.reason, ExecutorReason.WORKING_DIR_NOT_FOUND)
        return Probe(reason, str(problem), capabilities)


def _checked(check: Callable[[], str], capabilities: Capabilities, refused: ExecutorReason) -> Probe:
    """``check`` says what stands in the way of every run, "" for nothing; ``refused`` is the reason then."""
    try:
        problem = check()
    except SecretMissing as missing:
        return Probe(ExecutorReason.SECRET_NOT_FOUND, str(missing), capabilities)
    return Probe(refused if problem else ExecutorReason.RECONCILED, problem, capabilities)
