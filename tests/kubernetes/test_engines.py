"""Engines on a cluster that goes wrong: connections that die without a word, an API server that is killed, an engine
that another one takes over from."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import postgres
from tests.fakes.engine_process import until
from tests.fakes.kubernetes_project import ClusterProject, Place
from tests.fakes.swallowing_line import SwallowingLine

pytestmark = pytest.mark.xdist_group("kubernetes")

FLEET = """
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec:
  type: Command
  command: {argv: [sh, -c, "echo $REMIT_RUN >> $0/runs; echo done", EFFECTS], outputFormat: Text}
---
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata: {name: worker}
spec: {executorRef: {name: local}, maxConcurrentMissions: 4}
"""


def mission(name: str) -> str:
    """A mission for the worker, as YAML."""
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Mission\nmetadata: {{name: {name}}}\n"
        f"spec: {{title: {name}, agentRef: {{name: worker}}, review: None}}\n"
    )


def health(project: ClusterProject) -> dict[str, dict[str, Any]]:
    """What /readyz says of each component; {} while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{project.read_port}/readyz", timeout=10) as answer:
            text = answer.read()
    except urllib.error.HTTPError as refused:
        text = refused.read()
    except OSError:
        return {}
    return {each["name"]: each for each in json.loads(text)["components"]}


def started(project: ClusterProject) -> list[str]:
    """The runs whose program was started, as often as it was."""
    return (project.effects / "runs").read_text().split()


def through(line: SwallowingLine, kube: Place, folder: Path) -> Path:
    """A kubeconfig that goes through a line."""
    config = yaml.safe_load(kube.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{line.port}"
    made = folder / "kubeconfig"
    made.write_text(yaml.safe_dump(config))
    return made


def test_a_watch_that_dies_in_silence_is_noticed_and_an_api_server_that_is_killed_is_outlived(
    kube: Place, make_project: Callable[..., ClusterProject], tmp_path: Path
) -> None:
    server = yaml.safe_load(kube.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    with SwallowingLine(int(server.rpartition(":")[2])) as line:
        project = make_project(kubeconfig=through(line, kube, tmp_path), config={"probeInterval": "4s"})
        project.apply(FLEET.replace("EFFECTS", str(project.effects)), mission("one"))
        engine = project.engine()
        project.shows("one", "Done")
        until(lambda: health(project).get("kubernetes", {}).get("ok"), lambda: health(project))
        assert line.swallow() > 0
        project.apply(mission("two"))
        project.shows("two", "Done")
        until(lambda: health(project).get("kubernetes", {}).get("ok"), lambda: health(project))
        if kube.servers is not None:
            kube.servers.kill()
            until(lambda: health(project)["kubernetes"]["problem"], lambda: health(project))
            kube.servers.start()
        project.apply(mission("three"))
        project.shows("three", "Done")
        assert len(started(project)) == len(set(started(project))) == 3
        project.settles()
        assert engine.stop() == 0, engine.err
        project.is_sound()


def test_of_two_engines_on_one_store_one_acts_and_the_other_takes_over(
    make_project: Callable[..., ClusterProject],
) -> None:
    url = postgres.empty_database()
    try:
        first = make_project(store=url)
        second = make_project(first.namespace, store=url)
        first.apply(FLEET.replace("EFFECTS", str(first.effects)), mission("one"))
        leader = first.engine()
        first.shows("one", "Done")
        other = second.engine()
        until(lambda: health(second).get("lease", {}).get("ok"), lambda: f"standing by is no problem: {health(second)}")
        leader.kill()
        first.apply(mission("two"))
        first.shows("two", "Done")
        assert len(started(first)) == len(set(started(first))) == 2
        lease = first.object("lease", "remit")
        assert lease["spec"]["leaseTransitions"] == 1
        second.settles()
        assert other.stop() == 0, other.err
        assert first.object("lease", "remit")["spec"]["holderIdentity"] == ""
        second.is_sound()
    finally:
        for each in (first, second):
            each.close()
        postgres.drop_database(url)
