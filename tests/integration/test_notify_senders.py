"""Each sender against a server that behaves like the service: what goes over the wire, what is tried again, what never
is, and what no error says."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.notify import telegram
from controllers.notify.addresses import AddressRefused, checked
from controllers.notify.email import MailSender, compose, message_id
from controllers.notify.message import Outgoing
from controllers.notify.outside import Outside
from controllers.runtime.clock import SystemClock
from controllers.secrets.keeper import local_secrets
from schemas.channel import ChannelSpec, Email
from schemas.errors import Retry, Terminal
from tests.fakes.services import PASSWORD, Mailbox, Posts, certificate, mail_server, post_server

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
TOKEN = "1234567890:AAtokenOfABotThatOpensNothing0123"
HMAC_KEY = "a-key-of-the-webhook"
SECRETS = {"BOT": TOKEN, "SLACK": "xoxb-not-a-token-0123456789", "HMAC": HMAC_KEY, "MAIL": PASSWORD}


def message(title: str = "mission/m failed", text: str = "it broke <b>&\nDo: remit retry mission/m") -> Outgoing:
    return Outgoing("notify/u1/000000000007-missionfailed", title, text, "High", "default", "ops", AT, ({"a": 1},))


@pytest.fixture
def posts() -> Iterator[Posts]:
    with post_server() as made:
        yield made


@pytest.fixture
def mails() -> Iterator[Mailbox]:
    with mail_server() as made:
        yield made


def outside(tmp_path: Path, posts: Posts | None = None) -> Outside:
    clock = SystemClock()
    elsewhere = {} if posts is None else {"telegram_api": posts.url, "slack_api": posts.url}
    keeper = local_secrets({**SECRETS, "APPRISE": f"json://127.0.0.1:{posts.port}/hook?+X=secret" if posts else ""})
    return Outside(keeper, tmp_path, now=lambda: AT, monotonic=clock.monotonic, **elsewhere)


def webhook(posts: Posts, **more: object) -> ChannelSpec:
    block = {"url": f"{posts.url}/hook?key=in-the-url", "secret": {"env": "HMAC"}, "allowPrivate": True, **more}
    return ChannelSpec.model_validate({"type": "Webhook", "webhook": block})


def test_a_webhook_is_signed_and_the_same_at_every_try(tmp_path: Path, posts: Posts) -> None:
    send = outside(tmp_path).send
    posts.answers.append((503, {"retry-after": "7"}, b""))
    with pytest.raises(Retry) as caught:
        send(webhook(posts), "default", message())
    assert caught.value.after == 7
    send(webhook(posts), "default", message())
    first, second = posts.requests
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == message().key
    signed = first.headers["x-remit-timestamp"].encode() + b"." + first.body
    expected = hmac.new(HMAC_KEY.encode(), signed, hashlib.sha256).hexdigest()
    assert first.headers["x-remit-signature"] == f"sha256={expected}"
    assert first.headers["host"] == f"127.0.0.1:{posts.port}"
    assert first.json["title"] == "mission/m failed"
    assert first.json["notifications"] == [{"a": 1}]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((302, {"location": "http://127.0.0.1:1/"}, b""), Terminal),
        ((400, {}, b"no"), Terminal),
        ((410, {}, b""), Terminal),
        ((401, {}, b""), Retry),
        ((429, {"retry-after": "99999999"}, b""), Retry),
        ((500, {}, b"x" * 200_000), Retry),
    ],
)
def test_what_a_webhook_answers_decides_what_follows(
    tmp_path: Path, posts: Posts, answer: tuple[int, dict[str, str], bytes], error: type[Exception]
) -> None:
    posts.answers.append(answer)
    with pytest.raises(error) as caught:
        outside(tmp_path).send(webhook(posts), "default", message())
    assert "in-the-url" not in str(caught.value)
    assert len(posts.requests) == 1, "a redirect is not followed"


@pytest.mark.parametrize(
    ("namespace", "more"), [("default", {"allowPrivate": False}), ("acme", {}), ("acme", {"allowPrivate": True})]
)
def test_a_webhook_does_not_lead_into_the_network_of_the_engine(
    tmp_path: Path, posts: Posts, namespace: str, more: dict[str, object]
) -> None:
    spec = webhook(posts, secret=None, **more)
    with pytest.raises(Terminal, match="not public"):
        outside(tmp_path).send(spec, namespace, message())
    assert posts.requests == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1", "fd00::1",
     "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "::"],
)  # fmt: skip
def test_no_form_of_an_address_that_is_not_public_gets_through(address: str) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        return ["93.184.216.34", address]

    with pytest.raises(AddressRefused):
        checked(address, 80, private=False)
    with pytest.raises(AddressRefused):
        checked("rebinds.example", 80, private=False, resolve=resolve)


def test_credentials_of_clouds_stay_out_of_reach_where_private_addresses_are_allowed() -> None:
    assert checked("10.0.0.1", 80, private=True) == "10.0.0.1"
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::1"):
        with pytest.raises(AddressRefused):
            checked(address, 80, private=True)


def test_a_service_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    spec = ChannelSpec.model_validate(
        {"type": "Webhook", "webhook": {"url": "http://127.0.0.1:1/secret-path", "allowPrivate": True}}
    )
    with pytest.raises(Retry) as caught:
        outside(tmp_path).send(spec, "default", message())
    assert str(caught.value) == "webhook: ConnectError"


def test_mail_is_plain_and_its_id_is_that_of_the_message(tmp_path: Path, mails: Mailbox) -> None:
    spec = ChannelSpec.model_validate(
        {
            "type": "Email",
            "email": {"to": ["a@example.com", "b@example.com"], "from": "remit@example.com",
                      "smtp": {"host": "127.0.0.1", "port": mails.port, "tls": False}},
        }
    )  # fmt: skip
    send = outside(tmp_path).send
    mails.answers.append("451 later")
    with pytest.raises(Retry):
        send(spec, "default", message())
    mails.answers.append("554 no")
    with pytest.raises(Terminal):
        send(spec, "default", message())
    evil = message(title="=?utf-8?q?x?= Grüße Bcc: c@example.com", text="Grüße\n.\nQUIT\n")
    send(spec, "default", evil)
    send(spec, "default", evil)
    first, second = mails.mails
    assert first["Message-ID"] == second["Message-ID"] == message_id(evil.key, "remit@example.com")
    assert mails.recipients == [["a@example.com", "b@example.com"]] * 2
    assert first["Bcc"] is None
    assert first["Subject"] == "[remit] = ?utf-8?q?x?= Grüße Bcc: c@example.com"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first.get_content_type() == "text/plain"
    assert first.get_content().replace("\r\n", "\n").rstrip() == "Grüße\n.\nQUIT"


def test_no_newline_of_a_title_becomes_a_header() -> None:
    spec = Email.model_validate({"to": ["a@example.com"]})
    with pytest.raises(ValueError, match=r"header|linefeed"):
        compose(spec, message(title="x\r\nBcc: c@example.com"))


def test_mail_goes_over_tls_or_not_at_all(tmp_path: Path) -> None:
    server, client = certificate(tmp_path)
    with mail_server(server) as box, mail_server() as plain:
        base = {"to": ["a@example.com"], "smtp": {"host": "localhost", "port": box.port, "username": "remit"}}
        spec = Email.model_validate(base)

        def sender(password: str, port: int = box.port) -> MailSender:
            smtp = spec.smtp.model_copy(update={"port": port})
            return MailSender(
                spec.model_copy(update={"smtp": smtp}), lambda: password, private=True, context=lambda: client
            )

        sender(PASSWORD).send(message())
        assert box.encrypted == [True]
        with pytest.raises(Retry, match="refuses the user or password"):
            sender("wrong-password").send(message())
        with pytest.raises(Retry, match="no STARTTLS"):
            sender(PASSWORD, plain.port).send(message())
        with pytest.raises(Retry, match="SSLCertVerificationError"):
            MailSender(spec, lambda: PASSWORD, private=True).send(message())
        with pytest.raises(Terminal, match="not public"):
            MailSender(spec, lambda: PASSWORD, private=False).send(message())
        assert (len(box.mails), len(plain.mails)) == (1, 0)
    unsafe = Email.model_validate({"to": ["a@example.com"], "smtp": {"host": "mail.example", "tls": False}})
    with pytest.raises(Terminal, match="without TLS"):
        MailSender(unsafe, lambda: PASSWORD, private=True).send(message())


def test_telegram_gets_plain_text_and_says_when_to_come_again(tmp_path: Path, posts: Posts) -> None:
    spec = ChannelSpec.model_validate(
        {"type": "Telegram", "telegram": {"chatId": -100123, "threadId": 7, "token": {"env": "BOT"}}}
    )
    send = outside(tmp_path, posts).send
    posts.answers.append((200, {}, json.dumps({"ok": True, "result": {"message_id": 42}}).encode()))
    assert send(spec, "default", message(text="x" * 9000)) == "42"
    (posted,) = posts.requests
    assert posted.path == f"/bot{TOKEN}/sendMessage"
    assert (posted.json["chat_id"], posted.json["message_thread_id"]) == ("-100123", 7)
    assert len(posted.json["text"]) == telegram.LONGEST
    assert "parse_mode" not in posted.json
    wait = {"ok": False, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 33}}
    posts.answers += [(429, {}, json.dumps(wait).encode()), (400, {}, b'{"description": "chat not found"}')]
    with pytest.raises(Retry) as caught:
        send(spec, "default", message())
    assert caught.value.after == 33
    with pytest.raises(Terminal, match="chat not found") as refused:
        send(spec, "default", message())
    assert TOKEN not in str(refused.value)


def test_slack_gets_text_without_markup(tmp_path: Path, posts: Posts) -> None:
    spec = ChannelSpec.model_validate({"type": "Slack", "slack": {"channel": "C0123456789", "token": {"env": "SLACK"}}})
    send = outside(tmp_path, posts).send
    posts.answers.append((200, {}, b'{"ok": true, "ts": "1.2"}'))
    assert send(spec, "default", message(text="<!channel> a & b")) == "1.2"
    (posted,) = posts.requests
    assert posted.json["text"].endswith("&lt;!channel&gt; a &amp; b")
    assert posted.json["mrkdwn"] is False
    assert posted.headers["authorization"] == f"Bearer {SECRETS['SLACK']}"
    posts.answers += [
        (200, {}, b'{"ok": false, "error": "channel_not_found"}'),
        (200, {}, b'{"ok": false, "error": "invalid_auth"}'),
        (200, {}, b"<html>"),
        (429, {"retry-after": "5"}, b""),
    ]
    for error in (Terminal, Retry, Retry, Retry):
        with pytest.raises(error):
            send(spec, "default", message())


@pytest.mark.filterwarnings("ignore:.*imghdr.*:DeprecationWarning")
def test_apprise_carries_what_it_knows_and_tells_nobody_its_address(
    tmp_path: Path, posts: Posts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spec = ChannelSpec.model_validate({"type": "Apprise", "apprise": {"url": {"env": "APPRISE"}}})
    send = outside(tmp_path, posts).send
    send(spec, "default", message())
    assert posts.requests[0].json["title"] == "mission/m failed"
    posts.answers.append((500, {}, b""))
    with pytest.raises(Retry, match="did not take it"):
        send(spec, "default", message())
    with pytest.raises(Retry, match="may not use"):
        send(spec, "acme", message())
    assert "secret" not in caplog.text


def test_a_secret_that_is_not_there_is_waited_for_and_named(tmp_path: Path) -> None:
    spec = ChannelSpec.model_validate({"type": "Slack", "slack": {"channel": "#ops", "token": {"env": "NOT_THERE"}}})
    made = outside(tmp_path)
    assert made.problem(spec, "default") == "the engine has no environment variable NOT_THERE"
    assert "may not use" in made.problem(spec, "acme")
    with pytest.raises(Retry, match="NOT_THERE"):
        made.send(spec, "default", message())
