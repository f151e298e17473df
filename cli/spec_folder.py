"""Where a project's specs lie, and the forms in which findings about them are printed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from cli import common
from cli.failures import Failure


class DiffFormat(StrEnum):
    """Values of ``diff -o``."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"


def specs_of(context: typer.Context) -> Path:
    """The folder with the project's specs, as they lie there now."""
    from schemas.source import SourceType

    project = common.project_of(context)
    spec = project.config.source.to_spec()
    if spec is None:
        raise Failure("the project's specs are in Kubernetes: name files or folders")
    folder = project.root / spec.url
    if spec.type is SourceType.GIT:
        folder = folder / spec.path
    if not folder.is_dir():
        raise Failure(f"the project's specs are not in a folder here ({spec.url}): name files or folders")
    return folder
