"""The sender of each type of Channel. Secrets are looked up when a message goes out, and stay nowhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from controllers.notify import slack, telegram
from controllers.notify.message import Outgoing, Sender
from controllers.notify.webhook import WebhookSender
from controllers.secrets.source import SecretMissing, SecretSource, SecretUnavailable
from schemas.base import DEFAULT_NAMESPACE
from schemas.channel import ChannelSpec
from schemas.errors import Retry, Terminal
from schemas.secret import ValueFrom


class Outside:
    """Sends for one engine. ``telegram_api`` and ``slack_api`` are other addresses of these services, for tests."""

    def __init__(
        self, secrets: SecretSource, project: Path, *, now: Callable[[], datetime], monotonic: Callable[[], float],
        telegram_api: str = telegram.API, slack_api: str = slack.API,
    ) -> None:  # fmt: skip
        self._secrets = secrets
        self._project = project
        self._now = now
        self._monotonic = monotonic
        self._telegram_api = telegram_api
        self._slack_api = slack_api

    def send(self, spec: ChannelSpec, namespace: str, message: Outgoing) -> str:
        """See ``delivery.Send``."""
        try:
            return self._sender(spec, namespace).send(message)
        except (SecretMissing, SecretUnavailable) as error:
            raise Retry(str(error)) from None

    def problem(self, spec: ChannelSpec, namespace: str) -> str:
        """Why a reference of the spec leads to no value; "" when none is wrong."""
        for reference in references(spec):
            try:
                self._secrets.of(namespace).check(reference, self._project)
            except (SecretMissing, SecretUnavailable) as error:
                return str(error)
        return ""

    def _sender(self, spec: ChannelSpec, namespace: str) -> Sender:
        # What a tenant declares must not lead the engine into the network that it stands in.
        operators = namespace == DEFAULT_NAMESPACE
        if spec.telegram is not None:
            return telegram.TelegramSender(
                spec.telegram, self._value(spec.telegram.token, namespace), monotonic=self._monotonic,
                api=self._telegram_api, private=self._telegram_api != telegram.API,
            )  # fmt: skip
        if spec.slack is not None:
            return slack.SlackSender(
                spec.slack, self._value(spec.slack.token, namespace), monotonic=self._monotonic,
                api=self._slack_api, private=self._slack_api != slack.API,
            )  # fmt: skip
        if spec.email is not None:
            from controllers.notify.email import MailSender  # smtplib and email take long to load

            password = spec.email.smtp.password
            return MailSender(
                spec.email, None if password is None else self._value(password, namespace), private=operators
            )
        if spec.webhook is not None:
            secret = spec.webhook.secret
            return WebhookSender(
                spec.webhook, None if secret is None else self._value(secret, namespace),
                private=spec.webhook.allow_private and operators, now=self._now, monotonic=self._monotonic,
            )  # fmt: skip
        if spec.apprise is not None:
            from controllers.notify.broadcast import AppriseSender

            # It goes wherever the address leads that operators granted.
            return AppriseSender(self._value(spec.apprise.url, namespace))
        raise Terminal(f"nothing goes out through type {spec.type}")

    def _value(self, reference: ValueFrom, namespace: str) -> Callable[[], str]:
        return lambda: self._secrets.of(namespace).resolve(reference, self._project)


def references(spec: ChannelSpec) -> list[ValueFrom]:
    """The secrets that sending needs."""
    found = [
        spec.telegram.token if spec.telegram else None,
        spec.slack.token if spec.slack else None,
        spec.email.smtp.password if spec.email else None,
        spec.webhook.secret if spec.webhook else None,
        spec.apprise.url if spec.apprise else None,
    ]
    return [reference for reference in found if reference is not None]
