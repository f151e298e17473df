"""What the verbs of MCP servers share: the SDK, words for the operator, how a server is reached from here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.failures import Failure

if TYPE_CHECKING:
    from api.mcp.openers import Openers
    from controllers.secrets.source import SecretSource


def need_sdk() -> None:
    """Raise Failure without the extra that the proxy needs."""
    from importlib.util import find_spec

    if find_spec("mcp") is None:
        raise Failure("the MCP SDK is not installed", "pip install 'remit[mcp]'")


def say(text: str) -> None:
    """A line for the operator: standard output is the agent's."""
    from cli.output import safe

    sys.stderr.write(safe(f"remit mcp-proxy: {text}") + "\n")
    sys.stderr.flush()


def openers(secrets: SecretSource, root: Path, variables: dict[str, str], clock: Any, blocking: Any) -> Openers:
    """Connections from this machine."""
    from api.mcp.openers import Openers

    return Openers(secrets, root, variables, clock, blocking, say)


def project_secrets(context: typer.Context, clock: Any) -> tuple[SecretSource, Path, dict[str, str]]:
    """Secrets as the project here says who may use them."""
    from cli.project import CONFIG_NAME, STATE_NAME, locate
    from controllers.secrets.keeper import make_keeper
    from schemas.secrets_config import SecretsConfig

    root: Path = (context.find_root().obj or Path.cwd()).absolute()
    named = any((folder / CONFIG_NAME).is_file() for folder in (root, root / STATE_NAME))
    config = locate(root).config.secrets if named else SecretsConfig()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("REMIT_")}
    keeper = make_keeper(
        config, project=root, closed=(root / STATE_NAME,), variables=variables, now=clock.now,
        monotonic=clock.monotonic,
    )  # fmt: skip
    return keeper, root, variables
