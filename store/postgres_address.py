"""Where a PostgreSQL store is: ``postgresql://user@host:port/database?option=value``, and how to speak of it.

The password is taken apart from the rest here and goes to the driver only: no message, log line or ``repr`` holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from schemas.errors import StoreUnavailable

_SCHEMES = ("postgresql", "postgresql+psycopg", "postgres")
_OPTIONS = (
    "application_name", "channel_binding", "connect_timeout", "dbname", "gssencmode", "host", "krbsrvname", "options",
    "passfile", "password", "port", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
    "user",
)  # fmt: skip
_SHAPE = "write postgresql://user@host:5432/database (percent-encode special characters)"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. ``place`` names the database for people; ``parameters`` are libpq's, with the password."""

    place: str
    parameters: dict[str, str] = field(repr=False)

    def redacted(self, text: str) -> str:
        """``text`` of a driver or server, without the password."""
        password = self.parameters.get("password")
        return text.replace(password, "***") if password else text


def is_postgres(url: str) -> bool:
    """Whether a store URL names a PostgreSQL database."""
    return url.partition("://")[0].lower() in _SCHEMES


def parse(url: str) -> Address:
    """Raises StoreUnavailable for a URL that cannot be read, and never repeats it."""
    _, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    user_info, _, hosts = authority.rpartition("@")
    user, _, password = user_info.partition(":")
    parameters = {"user": unquote(user), "password": unquote(password), "dbname": unquote(database)}
    parameters |= _hosts(hosts)
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise StoreUnavailable(f"not a store URL: its options are not name=value. {_SHAPE}") from None
    for name, value in options:
        if name not in _OPTIONS:
            raise StoreUnavailable(f"not a store URL: it has an option that is none of {', '.join(_OPTIONS)}")
        parameters[name] = value
    parameters = {name: value for name, value in parameters.items() if value}
    if any("\0" in value for value in parameters.values()):
        raise StoreUnavailable(f"not a store URL: it holds a NUL. {_SHAPE}")
    return Address(_shown(parameters), parameters)


def _hosts(text: str) -> dict[str, str]:
    """One or several ``host:port`` with commas between them, as libpq has them."""
    hosts, ports = [], []
    for part in text.split(","):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, ""
        if port and not port.isdecimal():
            raise StoreUnavailable(f"not a store URL: a port is no number. {_SHAPE}")
        hosts.append(unquote(host.strip("[]")))
        ports.append(port)
    return {"host": ",".join(hosts), "port": ",".join(ports) if any(ports) else ""}


def _shown(parameters: dict[str, str]) -> str:
    user = f"{parameters['user']}@" if "user" in parameters else ""
    port = f":{parameters['port']}" if "port" in parameters else ""
    return f"postgresql://{user}{parameters.get('host', '')}{port}/{parameters.get('dbname', '')}"
