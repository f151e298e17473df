"""Mail over SMTP. The Message-ID is made of the key: a server or a reader that knows it shows the mail once."""

from __future__ import annotations

import contextlib
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from controllers.notify.addresses import AddressRefused, Resolve, checked, system_resolve
from controllers.notify.message import Outgoing
from schemas.channel import Email, Smtp
from schemas.errors import Retry, Terminal

STEP_S = 10.0
_IMPLICIT_TLS = 465
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class MailSender:
    """See ``message.Sender``. ``private`` is whether the server may have an address that is not public."""

    def __init__(
        self, spec: Email, password: Callable[[], str] | None, *, private: bool,
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context, resolve: Resolve = system_resolve,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._password = password
        self._private = private
        self._context = context
        self._resolve = resolve

    def send(self, message: Outgoing) -> str:
        """See ``Sender``. Every recipient is in one transaction of SMTP; those who are refused while others are not
        are told of in no way but the server's own."""
        mail = compose(self._spec, message)
        smtp = self._spec.smtp
        self._require_safe(smtp)
        try:
            address = checked(smtp.host, smtp.port, private=self._private, resolve=self._resolve)
            with contextlib.closing(self._connect(smtp, address)) as server:
                server.send_message(mail, from_addr=self._spec.sender or self._spec.to[0], to_addrs=list(self._spec.to))
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    server.quit()  # it was taken; how the connection ends changes nothing
        except AddressRefused as error:
            raise Terminal(f"mail server: {error}: only the namespace default may use such a one") from None
        except smtplib.SMTPAuthenticationError as error:
            raise Retry(f"mail server: it refuses the user or password ({error.smtp_code})") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            text = f"mail server: it refuses every recipient ({', '.join(map(str, codes))})"
            raise (Terminal(text) if all(code >= 500 for code in codes) else Retry(text)) from None
        except smtplib.SMTPResponseException as error:
            text = f"mail server: {type(error).__name__} {error.smtp_code}"
            permanent = error.smtp_code >= 500 and isinstance(error, smtplib.SMTPDataError | smtplib.SMTPSenderRefused)
            raise (Terminal(text) if permanent else Retry(text)) from None
        except smtplib.SMTPNotSupportedError:
            raise Retry("mail server: it offers no STARTTLS, and spec.email.smtp.tls asks for it") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Retry(f"mail server: {type(error).__name__}") from None
        return str(mail["Message-ID"])

    def _require_safe(self, smtp: Smtp) -> None:
        if self._password is not None and not smtp.tls and smtp.host not in _LOOPBACK:
            raise Terminal("mail server: a password is not sent over a connection without TLS: set smtp.tls")

    def _connect(self, smtp: Smtp, address: str) -> smtplib.SMTP:
        """A connection that may be sent over, to the address that was checked; the caller closes it."""
        implicit = self._context() if smtp.tls and smtp.port == _IMPLICIT_TLS else None
        server = _Pinned(smtp.host, smtp.port, address, implicit)
        try:
            if smtp.tls and smtp.port != _IMPLICIT_TLS:
                server.starttls(context=self._context())
            if smtp.username is not None and self._password is not None:
                server.login(smtp.username, self._password())
        except BaseException:
            server.close()
            raise
        return server


class _Pinned(smtplib.SMTP):
    """Connects to one address, under the name that its certificate is for."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._tls = context
        super().__init__(host, port, local_hostname="remit.invalid", timeout=STEP_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = socket.create_connection((self._address, port), timeout)
        return made if self._tls is None else self._tls.wrap_socket(made, server_hostname=host)


def compose(spec: Email, message: Outgoing) -> EmailMessage:
    """The mail. Title and text are encoded, so nothing in them is a header or an address."""
    mail = EmailMessage(policy=SMTP)
    sender = spec.sender or spec.to[0]
    mail["From"] = sender
    mail["To"] = ", ".join(spec.to)
    # A word that looks encoded already would be taken for one, and could hold anything.
    mail["Subject"] = f"[remit] {message.title}".replace("=?", "= ?")
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = message_id(message.key, sender)
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Remit-Severity"] = message.severity
    mail.set_content(message.text + "\n")
    return mail


def message_id(key: str, sender: str) -> str:
    """The same for the same key."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}.remit@{sender.rpartition('@')[2]}>"
