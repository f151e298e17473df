"""URLs, refs, paths and revisions of git sources, judged by our own rules before git sees any of them.

Everything here comes from a spec, so from strangers. What does not match is refused with AddressRefused; nothing is
repaired. A text that passed can stand in a git command line behind ``--`` and in a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controllers.sources import tree
from schemas.errors import SourceUnreadable

_USER = r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.+-]*)"
_HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_PATH = r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)"
_HTTP = re.compile(rf"(?P<scheme>https?)://(?:{_USER}@)?{_HOST}{_PATH}")
_SSH = re.compile(rf"ssh://(?:{_USER}@)?{_HOST}{_PATH}")
_FILE = re.compile(r"file://(?P<path>/[^\x00-\x1f\x7f]*)")
_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?:(?!-)[A-Za-z0-9._~+@%/-]+")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_SECRET = re.compile(r"://[^/@\s]*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}|localhost|\[::1\]")
_REF = re.compile(r"[^\x00-\x20\x7f-\xa0~^:?*\[\\\u2000-\u200f\u2028-\u202f\ufeff]+")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REVISION = re.compile(r"(?:.+@(?:sha1|sha256):)?(?P<commit>[0-9a-f]{64}|[0-9a-f]{40})")
_MAX_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where a repository is. ``local`` is its folder when it is read in place, else None and ``url`` is fetched.

    ``protocols`` is the list for GIT_ALLOW_PROTOCOL: what git may speak to reach ``url``, redirects included.
    """

    url: str
    local: Path | None
    protocols: str

    def __str__(self) -> str:
        return redact(self.url)


def redact(text: str) -> str:
    """``text`` without what stands before the ``@`` of a URL: it may be a token."""
    return _SECRET.sub("://", text)


def parse_address(url: str) -> Address:
    """The address in ``url``: a local path, ``file://``, ``https://``, ``ssh://`` or ``user@host:path``.

    ``http://`` is accepted for this machine only: on a network, whoever sits between could rewrite policies. A
    password in the URL is refused, since it would show in process lists and in the stored spec.
    """
    if not url or len(url) > _MAX_LENGTH or url.startswith("-") or _CONTROL.search(url):
        raise _refused(f"the repository URL {_shown(url)} is empty, too long, or no URL", _URL_FORMS)
    if _HELPER.match(url):
        raise _refused(f"the repository URL {_shown(url)} names a remote helper, which runs commands", _URL_FORMS)
    scheme = _SCHEME.match(url)
    if scheme is None:
        if _SCP.fullmatch(url):
            return Address(url, None, "ssh")
        if re.match(r"[^/]*@[^/]*:", url):
            raise _refused(f"the repository URL {_shown(url)} is no address", _URL_FORMS)
        return Address(url, Path(url).absolute(), "none")
    if re.match(r"[^/]*//[^/@]*:[^/@]*@", url):
        raise _refused(
            f"the repository URL {redact(url)} holds a password", "put it in ~/.netrc or a git credential helper"
        )
    if _FILE.fullmatch(url):
        return Address(url, None, "file")
    if _SSH.fullmatch(url):
        return Address(url, None, "ssh")
    http = _HTTP.fullmatch(url)
    if http is not None and http["scheme"] == "https":
        # A global insteadOf may send https over ssh; a redirect to plain http stays refused.
        return Address(url, None, "https:ssh")
    if http is not None:
        if not _LOOPBACK.fullmatch(http["host"]):
            raise _refused(f"the repository URL {redact(url)} is not encrypted", "use https://")
        return Address(url, None, "http:https")
    raise _refused(f"the repository URL {_shown(url)} is not of an accepted form", _URL_FORMS)


_URL_FORMS: Final = "use a local path, https://host/path, ssh://user@host/path, user@host:path or file:///path"


def parse_ref(ref: str) -> str:
    """A branch, a tag, a full ref (``refs/...``), ``HEAD`` or a full commit id, by git's own rules for ref names."""
    parts = ref.split("/")
    if (
        not ref
        or len(ref) > _MAX_LENGTH
        or ref.startswith("-")
        or ref.endswith(".")
        or ref == "@"
        or ".." in ref
        or "@{" in ref
        or not _REF.fullmatch(ref)
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    ):
        raise _refused(f"the ref {_shown(ref)} is no branch, tag or commit", "name a branch such as main")
    return ref


def is_commit(ref: str) -> bool:
    """Whether ``ref`` is a whole commit id rather than a name."""
    return _COMMIT.fullmatch(ref) is not None


def candidates(ref: str) -> tuple[str, ...]:
    """The full names that ``ref`` may stand for, best first. A branch wins over a tag of its name, always."""
    if ref == "HEAD" or ref.startswith("refs/"):
        return (ref,)
    return (f"refs/heads/{ref}", f"refs/tags/{ref}")


def parse_path(path: str) -> str:
    """The folder inside the repository, normalised: no ``.`` parts, no slash at either end, "" for the root."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if len(path) > _MAX_LENGTH or path.startswith("/") or ".." in parts or _CONTROL.search(path):
        raise _refused(f"the path {_shown(path)} leaves the repository", "give a path relative to its root")
    if any(part.lower() == ".git" for part in parts):
        raise _refused(f"the path {_shown(path)} leads into git's own files", "give a path of the work tree")
    return "/".join(parts)


def parse_revision(revision: str) -> str:
    """The commit id in ``<ref>@sha1:<hex>``, or in a bare commit id."""
    found = _REVISION.fullmatch(revision)
    if found is None:
        raise _refused(f"{_shown(revision)} is no revision", "give <ref>@sha1:<commit> or a full commit id")
    return found["commit"]


def _shown(text: str) -> str:
    return repr(redact(tree.printable(text[:200])))


def _refused(message: str, hint: str) -> SourceUnreadable:
    return SourceUnreadable(f"{message}; {hint}", reason=tree.ADDRESS_REFUSED)
