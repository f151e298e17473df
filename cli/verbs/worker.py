"""The verb worker: work on this machine for an engine elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common
from cli.failures import Exit, Failure

if TYPE_CHECKING:
    from controllers.worker.worker import Identity
    from schemas.secrets_config import SecretsConfig

TOKEN_VARIABLE = "REMIT_WORKER_TOKEN"  # noqa: S105  the name of a variable


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("worker")(worker)


def worker(
    context: typer.Context,
    url: Annotated[str, typer.Option("--url", help="Address of the engine's agent protocol (agentListen).")],
    executor: Annotated[str, typer.Option("--executor", help="Executor of type Pull: NAME or NAMESPACE/NAME.")],
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help=f"File with the worker's token; else {TOKEN_VARIABLE}.")
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, max=1000, help="How many runs at a time.")] = 1,
    name: Annotated[str, typer.Option("--name", help="Its name; that of the machine if not given.")] = "",
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder for what it keeps; .remit/workers/NAME if not given.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow http:// to another machine: tokens travel readable.")
    ] = False,
    patience: Annotated[
        str, typer.Option("--patience", help="How long it asks again at its start while the engine does not know it.")
    ] = "1m",
    quiet: common.Quiet = False,
) -> None:
    """Fetch runs of a Pull executor from an engine elsewhere, and run their programs on this machine.

    The first Ctrl-C or SIGTERM takes no more runs and waits for those at work; the second leaves them to the next
    worker of the same name.

    Examples:
      remit worker --url https://engine.example --executor team/builders --token-file worker.token
      remit worker --url http://127.0.0.1:8421 --executor builders --slots 4
    """
    from controllers.worker.worker import Identity

    _check_url(url, insecure=insecure)
    called = name or os.uname().nodename.partition(".")[0]
    root = (context.find_root().obj or Path.cwd()).absolute()
    folder = (state or root / ".remit" / "workers" / called).absolute()
    identity = Identity(_checked(executor, called), called, slots)
    patience_s = common.seconds_of(patience)
    code = asyncio.run(_work(identity, url, _token(token_file), root, folder, patience_s=patience_s, quiet=quiet))
    raise typer.Exit(code)


def _check_url(url: str, *, insecure: bool) -> None:
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        good = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Failure(f"--url {url[:200]!r} is no address such as https://remit.example.com:8421")
    if parts.scheme == "https" or insecure:
        return
    try:
        near = ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost" or host.endswith(".localhost")
    if not near:
        raise Failure(
            f"{url[:200]} is not encrypted: whoever is on the way could read the tokens",
            "put a TLS proxy before the engine and use https://, or tunnel the port and use http://127.0.0.1",
            "--insecure allows it all the same, for a network that is yours alone",
        )


def _checked(executor: str, called: str) -> str:
    from pydantic import ValidationError

    from schemas.claims import ClaimMessage

    try:
        return ClaimMessage(executor=executor, worker=called).executor
    except ValidationError as error:
        option = {"executor": "--executor", "worker": "--name"}.get(str(error.errors()[0]["loc"][0]), "an option")
        given = executor if option == "--executor" else called
        text = (
            "NAME or NAMESPACE/NAME in lower case" if option == "--executor" else "up to 63 letters, digits, . _ and -"
        )
        raise Failure(f"{option} {given[:80]!r} is not accepted: write {text}") from None


def _token(path: Path | None) -> str:
    if path is not None:
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Failure(f"--token-file {path} cannot be read: {reason}") from None
        where = f"the file {path}"
    else:
        value, where = os.environ.get(TOKEN_VARIABLE, "").strip(), f"the variable {TOKEN_VARIABLE}"
    if not value:
        raise Failure(
            f"there is no worker token: {where} is empty",
            "it is the value that spec.pull.auth of the Executor names on the engine's side",
            hint="remit worker --help",
        )
    if not all("!" <= c <= "~" for c in value):
        raise Failure(f"{where} holds characters that a token cannot have")
    return value


def _secrets_config(root: Path, namespace: str) -> SecretsConfig:
    """Where this machine's secrets lie: as its ``remit.yaml`` says, if it has one. Without grants the namespace of the
    executor may use every one: whoever starts a worker for it lends it this machine."""
    from cli.project import CONFIG_NAME, STATE_NAME, locate
    from schemas.secrets_config import Grant, SecretsConfig

    named = any((folder / CONFIG_NAME).is_file() for folder in (root, root / STATE_NAME))
    config = locate(root).config.secrets if named else SecretsConfig()
    if config.grants:
        return config
    every = ("**",)
    grant = Grant(namespaces=(namespace,), env=every, files=every, vault=every, aws_secrets_manager=every)
    return config.model_copy(update={"grants": (grant,)})


async def _work(
    identity: Identity, url: str, token: str, root: Path, folder: Path, *, patience_s: float, quiet: bool
) -> int:
    import random
    import uuid

    from remit_client.errors import NotConfigured

    from cli.output import safe
    from controllers.dispatch.command import CommandExecutor
    from controllers.runtime.blocking import ThreadBlocking
    from controllers.runtime.clock import SystemClock
    from controllers.runtime.signals import drain_on_signal
    from controllers.secrets.keeper import make_keeper
    from controllers.worker.desk import Desk
    from controllers.worker.engine_link import EngineLink
    from controllers.worker.worker import Worker, WorkerRefused
    from schemas.base import DEFAULT_NAMESPACE

    def say(text: str) -> None:
        if not quiet:
            sys.stdout.write(safe(f"{clock.now():%H:%M:%S} {text}") + "\n")
            sys.stdout.flush()

    clock = SystemClock()
    variables = {key: value for key, value in os.environ.items() if key != TOKEN_VARIABLE}
    stop = asyncio.Event()
    desk = Desk(folder)
    blocking = ThreadBlocking(4, name="remit-worker")
    namespace = identity.executor.rpartition("/")[0] or DEFAULT_NAMESPACE
    secrets = make_keeper(
        _secrets_config(root, namespace),
        project=root,
        closed=(folder, root / ".remit"),
        variables=variables,
        now=clock.now,
        monotonic=clock.monotonic,
    )
    commands = CommandExecutor(folder, clock, blocking, secrets=secrets)
    try:
        link = EngineLink(url, token, clock=clock, chance=random.random)
    except NotConfigured as error:
        raise Failure(f"--url {url[:200]!r}: {error}") from None
    work = Worker(
        identity, link, commands, desk,
        project=root, clock=clock, blocking=blocking, new_key=lambda: uuid.uuid4().hex, say=say,
        patience_s=patience_s,
    )  # fmt: skip
    try:
        with drain_on_signal(stop):
            await work.run(stop)
        say("ends: nothing is at work any more")
        return int(Exit.OK)
    except WorkerRefused as error:
        raise Failure(str(error), hint="remit worker --help") from None
    finally:
        await link.aclose()
        await commands.retire()
        await commands.close()
        desk.close()
        blocking.close(wait=False)
