"""Throw-away git repositories for tests, made by the system's git: good ones, and ones damaged in every known way."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/dev/null",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}

AGENT = """\
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata:
  name: {name}
spec:
  executorRef: {{name: local}}
"""


def agent(name: str) -> str:
    """A small manifest."""
    return AGENT.format(name=name)


class Repo:
    """A repository under test. Every commit gets its own second, so ids do not depend on when the test runs.

    ``path`` is the work tree, or the repository itself when it is bare. Commits are made without touching the work
    tree (`commit`), or in it as a person would (`write`, `git`).
    """

    def __init__(self, path: Path, *, bare: bool = False, object_format: str = "sha1", branch: str = "main") -> None:
        self.path = path
        self.bare = bare
        self.branch = branch
        self._seconds = 1_700_000_000
        path.mkdir(parents=True, exist_ok=True)
        kind = ["--bare"] if bare else []
        options = ["-q", "--template=", f"--initial-branch={branch}", f"--object-format={object_format}"]
        self.git("init", *kind, *options, ".")

    @property
    def git_dir(self) -> Path:
        """Where refs and objects are."""
        return self.path if self.bare else self.path / ".git"

    @property
    def head(self) -> str:
        """The id of the branch's commit."""
        return self.git("rev-parse", f"refs/heads/{self.branch}").strip()

    def git(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """Run git in the repository; its stdout. Raises CalledProcessError when it fails."""
        self._seconds += 1
        dates = {"GIT_AUTHOR_DATE": f"{self._seconds} +0000", "GIT_COMMITTER_DATE": f"{self._seconds} +0000"}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**ENVIRONMENT, **dates, **(env or {})},
            input=stdin,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
        return done.stdout.decode("utf-8", "surrogateescape")

    def write(self, path: str, text: str | bytes) -> None:
        """Write a file of the work tree, uncommitted."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(
        self,
        files: Mapping[str | bytes, str | bytes | None],
        *,
        message: str = "change",
        modes: Mapping[str | bytes, str] | None = None,
        branch: str | None = None,
        orphan: bool = False,
        checkout: bool = True,
    ) -> str:
        """Commit ``files`` on top of the branch; None deletes one. Names may be any bytes. Returns the commit's id.

        ``modes`` gives another mode than 100644: 120000 makes a symlink of the content, 160000 a submodule at the
        commit id that the content names. The work tree follows when it is on the branch, unless ``checkout`` is off.
        """
        branch = branch or self.branch
        self._seconds += 1
        modes = modes or {}
        parent = "" if orphan else self._tip(branch)
        stream = [f"commit refs/heads/{branch}\ncommitter Ada <ada@example.org> {self._seconds} +0000\n".encode()]
        stream.append(b"data %d\n%s\n" % (len(message.encode()), message.encode()))
        if parent:
            stream.append(f"from {parent}\n".encode())
        elif orphan:
            self.git("update-ref", "-d", f"refs/heads/{branch}")
        for name, content in files.items():
            path = _quoted(name)
            if content is None:
                stream.append(b"D %s\n" % path)
                continue
            data = content.encode() if isinstance(content, str) else content
            mode = modes.get(name, "100644")
            if mode == "160000":
                stream.append(b"M 160000 %s %s\n" % (data, path))
            else:
                stream.append(b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), path, len(data), data))
        self.git("fast-import", "--quiet", "--force", stdin=b"".join(stream))
        if checkout and not self.bare and self.git("symbolic-ref", "HEAD").strip() == f"refs/heads/{branch}":
            self.git("reset", "--quiet", "--hard")
        return self.git("rev-parse", f"refs/heads/{branch}").strip()

    def blob(self, path: str, revision: str | None = None) -> str:
        """The object id at a path."""
        return self.git("rev-parse", f"{revision or self.head}:{path}").strip()

    def loosen(self) -> None:
        """Turn packs into loose objects, which the tests can damage one by one."""
        packs = sorted((self.git_dir / "objects" / "pack").glob("*.pack"))
        data = [pack.read_bytes() for pack in packs]
        for pack in packs:
            for part in pack.parent.glob(f"{pack.stem}.*"):
                part.unlink()
        for content in data:
            self.git("unpack-objects", "-q", stdin=content)

    def object_path(self, oid: str) -> Path:
        """The file of a loose object, made writable."""
        path = self.git_dir / "objects" / oid[:2] / oid[2:]
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        return path

    def truncate(self, oid: str, part: float) -> None:
        """Keep only the first ``part`` of a loose object's file."""
        path = self.object_path(oid)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])

    def flip_bit(self, oid: str, at: float = 0.5) -> None:
        """Flip one bit of a loose object's file."""
        path = self.object_path(oid)
        data = bytearray(path.read_bytes())
        data[int(len(data) * at)] ^= 0x10
        path.write_bytes(bytes(data))

    def forge(self, oid: str, content: bytes, kind: str = "blob") -> None:
        """Store well-formed but other content under an object's name."""
        self.object_path(oid).write_bytes(zlib.compress(f"{kind} {len(content)}\0".encode() + content))

    def remove_object(self, oid: str) -> None:
        """Lose a loose object."""
        self.object_path(oid).unlink()

    def store(self, kind: str, content: bytes) -> str:
        """Store any bytes as a well-named SHA-1 object of a kind, however malformed; its id."""
        framed = f"{kind} {len(content)}\0".encode() + content
        oid = hashlib.sha1(framed, usedforsecurity=False).hexdigest()
        path = self.git_dir / "objects" / oid[:2] / oid[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(framed))
        return oid

    def commit_tree(self, rows: Iterable[tuple[str, bytes, str]]) -> str:
        """Put a branch on a commit whose root tree has exactly these (mode, name, id) rows, legal or not."""
        tree = self.store("tree", b"".join(b"%s %s\0%s" % (m.encode(), n, bytes.fromhex(i)) for m, n, i in rows))
        person = f"Ada <ada@example.org> {self._seconds} +0000"
        commit = self.store("commit", f"tree {tree}\nauthor {person}\ncommitter {person}\n\nodd\n".encode())
        self.git("update-ref", f"refs/heads/{self.branch}", commit)
        return commit

    def _tip(self, branch: str) -> str:
        try:
            return self.git("rev-parse", "--verify", "-q", f"refs/heads/{branch}").strip()
        except subprocess.CalledProcessError:
            return ""


def _quoted(name: str | bytes) -> bytes:
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    plain = set(range(33, 127)) - set(b'"\\')
    return b'"%s"' % b"".join(bytes([byte]) if byte in plain else b"\\%03o" % byte for byte in raw)
