"""Secrets in files: below the project or a folder that the configuration names, private, small, and no link to
elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controllers.runtime.beneath import LeadsOut, open_beneath, require_regular
from controllers.secrets.source import LARGEST, SecretMissing


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """``folders`` are absolute, and hold secrets that others put there (mounts). ``closed`` are folders that no
    reference reaches, wherever they lie: what the engine keeps for itself."""

    folders: Sequence[Path] = ()
    closed: Sequence[Path] = ()

    def read(self, shown: str, project: Path, *, links: bool = True) -> str:
        """The text of the file, without one final newline. Never waits for a pipe or a device. Raises SecretMissing.

        A file of the project must be readable by its owner only. In the other folders it may be readable by more, as
        mounted secrets are; nowhere may others write it. Symbolic links are followed as long as they stay below the
        folder; without ``links`` only those of a mount are.
        """
        root, path, mounted = self._place(shown, project)
        try:
            descriptor = open_beneath(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, links=links or mounted)
        except LeadsOut as error:
            raise SecretMissing(f"cannot read the file {shown}: {error}") from None
        except (OSError, ValueError) as error:
            detail = error.strerror if isinstance(error, OSError) else "not a path"
            raise SecretMissing(f"cannot read the file {shown}: {detail}") from None
        try:
            facts = require_regular(descriptor, shown)
            self._check(facts, descriptor, shown, mounted=mounted)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(LARGEST + 1)
        except LeadsOut as error:
            raise SecretMissing(f"{error}: put the secret into a file of its own") from None
        except OSError as error:
            raise SecretMissing(f"cannot read the file {shown}: {error.strerror}") from None
        finally:
            os.close(descriptor)
        if len(data) > LARGEST:
            raise SecretMissing(f"the file {shown} is larger than {LARGEST} bytes")
        try:
            return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretMissing(f"the file {shown} is not UTF-8 text") from None

    def _place(self, shown: str, project: Path) -> tuple[Path, str, bool]:
        """The folder to stay in, the way below it, and whether it is one of the mounts."""
        if "\0" in shown:
            raise SecretMissing(f"cannot read the file {shown!r}: not a path")
        asked = Path(os.path.normpath(project / shown))
        for folder in self.folders:
            if asked.is_relative_to(folder):
                return folder, str(asked.relative_to(folder)), True
        if Path(shown).is_absolute() and not asked.is_relative_to(project):
            raise SecretMissing(
                f"the file {shown} lies outside of the project; name its folder in secrets.folders of remit.yaml"
            )
        # A relative way is walked as it is written: "a/../b" through a link is another place than "b".
        return project, str(asked.relative_to(project)) if Path(shown).is_absolute() else shown, False

    def _check(self, facts: os.stat_result, descriptor: int, shown: str, *, mounted: bool) -> None:
        mode = stat.S_IMODE(facts.st_mode)
        if facts.st_uid not in (0, os.geteuid()):
            raise SecretMissing(f"the file {shown} belongs to uid {facts.st_uid}, who could change it")
        if mode & (0o022 if mounted or facts.st_uid != os.geteuid() else 0o077):
            raise SecretMissing(f"others may reach the file {shown} (mode {mode:04o}): chmod 600 {shown}")
        if any(_is_below(descriptor, folder) for folder in self.closed):
            raise SecretMissing(f"the file {shown} belongs to the engine and is nobody's secret")


def _is_below(descriptor: int, folder: Path) -> bool:
    """Whether an open file lies below a folder, by the name that the system knows it by."""
    try:
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        place = Path(os.path.realpath(f"/dev/fd/{descriptor}"))
    return place.is_relative_to(folder.resolve())
