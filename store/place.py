"""Where an SQLite store is: ``sqlite:///relative/path``, ``sqlite:////absolute/path``, and the files they name."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import StoreUnavailable

_SQLITE = "sqlite:///"
_MAGIC = b"SQLite format 3\0"


def sqlite_path(url: str) -> Path:
    """The file that a store URL names. Raises StoreUnavailable for any other URL; its text, which may hold a password,
    is not repeated."""
    path = url[len(_SQLITE) :]
    if not url.startswith(_SQLITE) or not path or path == ":memory:" or "\0" in path:
        raise StoreUnavailable(
            "not a store URL: write sqlite:///.remit/state.db, sqlite:////absolute/path/state.db, or"
            " postgresql://user@host:5432/database"
        )
    return Path(path)


def check_file(path: Path) -> None:
    """Raises StoreUnavailable unless ``path`` is a file that SQLite may have written, or an empty one.

    SQLite itself says less when it cannot open a file, and takes one of a few bytes for an empty database.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise StoreUnavailable(f"there is no store at {path}. {advice(path)}") from None
    except IsADirectoryError:
        raise StoreUnavailable(f"the store {path} is a directory. Check the path") from None
    except OSError as error:
        raise StoreUnavailable(
            f"the store {path} cannot be read: {error.strerror}. Make it readable for this user"
        ) from error
    if start not in (b"", _MAGIC):
        raise StoreUnavailable(f"{path} is not a Remit store, or its start is overwritten. Check the path")


def advice(path: Path) -> str:
    """What to do when there is no file."""
    if not path.parent.is_dir():
        return f"The directory {path.parent} does not exist: check the path, or make it"
    return "Check the path, or start the engine on it with `remit run`"
