"""A corpus of credentials, none of which opens anything: made here from a seed, so that no file holds one. And texts
that look a little like them and must stay readable."""

from __future__ import annotations

import base64
import hashlib
import json
import string
import uuid
from random import Random

_ALL = string.ascii_letters + string.digits


def _some(random: Random, length: int, letters: str = _ALL) -> str:
    return "".join(random.choice(letters) for _ in range(length))


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def corpus(seed: int = 1) -> list[tuple[str, str]]:
    """(text, what must not be readable in it)."""
    random = Random(seed)
    upper, hexa = string.ascii_uppercase + string.digits, "0123456789abcdef"
    found: list[tuple[str, str]] = []
    tokens = [
        *("ghp_" + _some(random, 36), "gho_" + _some(random, 36), "github_pat_" + _some(random, 60)),
        *("glpat-" + _some(random, 20), "xoxb-" + _some(random, 30), "xapp-1-" + _some(random, 30)),
        *("sk-" + _some(random, 40), "sk-ant-api03-" + _some(random, 60), "sk-proj-" + _some(random, 50)),
        *("sk_live_" + _some(random, 24), "rk_test_" + _some(random, 24), "whsec_" + _some(random, 32)),
        *("AKIA" + _some(random, 16, upper), "ASIA" + _some(random, 16, upper), "AIza" + _some(random, 35)),
        *("hvs." + _some(random, 40), "npm_" + _some(random, 36), "pypi-" + _some(random, 60)),
        *("SG." + _some(random, 22) + "." + _some(random, 43), "dop_v1_" + _some(random, 64, hexa)),
        *("hf_" + _some(random, 34), "rmt_run_" + _some(random, 50), "AGE-SECRET-KEY-1" + _some(random, 58, upper)),
        *("ya29." + _some(random, 60), "123456789:AA" + _some(random, 33), "shpat_" + _some(random, 32, hexa)),
    ]  # fmt: skip
    for token in tokens:
        found += [(f"the call used {token} and went well", token), (f'{{"note": "see {token}"}}', token)]
    jwt = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part({'sub': _some(random, 12)})}.{_some(random, 43)}"
    found += [(f"cookie-less: {jwt}", jwt), (f"Authorization: Bearer {jwt}", jwt)]
    body = "\n".join(_some(random, 64) for _ in range(20))
    for kind in ("RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", ""):
        key = f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"
        found += [(f"wrote\n{key}\nto disk", body[200:260]), (json.dumps({"key": key}), body[200:260])]
    secret = _some(random, 24)
    found += [
        (f"postgresql://remit:{secret}@db.example:5432/app", secret),
        (f"amqps://{secret}@mq.example/", secret),
        (f"redis://:{secret}@cache.example:6379/0", secret),
        (f"Server=db;Database=app;User Id=sa;Password={secret};Encrypt=true", secret),
        (f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={secret}==;EndpointSuffix=x", secret),
        (f"https://hooks.slack.com/services/T0000/B0000/{secret}", secret),
        (f"aws_secret_access_key = {secret}", secret),
        (f'password: "{secret}"', secret),
        (f"export DB_PASSWORD='{secret}'", secret),
        (f'"clientSecret": "{secret}"', secret),
        (f"api-key={secret}&page=2", secret),
        (f"X-Api-Key: {secret}", secret),
        (f"Authorization: Basic {secret}", secret),
        (f"Set-Cookie: session={secret}; HttpOnly", secret),
        (json.dumps({"outer": json.dumps({"token": secret})}), secret),
        (json.dumps(json.dumps({"outer": json.dumps({"passphrase": secret})})), secret),
    ]
    return found


def readable(seed: int = 2) -> list[str]:
    """What people need to read: ids, digests, addresses, sentences, counts."""
    random = Random(seed)
    sha1, sha256 = (hashlib.new(name, str(seed).encode()).hexdigest() for name in ("sha1", "sha256"))
    return [
        f"main@sha1:{sha1}",
        f"commit {sha1[:7]} by ann",
        f"sha256:{sha256}",
        f"digest {sha256}",
        str(uuid.UUID(int=random.getrandbits(128))),
        f"run 019a{_some(random, 4, '0123456789abcdef')}-7b3c-7def-8abc-1234567890ab",
        '{"usage": {"input_tokens": 1200, "output_tokens": 85, "tokens": 1285}}',
        "tokens: 12,345 in and 678 out, 0.0123 USD",
        "spec.forge.token: the engine has no environment variable FORGE_TOKEN",
        "valueFrom: {env: API_TOKEN}",
        "tokenFile: keys/vault",
        "secretRef: {name: db}",
        "https://example.org/a/b?page=2#part",
        "git@example.org:acme/agents.git",
        "see docs/howto/use-secrets.md:12",
        "2026-11-21T09:00:00.123Z INFO 10.0.0.7:8443 GET /healthz 200 3ms",
        "password: true",
        "max_tokens=4096 temperature=0.2",
        "the basic idea of a token bucket",
        "uid 0190f3a1-1111-7222-8333-444455556666, fence 12, lease 60s",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "pip==24.0 --hash=sha256:" + sha256,
        "skip-this-step and risk-free-return",
    ]


PERSONAL = [
    ("write to ann.lee@example.org soon", "ann.lee@example.org"),
    ("call +49 (0) 30 1234567 at noon", "1234567"),
    ("card 4111 1111 1111 1111 was charged", "4111 1111"),
    ("IBAN DE89 3704 0044 0532 0130 00", "3704 0044"),
    ("IBAN GB82WEST12345698765432", "WEST1234"),
]
