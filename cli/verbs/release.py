"""Ending Holds: release."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("release")(release)


def release(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Names of Holds.", autocompletion=completion.of("hold"))],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """End Holds that were placed by hand; one that a source declares is ended by a commit, an e-stop needs a reason.

    Examples:
      remit release hold-1a2b3c4d
    """
    from cli.project import me
    from controllers.holds import estop
    from controllers.holds.effective import facts_of

    missing = 0
    with common.store_of(context) as store, store.transaction(me()) as tx:
        for name in names:
            found = common.object_named(tx, common.key_named(name, namespace, default_kind="hold"))
            if facts_of(found).file:
                raise Failure(
                    f"{found.key.short} was made from the file {facts_of(found).file}",
                    hint=facts_of(found).remedy,
                    code=Exit.REFUSED,
                )
            answer = estop.release(tx, found, reason)
            missing = max(missing, answer.missing)
            print(
                f"{found.key.short}: asked for by {answer.quorum - answer.missing} of {answer.quorum}"
                if answer.missing
                else f"{found.key.short} released"
            )
    if missing:
        raise Failure(
            f"recorded, but {missing} more person(s) have to ask for the same", code=Exit.REFUSED,
            hint="as another user: the same command",
        )  # fmt: skip
