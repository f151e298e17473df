"""What the installation promises, as its files say it; tests/kubernetes/test_acts.py has a server take them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import crd, registry
from schemas.config import Config
from schemas.kind import ObjectClass

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "manifests" / "install"


def documents(path: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all((INSTALL / path).read_text()) if each]


def roles() -> dict[str, list[dict[str, Any]]]:
    return {each["metadata"]["name"]: each["rules"] for each in documents("rbac/people.yaml")}


def may(role: str, verb: str, plural: str) -> bool:
    return any(
        verb in rule["verbs"] and (plural in rule["resources"] or "*" in rule["resources"]) for rule in roles()[role]
    )


SERVED = [registry.by_kind(kind) for kind in crd.SERVED]


@pytest.mark.parametrize("info", SERVED, ids=lambda info: info.kind)
def test_roles_know_every_kind(info: Any) -> None:
    assert all(may(role, "watch", info.plural) for role in roles())
    assert not may("remit-viewer", "create", info.plural)
    wanted = info.object_class is not ObjectClass.RECORD
    assert may("remit-admin", "create", info.plural) is wanted
    act_once = info.kind in ("ApprovalDecision", "Confirmation")
    assert may("remit-admin", "update", info.plural) is (wanted and not act_once)
    assert may("remit-approver", "create", info.plural) is (info.kind == "ApprovalDecision")
    guards = {"Policy", "Budget", "Tenant", "Waiver", "Agent", "Executor", "Source", "Provider", "Channel",
              "ToolServer", "ApprovalDecision", "Confirmation", "Run", "ApprovalRequest", "Alert"}  # fmt: skip
    assert may("remit-operator", "create", info.plural) is (info.kind not in guards)


def test_webhooks_ask_about_every_kind_that_people_write_and_no_act_goes_by_unasked() -> None:
    (config,) = [each for each in documents("base/admission.yaml") if each["kind"] != "Secret"]
    asked: dict[tuple[str, str], str] = {}
    for webhook in config["webhooks"]:
        assert webhook["sideEffects"] == "NoneOnDryRun"
        for rule in webhook["rules"]:
            for plural in rule["resources"]:
                for operation in rule["operations"]:
                    assert (plural, operation) not in asked
                    asked[plural, operation] = webhook["failurePolicy"]
    written = {info.plural for info in SERVED if info.object_class is not ObjectClass.RECORD}
    assert {plural for plural, _ in asked} == written
    closed = {pair for pair, policy in asked.items() if policy == "Fail"}
    acts = {
        (plural, op) for plural in ("approvaldecisions", "confirmations", "missions") for op in ("CREATE", "UPDATE")
    }
    assert closed == acts | {("holds", "UPDATE"), ("holds", "DELETE")}


@pytest.mark.parametrize("path", ["base/remit.yaml", "components/cert-manager/remit.yaml"])
def test_the_configuration_is_one_that_the_engine_takes(path: str) -> None:
    config = Config.model_validate(*documents(path))
    assert config.admission is not None
    assert config.admission.registration is not None
    assert config.listen_token is not None


def test_the_engine_runs_with_as_little_as_it_needs() -> None:
    (deployment,) = documents("base/deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert {"requests", "limits"} <= set(container["resources"])
    named = {port["containerPort"] for port in container["ports"]}
    (settings,) = documents("base/remit.yaml")
    listens = (settings["listen"], settings["agentListen"], settings["admission"]["listen"])
    assert named == {int(listen.rpartition(":")[2]) for listen in listens}


def test_one_file_has_one_engine_and_a_database_has_two() -> None:
    (embedded,) = documents("overlays/embedded/deployment.yaml")
    (shared,) = documents("overlays/postgresql/deployment.yaml")
    assert (embedded["spec"]["replicas"], embedded["spec"]["strategy"]["type"]) == (1, "Recreate")
    assert shared["spec"]["replicas"] == 2


# The image. No builder of images is at hand where these tests run: they read what it would do.


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_image_is_built_from_locks_and_runs_as_nobody_in_particular() -> None:
    found = instructions()
    assert [what for what, _ in found].count("FROM") == 2
    last = len(found) - 1 - [what for what, _ in reversed(found)].index("FROM")
    final = found[last:]
    installs = [text for what, text in found if what == "RUN" for text in text.split("&&") if "pip install" in text]
    assert len(installs) == 3
    assert all("--require-hashes" in text or "--no-index" in text for text in installs)
    assert ("USER", "65532:65532") in final
    assert ("ENTRYPOINT", '["remit"]') in final
    assert not any("pip" in text for _, text in final)
    assert any(what == "LABEL" and "org.opencontainers.image.licenses" in text for what, text in final)
    assert not any(what == "ADD" for what, _ in found)
    assert not re.search(r"https?:|[a-z0-9]\.(io|com|org)/", (ROOT / "Dockerfile").read_text())
    (deployment,) = documents("base/deployment.yaml")
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 65532


def test_the_image_gets_what_the_wheels_are_made_of_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    folders = {"api", "cli", "client", "controllers", "decisions", "schemas", "specs", "store"}
    assert folders < taken
    assert all((ROOT / name).exists() for name in taken)
    assert not {"tests", ".git", "docs"} & taken


def test_the_lock_of_the_image_is_a_part_of_the_lock_and_holds_no_tool_of_developers() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / name).read_text(), re.MULTILINE))

    run, everything = pins("requirements-run.lock"), pins("requirements.lock")
    assert run.items() <= everything.items()
    assert {"cryptography", "kopf", "uvicorn"} <= run.keys()
    assert not {"pytest", "mypy", "ruff", "playwright", "hatchling"} & run.keys()
    assert "://" not in (ROOT / "requirements-run.lock").read_text()
