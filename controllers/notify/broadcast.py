"""Any service that the Apprise library knows, one way. The library comes with the extra ``notify``; its address holds
credentials, and is neither kept nor logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from controllers.notify.message import Outgoing
from schemas.errors import Retry, Terminal

_QUIET = threading.Lock()


class AppriseSender:
    """See ``message.Sender``."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    def send(self, message: Outgoing) -> str:
        """See ``Sender``. The library says whether it worked and not why."""
        try:
            import apprise  # lazy: it comes with an extra, and takes a while
        except ImportError:
            raise Retry("Apprise is not installed: pip install 'remit[notify]' for the engine") from None
        with _QUIET:  # its own log tells of addresses
            for name in [n for n in logging.root.manager.loggerDict if n == "apprise" or n.startswith("apprise.")]:
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        service = apprise.Apprise()
        if not service.add(self._url()):
            raise Terminal("Apprise knows no service for what spec.apprise.url refers to")
        try:
            taken = bool(
                service.notify(
                    body=message.text, title=message.title, body_format=apprise.NotifyFormat.TEXT,
                    notify_type=apprise.NotifyType.INFO,
                )
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  its plugins raise what they like, with addresses in the text
            raise Retry(f"Apprise: {type(error).__name__}") from None
        if not taken:
            raise Retry("Apprise: the service did not take it")
        return ""
