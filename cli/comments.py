"""Posts a plan as the one comment of Remit on a pull or merge request, for CI."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Final
from urllib.parse import urlsplit

from cli.failures import Failure
from schemas.source import REPOSITORY_PATTERN, ForgeType

_ATTEMPTS: Final = 5
_LONGEST_WAIT_S: Final = 60.0


def post(
    body: str, *, number: int, forge: str, url: str | None, repository: str | None, token_env: str, key: str
) -> None:
    """Write or update the comment. ``key`` tells the comments of several plans on one request apart.

    Raises Failure when an option is missing or wrong, when the forge says no, or does not answer after several
    attempts: never Refused, whose exit code means that a guard holds the plan.
    """
    from controllers.runtime.clock import SystemClock
    from controllers.status import forges
    from schemas.errors import Refused, Retry

    try:
        type_ = ForgeType(forge)
    except ValueError:
        raise Failure(f"--forge is one of {', '.join(ForgeType)}, not {forge}") from None
    if not repository or ".." in repository or not re.fullmatch(REPOSITORY_PATTERN, repository):
        raise Failure("--comment needs --repository owner/name")
    if not re.fullmatch(r"[a-z0-9.-]{1,60}", key):
        raise Failure("--comment-key is a word of lower-case letters, digits, '-' and '.'")
    if type_ is ForgeType.GITEA and url is None:
        raise Failure("--comment on a Gitea or Forgejo needs --forge-url https://HOST")
    token = os.environ.get(token_env, "")
    if not token:
        raise Failure(f"--comment needs a token in the variable {token_env}", hint="see --token-env")
    # Whoever types the command says where the token goes.
    hosts = [urlsplit(url).netloc] if url else []
    clock = SystemClock()
    for attempt in range(_ATTEMPTS):
        try:
            target = forges.connect(type_, url, repository, token, hosts=hosts)
            target.upsert_comment(number, f"<!-- remit:plan:{key} -->", body)
            return
        except Refused as error:
            raise Failure(f"the comment was not written: {error}") from error
        except Retry as error:
            if attempt == _ATTEMPTS - 1:
                raise Failure(f"the comment was not written: {error}") from error
            asyncio.run(clock.sleep(min(_LONGEST_WAIT_S, error.after if error.after is not None else 2.0**attempt)))
