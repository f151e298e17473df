"""MakeJob, WatchJob, DeleteJob and TidyJob: the requests to clusters. What the store makes of them is in ``jobs``."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from controllers.dispatch.environment import SecretMissing, SecretUnavailable
from controllers.dispatch.executor import RunOrder
from controllers.dispatch.jobs import document
from controllers.dispatch.jobs.access import Access, Accesses, ClusterProblem
from controllers.dispatch.jobs.cluster import Answer, Cluster, Reach, Said
from controllers.dispatch.jobs.document import Documents
from controllers.dispatch.jobs.seen import Exit, Seen, outcome, read
from controllers.dispatch.supervision.records import check_run_id, gap_line
from controllers.effects import jobs
from controllers.effects.job_logs import JobLogs, Voice
from controllers.effects.job_watch import JobWatch
from controllers.effects.job_watch import Reach as Listen
from controllers.effects.runner import Again, Commit
from controllers.effects.runs import RunContext, end_run, order_of
from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.redaction_level import redactor_of
from controllers.runtime.backoff import Backoff
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from schemas.errors import StoreUnavailable
from schemas.executor import KubernetesJob, OutputFormat
from schemas.resource import SYSTEM
from schemas.run import JobPhase, RunReason, RunState
from store.contract import Effect, Store, Transaction

log = logging.getLogger(__name__)

SECRET_RETRY_S = 15.0
IN_FLIGHT_S = 0.5
LOG_TRIES = 10
"""So often the log of a pod that ended is asked for; then what it says is lost."""
TIDY_TRIES = 20
SLOWEST = 6
"""Times ``pollInterval`` that lie between two looks at most."""
HEARD_S = 60.0
"""Seconds between two looks at what goes on for long, where a watch tells what happens."""
LARGEST_LOG = 32 * 1024 * 1024
_TAIL = 1024 * 1024
_TAIL_LINES = 2_000
_PAUSES = Backoff(0.5, 30.0, jitter=0.2)
_DELETIONS = Backoff(0.2, 10.0, jitter=0.2)


@dataclass(frozen=True, slots=True)
class Listening:
    """What hears of Jobs between two looks, and follows what their pods say."""

    watch: JobWatch
    logs: JobLogs
    reach: Listen


@dataclass(frozen=True, slots=True)
class _Ready:
    """A Job that can be asked for, and where."""

    order: RunOrder
    cluster: Cluster
    namespace: str
    documents: Documents


class JobRuns:
    """Handlers of the outbox for runs of KubernetesJob executors."""

    def __init__(
        self,
        store: Store,
        context: RunContext,
        *,
        accesses: Accesses,
        reach: Reach,
        files: ArtifactFiles,
        state: Path,
        blocking: Blocking,
        clock: Clock,
        random: Random,
        listening: Listening | None = None,
    ) -> None:
        """``state`` is the engine's state directory: logs are kept below it as those of programs are. Without
        ``listening`` everything is found out by looking."""
        self._store = store
        self._context = context
        self._accesses = accesses
        self._reach = reach
        self._files = files
        self._runs = state / "runs"
        self._blocking = blocking
        self._clock = clock
        self._random = random
        self._listening = listening

    # Making.

    async def make(self, effect: Effect) -> Commit | Again | None:
        """Make the Job of a MakeJob effect, or take over the one that an earlier life made."""
        uid = str(effect.payload["runUid"])
        try:
            ready = await self._blocking.run(self._prepare, uid)
        except SecretMissing as missing:
            return await self._cannot(uid, RunReason.SECRET_NOT_FOUND, str(missing))
        except SecretUnavailable as passing:
            return Again(passing.after or SECRET_RETRY_S, str(passing))
        except (ClusterProblem, document.TooLarge) as problem:
            return await self._cannot(uid, RunReason.START_FAILED, str(problem))
        if ready is None:
            return None
        begun = await self._blocking.run(self._begin, uid, ready.namespace)
        if begun is None:
            return None
        found, earlier = begun
        answer, adopted = await self._make(ready, uid)
        if answer.done:
            return functools.partial(jobs.made, run_uid=uid, uid=answer.uid, adopted=adopted)
        if answer.said is Said.REFUSED and earlier:
            there = await ready.cluster.get("Job", found.job.name)
            if there.done and _is_ours(there, uid):
                return functools.partial(jobs.made, run_uid=uid, uid=there.uid, adopted=True)
            if there.said is not Said.MISSING and not there.done:
                answer = replace(there, said=Said.UNSURE)
        tries, limit = found.job.tries, found.executor_spec.retry.max_attempts
        certain = not earlier and answer.said is not Said.UNSURE
        over = answer.said is Said.REFUSED or (certain and tries >= limit and answer.after_s is None)
        ending = None
        if over:
            times = f" after {tries} tries" if tries > 1 else ""
            ending = records.Ending(
                state=RunState.FAILED, reason=answer.reason, message=f"its Job was not made{times}: {answer.why}",
                retryable=answer.said is not Said.REFUSED,
            )  # fmt: skip
        commit = functools.partial(jobs.not_made, run_uid=uid, why=answer.why, certain=certain, ending=ending)
        if ending is not None:
            return commit
        return Again(max(_PAUSES.delay(tries, self._random), answer.after_s or 0.0), answer.why, commit)

    async def _make(self, ready: _Ready, uid: str) -> tuple[Answer, bool]:
        """Make Secret and Job; whether the Job was there already. Each step does nothing where an earlier life did it:
        the Secret is there before its pod asks for it, and goes with the Job from the moment on that there is one."""
        cluster, name = ready.cluster, str(ready.documents.job["metadata"]["name"])
        secret = await self._ours(cluster, ready.documents.secret, uid)
        if not secret.done:
            return secret, False
        job = await cluster.make(ready.documents.job)
        adopted = job.said is Said.CONFLICT
        if adopted:
            job = await self._there(cluster, "Job", name, uid)
        if not job.done:
            return job, False
        owned = await cluster.change("Secret", name, {"metadata": {"ownerReferences": document.owned_by(job.document)}})
        if owned.said in (Said.BUSY, Said.UNSURE):
            return owned, adopted
        return job, adopted

    async def _ours(self, cluster: Cluster, made: Mapping[str, Any], uid: str) -> Answer:
        answer = await cluster.make(made)
        if answer.said is not Said.CONFLICT:
            return answer
        return await self._there(cluster, str(made["kind"]), str(made["metadata"]["name"]), uid)

    async def _there(self, cluster: Cluster, kind: str, name: str, uid: str) -> Answer:
        """What is there under a name that is taken: it counts as made when it is of this run."""
        found = await cluster.get(kind, name)
        if found.said is Said.MISSING:
            return Answer(Said.UNSURE, f"the {kind} {name} came and went")
        if found.done and not _is_ours(found, uid):
            return Answer(Said.REFUSED, f"there is a {kind} {name} already, and it is not of this run: delete it")
        if found.done and document.metadata_of(found.document).get("deletionTimestamp"):
            return Answer(Said.BUSY, f"the {kind} {name} is being deleted")
        return found

    def _prepare(self, uid: str) -> _Ready | None:
        """Everything that the requests need; None when there is none to make. Raises SecretMissing, SecretUnavailable,
        ClusterProblem, TooLarge, Terminal."""
        with self._store.snapshot() as snapshot:
            found = jobs.find(snapshot, uid)
            if found is None:
                return None
            order = order_of(snapshot, found.run, self._context)
            label = jobs.store_of(snapshot)
            namespace = found.job.namespace or self._accesses.namespace(found.executor.namespace, found.declared)
            mission = snapshot.get_by_uid(found.spec.mission_uid)
            owner = None
            if mission is not None and found.declared.kubeconfig is None:
                owner = document.owner_of(mission, namespace)
        made = document.documents(order, namespace=namespace, name=found.job.name, store=label, owner=owner)
        access = self._access(found)
        return _Ready(order, self._reach(access, namespace), namespace, made)

    def _begin(self, uid: str, namespace: str) -> tuple[jobs.Carried, bool] | None:
        with self._store.transaction(SYSTEM) as tx:
            return jobs.begin(tx, uid, namespace, self._context.stops)

    async def _cannot(self, uid: str, reason: RunReason, why: str) -> Commit | Again | None:
        """End a run whose Job cannot be asked for. Where an earlier request may have made it, it is waited for what the
        cluster says of it."""
        found = await self._blocking.run(self._find, uid)
        if found is None:
            return None
        if found.job.sent_at is not None:
            waits = functools.partial(jobs.not_made, run_uid=uid, why=why, certain=False, ending=None)
            return Again(SECRET_RETRY_S, why, waits)
        ending = records.Ending(state=RunState.FAILED, reason=reason, message=why, retryable=False)
        return functools.partial(end_run, uid=uid, ending=ending)

    # Watching.

    async def watch(self, effect: Effect) -> Commit | Again | None:
        """Look after the Job of a WatchJob effect, over and over until it is over."""
        uid = str(effect.payload["runUid"])
        found = await self._blocking.run(self._find, uid)
        if found is None or found.job.phase is JobPhase.DELETING:
            return None
        interval_s = self._interval_s(found)
        cluster, why = await self._cluster(found)
        if cluster is None:
            return self._later(uid, interval_s, Answer(Said.BUSY, why))
        heard = await self._listen(found)
        seen = await self._look(cluster, found)
        if isinstance(seen, Answer):
            if seen.said is Said.MISSING:
                await self._fall_silent(uid)
                return functools.partial(jobs.gone, run_uid=uid)
            return self._later(uid, interval_s, seen)
        if seen.exit is not None:
            return await self._over(cluster, found, seen, seen.exit)
        if heard and seen.phase is not JobPhase.WAITING:  # how long it waits for its pod counts
            interval_s = max(interval_s, HEARD_S)
        await self._follow(found, seen)
        return Again(interval_s, seen.why, functools.partial(jobs.progress, run_uid=uid, seen=seen))

    def _interval_s(self, found: jobs.Carried) -> float:
        """Seconds until the next look: what has gone on for long is looked at less often."""
        least = found.declared.poll_interval.total_seconds()
        age_s = (self._clock.now() - (found.job.created_at or self._clock.now())).total_seconds()
        return min(max(least, age_s / 60), SLOWEST * least)

    async def _listen(self, found: jobs.Carried) -> bool:
        """Have what happens where its Job is told; whether it is told by now, ahead of the look that comes."""
        if self._listening is None:
            return False
        with contextlib.suppress(SecretMissing, SecretUnavailable, ClusterProblem):
            access = await self._blocking.run(self._access, found)
            self._listening.watch.attend(access, found.job.namespace)
            return self._listening.watch.hears(access, found.job.namespace)
        return False

    async def _follow(self, found: jobs.Carried, seen: Seen) -> None:
        """Follow what its pod says, while it runs."""
        if self._listening is None or seen.phase is not JobPhase.RUNNING or not seen.pod:
            return
        with contextlib.suppress(SecretMissing, SecretUnavailable, ClusterProblem):
            streams = self._listening.reach(await self._blocking.run(self._access, found), found.job.namespace)
            voice = Voice(streams, seen.pod, seen.container, found.declared.max_output // 2)
            self._listening.logs.follow(found.run.uid, voice)

    async def _fall_silent(self, run_uid: str) -> None:
        if self._listening is not None:
            await self._listening.logs.stop(run_uid)

    def _later(self, uid: str, interval_s: float, answer: Answer) -> Again:
        pause_s = max(interval_s * self._random.uniform(1.0, 1.5), answer.after_s or 0.0)
        return Again(pause_s, answer.why, functools.partial(jobs.unheard, run_uid=uid, why=answer.why))

    async def _look(self, cluster: Cluster, found: jobs.Carried) -> Seen | Answer:
        """How its Job stands; MISSING when there is none, or another one of that name; else what went wrong."""
        job = await cluster.get("Job", found.job.name)
        if job.done and (job.uid != found.job.uid if found.job.uid else not _is_ours(job, found.run.uid)):
            return Answer(Said.MISSING)
        if not job.done:
            return job
        pods = await cluster.pods(found.job.name)
        if not pods.done:
            return pods if pods.said is not Said.MISSING else replace(pods, said=Said.UNSURE)
        mine = [pod for pod in pods.items if job.uid in _owners(pod)]
        grace = found.declared.start_grace
        return read(job.document, mine, now=self._clock.now(), grace=grace, started=found.started)

    async def _over(self, cluster: Cluster, found: jobs.Carried, seen: Seen, exit_: Exit) -> Commit | Again:
        """Collect the log of a Job that is over, and end the run."""
        uid, format_ = found.run.uid, found.declared.output_format
        text, why = await self._log(cluster, found.declared, seen, exit_)
        if text is None and found.job.log_tries < LOG_TRIES:
            pause_s = _PAUSES.delay(found.job.log_tries + 1, self._random)
            return Again(pause_s, why, functools.partial(jobs.read_in_vain, run_uid=uid))
        await self._fall_silent(uid)
        kept, missing = await self._blocking.run(self._keep, found, text or b"")
        size = len(text or b"")
        record = replace(exit_.record, run=uid, stdout_bytes=size, stdout_dropped=missing)
        ended = outcome(replace(exit_, record=record), format_, kept, found.run.name)
        ending = records.Ending.of(ended)
        if text is None and ended.state in (RunState.SUCCEEDED, RunState.FAILED):
            ending = replace(ending, message=f"{ending.message}; its log could not be read: {why}".removeprefix("; "))
            if exit_.record.exit_code == 0 and format_ is not OutputFormat.REMIT and not exit_.said:
                reason = RunReason.OUTPUT_INVALID
                ending = replace(ending, state=RunState.FAILED, reason=reason, retryable=False)
        ending = await self._blocking.run(records.prepare, self._store, self._files, uid, ending)
        return functools.partial(jobs.end, run_uid=uid, ending=ending)

    async def _log(
        self, cluster: Cluster, declared: KubernetesJob, seen: Seen, exit_: Exit
    ) -> tuple[bytes | None, str]:
        """The log of the agent's container, of one beyond the bound its beginning and its end; None when it cannot be
        read now, and why."""
        if not exit_.container:
            return b"", ""
        if not seen.pod:
            return (None if exit_.record.exit_code == 0 else b""), "its pod is gone"
        most = min(LARGEST_LOG, max(4 * declared.max_output, _TAIL))
        answer = await cluster.log(seen.pod, exit_.container, limit=most)
        if not answer.done:
            gone = answer.said is Said.MISSING and exit_.record.exit_code is None
            return (b"" if gone else None), answer.why
        if len(answer.data) < most:
            return answer.data, ""
        tail = await cluster.log(seen.pod, exit_.container, limit=_TAIL, lines=_TAIL_LINES)
        return answer.data + (tail.data if tail.done else b""), ""

    def _keep(self, found: jobs.Carried, text: bytes) -> tuple[bytes, int]:
        """Keep the log as ``remit logs`` prints it, without secrets; and how many bytes are missing in it. Idempotent;
        blocks. Raises StoreUnavailable."""
        with self._store.snapshot() as snapshot:
            redactor = redactor_of(snapshot, found.run)
        kept, missing = _cut(text, found.declared.max_output)
        kept = self._files.content(kept.decode("utf-8", "replace").encode(), redactor, found.run.namespace)
        if kept:
            self._write(found.run.uid, kept)
        return kept, missing

    def _write(self, run_uid: str, data: bytes) -> None:
        folder = self._runs / check_run_id(run_uid)
        try:
            self._runs.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            aside = folder / f".stdout.{os.getpid()}"
            aside.unlink(missing_ok=True)
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(data)
            aside.replace(folder / "stdout.log")
        except OSError as error:
            raise StoreUnavailable(f"the log in {folder} cannot be written: {error.strerror}") from error

    # Deleting.

    async def delete(self, effect: Effect) -> Commit | Again | None:
        """Delete the Job of a DeleteJob effect, until it is gone or the run has ended otherwise."""
        uid = str(effect.payload["runUid"])
        found = await self._blocking.run(self._find, uid)
        if found is None:
            return None
        if found.job.sent_at is not None:
            return Again(IN_FLIGHT_S, "it is being made")  # deleted now, it might be made afterwards
        cluster, why = await self._cluster(found)
        if cluster is None:
            return self._later(uid, SECRET_RETRY_S, Answer(Said.BUSY, why))
        await self._listen(found)
        seen = await self._look(cluster, found)
        if isinstance(seen, Answer):
            if seen.said is Said.MISSING:
                await self._fall_silent(uid)
                await self._drop_secret(cluster, found.job.name, uid)
                return functools.partial(jobs.gone, run_uid=uid)
            return self._later(uid, _DELETIONS.delay(effect.tries, self._random), seen)
        if seen.started_at is not None and not found.started:
            return Again(0.0, "it runs", functools.partial(jobs.saw_start, run_uid=uid, seen=seen))
        if seen.exit is not None and not found.job.ends_as:  # it was over before it was stopped
            return await self._over(cluster, found, seen, seen.exit)
        if seen.phase is not JobPhase.DELETING:
            await self._last_words(cluster, found, seen)
            answer = await cluster.delete("Job", found.job.name, found.job.uid)
            if not answer.done and answer.said is not Said.MISSING:
                return self._later(uid, _DELETIONS.delay(effect.tries, self._random), answer)
        return Again(_DELETIONS.delay(min(effect.tries, 10), self._random), "it is being deleted")

    async def _last_words(self, cluster: Cluster, found: jobs.Carried, seen: Seen) -> None:
        """Keep the log of a pod that is to go, as far as it can be had."""
        if not seen.pod or seen.started_at is None:
            return
        answer = await cluster.log(seen.pod, seen.container, limit=LARGEST_LOG)
        if answer.done:
            await self._fall_silent(found.run.uid)
            with contextlib.suppress(StoreUnavailable):
                await self._blocking.run(self._keep, found, answer.data)

    # Afterwards.

    async def tidy(self, effect: Effect) -> Commit | Again | None:
        """Leave the Job of an ended run to the cluster: its Secret goes now, it goes in its time."""
        namespace, name, uid = (str(part) for part in effect.payload["job"])
        declared = _declared(effect.payload["kubernetesJob"])
        spaces = (str(effect.payload["executor"][0]), str(effect.payload["runNamespace"]))
        try:
            access = await self._blocking.run(self._accesses.of, spaces, declared)
        except (SecretMissing, SecretUnavailable, ClusterProblem) as problem:
            return self._tidy_later(effect, str(problem))
        cluster = self._reach(access, namespace)
        answer = await self._drop_secret(cluster, name, str(effect.payload["runUid"]))
        if uid and (answer.done or answer.said is Said.MISSING):
            ttl = int(effect.payload["ttl"])
            if not ttl:
                answer = await cluster.delete("Job", name, uid)
            else:
                wanted = {"metadata": {"uid": uid}, "spec": {"ttlSecondsAfterFinished": ttl}}
                answer = await cluster.change("Job", name, wanted)
        if answer.said in (Said.BUSY, Said.UNSURE):
            return self._tidy_later(effect, answer.why, answer.after_s)
        if answer.said is Said.REFUSED:
            log.warning("the Job %s/%s of a run that ended is left as it is: %s", namespace, name, answer.why)
        return None

    async def _drop_secret(self, cluster: Cluster, name: str, run_uid: str) -> Answer:
        """Remove the Secret of a run, unless what has its name is not of it."""
        found = await cluster.get("Secret", name)
        if not found.done or not _is_ours(found, run_uid):
            return found
        return await cluster.delete("Secret", name, found.uid)

    def _tidy_later(self, effect: Effect, why: str, after_s: float | None = None) -> Again | None:
        if effect.tries >= TIDY_TRIES:
            log.warning("%s: given up: %s", effect.key, why)
            return None
        return Again(max(_PAUSES.delay(effect.tries, self._random), after_s or 0.0), why)

    # Both.

    def _find(self, uid: str) -> jobs.Carried | None:
        with self._store.snapshot() as snapshot:
            return jobs.find(snapshot, uid)

    async def _cluster(self, found: jobs.Carried) -> tuple[Cluster | None, str]:
        """Where its Job is; None when that cannot be told now, and why."""
        try:
            access = await self._blocking.run(self._access, found)
        except (SecretMissing, SecretUnavailable, ClusterProblem) as problem:
            return None, str(problem)
        return self._reach(access, found.job.namespace), ""

    def _access(self, found: jobs.Carried) -> Access:
        return self._accesses.of((found.executor.namespace, found.run.namespace), found.declared)

    def give_up(self, tx: Transaction, effect: Effect, message: str) -> None:
        """A run whose Job cannot be made for good ends; one that may have been is lost."""
        found = jobs.find(tx, str(effect.payload.get("runUid")))
        if found is None or effect.type == jobs.TIDY:
            return
        if found.job.sent_at is not None or found.job.uid:
            jobs.end(tx, found.run.uid, jobs.lost(found, message))
            return
        ending = records.Ending(state=RunState.FAILED, reason=RunReason.START_FAILED, message=message)
        end_run(tx, found.run.uid, ending)


def _declared(wire: Mapping[str, Any]) -> KubernetesJob:
    """The part of a block that says where a cluster is."""
    template = {"spec": {"containers": [{"name": "any", "image": "any"}]}}
    return KubernetesJob.model_validate({**wire, "podTemplate": template})


def _cut(text: bytes, most: int) -> tuple[bytes, int]:
    """The beginning and the end of a log that is longer than ``most``, and how many bytes lie between."""
    if len(text) <= most:
        return text, 0
    half = most // 2
    missing = len(text) - 2 * half
    return text[:half] + gap_line(missing) + text[-half:], missing


def _is_ours(answer: Answer, run_uid: str) -> bool:
    labels = document.metadata_of(answer.document).get("labels")
    return isinstance(labels, Mapping) and labels.get(document.RUN_LABEL) == run_uid


def _owners(found: Mapping[str, Any]) -> set[str]:
    references = document.metadata_of(found).get("ownerReferences")
    return {str(r.get("uid")) for r in references if isinstance(r, Mapping)} if isinstance(references, list) else set()
