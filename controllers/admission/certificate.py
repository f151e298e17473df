"""The certificate of the admission port: read from files, or made here and signed by itself.

An API server trusts exactly what the ``caBundle`` of its configuration says, so a certificate that signs itself is as
good as any; it is renewed long before it ends.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

LIFE = timedelta(days=365)
RENEW = timedelta(days=60)
"""A certificate that ends sooner than this is replaced."""
_SKEW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM; ``trust`` is what whoever connects has to trust."""

    certificate: bytes
    key: bytes = field(repr=False)
    trust: bytes = b""

    @property
    def bundle(self) -> bytes:
        """``trust``, or the certificate that signed itself."""
        return self.trust or self.certificate

    @property
    def path(self) -> str:
        """The last part of the path that the API server is told to ask at. Nobody else can know it: a review that
        comes there was sent by somebody who may read the configuration of webhooks, or the key."""
        return hmac.new(self.key, b"path of the admission port", hashlib.sha256).hexdigest()[:40]

    @property
    def ends(self) -> datetime:
        """When it is valid no longer. Raises ValueError when it is no certificate."""
        from cryptography import x509  # heavy, and nobody else needs it

        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc

    def names(self, hosts: Sequence[str]) -> bool:
        """Whether it is for all of these hosts. Raises ValueError when it is no certificate."""
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(self.certificate)
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return False
        known = set(found.get_values_for_type(x509.DNSName))
        known |= {str(address) for address in found.get_values_for_type(x509.IPAddress)}
        return known >= set(hosts)


def make(hosts: Sequence[str], now: datetime) -> Pair:
    """A new one for these names and addresses."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "remit-admission")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem), private)


def _general(host: str) -> x509.GeneralName:  # type: ignore[name-defined]  # noqa: F821
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def usable(pair: Pair | None, hosts: Sequence[str], now: datetime) -> bool:
    """Whether a made certificate may go on being used."""
    if pair is None:
        return False
    try:
        return pair.ends - now > RENEW and pair.names(hosts)
    except ValueError:
        return False


def read(certificate: Path, key: Path, trust: Path | None = None) -> Pair:
    """A pair that lies in files. Raises OSError."""
    return Pair(certificate.read_bytes(), key.read_bytes(), b"" if trust is None else trust.read_bytes())


def kept(folder: Path) -> Pair | None:
    """The pair that was kept in ``folder``; None when there is none."""
    try:
        return read(folder / "admission.crt", folder / "admission.key")
    except OSError:
        return None


def keep(folder: Path, pair: Pair) -> None:
    """Keep it in ``folder``, readable by this user only."""
    for name, data in (("admission.key", pair.key), ("admission.crt", pair.certificate)):
        handle, path = tempfile.mkstemp(dir=folder)  # made with mode 0600
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(path).replace(folder / name)


def load(context: ssl.SSLContext, pair: Pair, folder: Path) -> None:
    """Have ``context`` show it to new connections. Raises ssl.SSLError when the two do not belong together."""
    with tempfile.TemporaryDirectory(dir=folder) as place:  # the library reads files only
        keep(Path(place), pair)
        context.load_cert_chain(Path(place) / "admission.crt", Path(place) / "admission.key")


def context() -> ssl.SSLContext:
    """A server's, without certificate yet."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made
