"""What a pod template of a KubernetesJob may hold. The API server checks the rest when a Job is made of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from schemas.base import JsonObject

RUN_VOLUME = "remit-run"
"""Name of the volume with the mission."""
RUN_FOLDER = "/var/run/remit"
"""Where it is mounted in the first container."""
OWN_PREFIX = "remit.dev/"
_PARTS = ("metadata", "spec")
_NOTES = ("labels", "annotations")


def check(template: dict[str, Any]) -> dict[str, Any]:
    """The template. Raises ValueError, which names the field."""
    for field in template:
        if field not in _PARTS:
            raise ValueError(f"podTemplate has metadata and spec, but no {field!r}")
    _check_metadata(_object(template.get("metadata", {}), "metadata"))
    if "spec" not in template:
        raise ValueError("podTemplate needs spec")
    spec = _object(template["spec"], "spec")
    containers = _list(spec.get("containers"), "spec.containers")
    if not containers:
        raise ValueError("podTemplate.spec.containers needs a container: the first one is the agent")
    names = []
    for number, container in enumerate(containers):
        where = f"spec.containers[{number}]"
        entry = _object(container, where)
        for field in ("name", "image"):
            if not isinstance(entry.get(field), str) or not entry[field]:
                raise ValueError(f"podTemplate.{where} needs {field}")
        names.append(entry["name"])
    if len(set(names)) < len(names):
        raise ValueError("podTemplate.spec.containers: two of them have the same name")
    if spec.get("restartPolicy", "Never") != "Never":
        raise ValueError("podTemplate.spec.restartPolicy is Never: a program that failed is the mission's to retry")
    _check_reserved(spec, containers[0])
    return template


def _check_metadata(metadata: dict[str, Any]) -> None:
    for field, notes in metadata.items():
        if field not in _NOTES:
            raise ValueError(
                f"podTemplate.metadata has labels and annotations, but no {field!r}: pods are named by Jobs"
            )
        for name, value in _object(notes, f"metadata.{field}").items():
            if name.startswith(OWN_PREFIX):
                raise ValueError(
                    f"podTemplate.metadata.{field}: names that begin with {OWN_PREFIX} are set by the engine"
                )
            if not isinstance(value, str):
                raise ValueError(f"podTemplate.metadata.{field}: the value of {name!r} is no text: quote it")


def _check_reserved(spec: dict[str, Any], agent: dict[str, Any]) -> None:
    """What the engine puts into each pod must not be there already."""
    for volume in _list(spec.get("volumes"), "spec.volumes"):
        if _object(volume, "spec.volumes").get("name") == RUN_VOLUME:
            raise ValueError(f"podTemplate.spec.volumes: {RUN_VOLUME} is set by the engine")
    for variable in _list(agent.get("env"), "spec.containers[0].env"):
        if str(_object(variable, "spec.containers[0].env").get("name", "")).startswith("REMIT_"):
            raise ValueError("podTemplate.spec.containers[0].env: names that begin with REMIT_ are set by the engine")
    for mount in _list(agent.get("volumeMounts"), "spec.containers[0].volumeMounts"):
        path = str(_object(mount, "spec.containers[0].volumeMounts").get("mountPath", ""))
        if path.rstrip("/") == RUN_FOLDER or path.startswith(f"{RUN_FOLDER}/"):
            raise ValueError(f"podTemplate.spec.containers[0].volumeMounts: {RUN_FOLDER} is where the mission lies")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"podTemplate.{where} is no object")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"podTemplate.{where} is no list")
    return value


PodTemplate = Annotated[JsonObject, AfterValidator(check)]
