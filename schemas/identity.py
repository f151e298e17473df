"""What an object is called: the identity of an object inside one store, and the names that there can be. Imports no
pydantic, so that commands which only name objects start fast."""

from __future__ import annotations

import re
from typing import NamedTuple

API_GROUP = "remit.dev"
API_VERSION = "remit.dev/v1alpha1"
DEFAULT_NAMESPACE = "default"

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
NAME_LENGTH = 253
NAMESPACE_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_NAME = re.compile(NAME_PATTERN)
_NAMESPACE = re.compile(NAMESPACE_PATTERN)


def is_name(text: str) -> bool:
    """Whether ``text`` can name an object. Anything else never reaches git arguments, a shell or a page as a name."""
    return len(text) <= NAME_LENGTH and _NAME.fullmatch(text) is not None


def is_namespace(text: str) -> bool:
    """Whether ``text`` can name a tenant's namespace."""
    return _NAMESPACE.fullmatch(text) is not None


class Key(NamedTuple):
    """Identity of an object inside one store. ``namespace`` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"

    @property
    def short(self) -> str:
        """As a person types it: ``mission/audit-links``; the namespace only when it is not the default one."""
        place = "" if self.namespace in ("", DEFAULT_NAMESPACE) else f" -n {self.namespace}"
        return f"{self.kind.lower()}/{self.name}{place}"
