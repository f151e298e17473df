"""Who runs a command, as the operating system says it: never by a variable that anybody can set."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decisions.identity import Identity
    from schemas.approval_decision import Transport


def name() -> str:
    """The name of the user this process runs as; the number, where it has none."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def groups() -> tuple[str, ...]:
    """Names of the groups this process belongs to, sorted."""
    found = set()
    for number in {os.getgid(), *os.getgroups()}:
        try:
            found.add(grp.getgrgid(number).gr_name)
        except KeyError:
            found.add(str(number))
    return tuple(sorted(found))


class LocalUser:
    """The transport of commands that write into the store: who may write there is who the system says they are."""

    @property
    def transport(self) -> Transport:
        """Its name in the record."""
        from schemas.approval_decision import Transport

        return Transport.STORE

    def identify(self, evidence: None = None) -> Identity:
        """The user of this process."""
        from decisions.identity import Identity

        return Identity(self.transport, f"user:{name()}", groups(), f"uid {os.getuid()}")
