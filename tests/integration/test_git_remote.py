"""Remote repositories over real connections: mirrors, and everything that goes wrong on the way."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controllers.sources import git_mirror, tree
from controllers.sources.git import GitReader
from schemas.errors import SourceUnreadable
from tests.fakes.git_server import GitServer, serving
from tests.fakes.repos import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "remote.git", bare=True)
    repo.commit({"a.yaml": "1\n"})
    return repo


@pytest.fixture
def server(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    monkeypatch.setenv("HOME", str(repo.path.parent))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(repo.path) as made:
        yield made


@pytest.fixture
def reader(server: GitServer, tmp_path: Path) -> Iterator[GitReader]:
    made = GitReader(server.url, cache=tmp_path / "cache", fetch_s=20)
    yield made
    made.close()


def everything(reader: GitReader) -> dict[str, bytes]:
    return {entry.path: data for entry, data in reader.read_blobs(reader.read_tree().entries)}


def fault(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(SourceUnreadable) as caught:
        call()
    return caught.value.reason, str(caught.value)


def test_a_remote_is_fetched_and_read(repo: Repo, reader: GitReader) -> None:
    assert fault(reader.head)[0] == tree.REPOSITORY_UNREACHABLE
    reader.fetch()
    assert reader.head() == f"main@sha1:{repo.head}"
    assert everything(reader) == {"a.yaml": b"1\n"}
    new = repo.commit({"b.yaml": "2\n"})
    assert reader.head() != f"main@sha1:{new}"
    reader.fetch()
    assert reader.head() == f"main@sha1:{new}"
    assert everything(reader) == {"a.yaml": b"1\n", "b.yaml": b"2\n"}


def test_an_unchanged_remote_costs_one_listing(reader: GitReader, server: GitServer) -> None:
    reader.fetch()
    server.requests.clear()
    reader.fetch()
    assert "fetch" not in server.requests
    subprocess.run(["git", "-C", str(reader.folder), "gc", "-q"], check=True)  # packs the mirror's ref
    reader.fetch()
    assert "fetch" not in server.requests


def test_only_the_wanted_ref_is_fetched(repo: Repo, reader: GitReader, server: GitServer) -> None:
    reader.fetch()
    repo.commit({"status.yaml": "x"}, branch="remit/status", orphan=True)
    server.requests.clear()
    reader.fetch()
    assert "fetch" not in server.requests
    assert "status" not in str(list((reader.folder / "refs").rglob("*")))


def test_tags_commits_and_sha256_repositories_can_be_followed(repo: Repo, server: GitServer, tmp_path: Path) -> None:
    first = repo.head
    repo.git("tag", "-a", "-m", "release", "v1")
    repo.commit({"a.yaml": "2\n"})
    for ref in ("v1", first, "refs/heads/main", "HEAD"):
        reader = GitReader(server.url, ref=ref, cache=tmp_path / "cache")
        reader.fetch()
        assert everything(reader) == {"a.yaml": b"1\n" if ref in ("v1", first) else b"2\n"}
        reader.close()
    big = Repo(tmp_path / "big.git", bare=True, object_format="sha256")
    big.commit({"a.yaml": "256\n"})
    server.repository = big.path
    reader = GitReader(server.url, cache=tmp_path / "cache")
    reader.fetch()
    assert reader.head() == f"main@sha256:{big.head}"
    assert everything(reader) == {"a.yaml": b"256\n"}
    server.repository = repo.path  # the forge was set up anew, with the other format
    reader.fetch()
    assert everything(reader) == {"a.yaml": b"2\n"}
    reader.close()


def test_file_urls_are_mirrored_too(repo: Repo, tmp_path: Path) -> None:
    reader = GitReader(f"file://{repo.path}", cache=tmp_path / "cache")
    reader.fetch()
    shutil.rmtree(repo.path)
    assert everything(reader) == {"a.yaml": b"1\n"}
    assert fault(reader.fetch)[0] == tree.REPOSITORY_UNREACHABLE
    assert everything(reader) == {"a.yaml": b"1\n"}
    reader.close()


def test_a_restarted_engine_reads_the_mirror_without_network(
    server: GitServer, reader: GitReader, tmp_path: Path
) -> None:
    reader.fetch()
    reader.close()
    server.status = 500
    again = GitReader(server.url, cache=tmp_path / "cache")
    assert everything(again) == {"a.yaml": b"1\n"}
    reason, _ = fault(again.fetch)
    assert reason == tree.REPOSITORY_UNREACHABLE
    assert everything(again) == {"a.yaml": b"1\n"}
    again.close()


def test_a_force_push_is_followed_and_recognised(repo: Repo, reader: GitReader) -> None:
    first = repo.head
    second = repo.commit({"a.yaml": "2\n"})
    reader.fetch()
    repo.git("update-ref", "refs/heads/main", first)
    forced = repo.commit({"a.yaml": "3\n"})
    reader.fetch()
    assert everything(reader) == {"a.yaml": b"3\n"}
    assert not reader.is_ancestor(second, forced)
    assert reader.is_ancestor(first, forced)
    reader.require_common_history(second, forced)
    unrelated = repo.commit({"a.yaml": "4\n"}, orphan=True)
    reader.fetch()
    assert fault(lambda: reader.require_common_history(forced, unrelated))[0] == tree.HISTORY_REWRITTEN


def test_a_ref_or_repository_without_commits_is_told_apart(repo: Repo, reader: GitReader, server: GitServer) -> None:
    reader.fetch()
    repo.git("branch", "keep")
    repo.git("update-ref", "-d", "refs/heads/main")
    reason, message = fault(reader.fetch)
    assert reason == tree.REF_NOT_FOUND
    assert "main" in message
    repo.git("update-ref", "-d", "refs/heads/keep")
    assert fault(reader.fetch)[0] == tree.EMPTY_REPOSITORY
    assert everything(reader) == {"a.yaml": b"1\n"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_an_authentication_failure_that_says_what_to_do(
    reader: GitReader, server: GitServer, status: int
) -> None:
    server.status = status
    reason, message = fault(reader.fetch)
    assert reason == tree.AUTHENTICATION_FAILED
    assert "credential helper" in message


@pytest.mark.parametrize("status", [404, 500, 503])
def test_other_http_errors_are_unreachable(reader: GitReader, server: GitServer, status: int) -> None:
    server.status = status
    assert fault(reader.fetch)[0] == tree.REPOSITORY_UNREACHABLE


def test_a_redirect_to_another_protocol_is_refused(reader: GitReader, server: GitServer, repo: Repo) -> None:
    server.status, server.redirect = 302, f"file://{repo.path}/info/refs"
    assert fault(reader.fetch)[0] == tree.REPOSITORY_UNREACHABLE


def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reader = GitReader(f"http://127.0.0.1:{port}/x.git", cache=tmp_path / "cache", fetch_s=60)
    assert fault(reader.fetch)[0] == tree.REPOSITORY_UNREACHABLE


def test_a_remote_that_accepts_and_stays_silent_times_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.git"
        reader = GitReader(url, cache=tmp_path / "cache", fetch_s=1.0)
        began = time.monotonic()
        reason, message = fault(reader.fetch)
        assert reason == tree.FETCH_TIMEOUT
        assert "1 s" in message
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("where", ["info", "ls-refs", "fetch"])
def test_a_remote_that_hangs_at_any_step_times_out_and_recovers(
    reader: GitReader, server: GitServer, tmp_path: Path, where: str
) -> None:
    hasty = GitReader(server.url, cache=tmp_path / "cache", fetch_s=1.5)
    server.hang_on = where
    assert fault(hasty.fetch)[0] == tree.FETCH_TIMEOUT
    assert not hasty.folder.exists()
    server.hang_on = None
    server.release()
    reader.fetch()
    assert everything(reader) == {"a.yaml": b"1\n"}


def test_a_pack_that_stops_halfway_leaves_the_old_state_and_no_rubbish(
    repo: Repo, reader: GitReader, server: GitServer, tmp_path: Path
) -> None:
    reader.fetch()
    before = reader.head()
    repo.commit({f"{n}.yaml": os.urandom(4000) for n in range(150)})
    server.cut_after = 200_000
    hasty = GitReader(server.url, cache=tmp_path / "cache", fetch_s=3)
    assert fault(hasty.fetch)[0] == tree.FETCH_TIMEOUT
    assert server.hanging.is_set()
    assert reader.head() == before
    assert everything(reader) == {"a.yaml": b"1\n"}
    server.cut_after = None
    server.release()
    reader.fetch()
    assert len(everything(reader)) == 151
    assert list((reader.folder / "objects/pack").glob("tmp_*")) == []


def test_an_engine_killed_in_the_middle_of_a_fetch_leaves_a_mirror_that_recovers(
    repo: Repo, server: GitServer, tmp_path: Path
) -> None:
    reader = GitReader(server.url, cache=tmp_path / "cache", fetch_s=120)
    reader.fetch()
    repo.commit({f"{n}.yaml": os.urandom(4000) for n in range(150)})
    server.cut_after = 200_000
    program = f"""
        from pathlib import Path
        from controllers.sources.git import GitReader
        GitReader({server.url!r}, cache=Path({str(tmp_path / "cache")!r}), fetch_s=60).fetch()
    """
    engine = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parents[2])
    assert server.hanging.wait(120)
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    # Git outlives the engine and still holds the mirror's lock: nobody else may touch the mirror yet.
    impatient = GitReader(server.url, cache=tmp_path / "cache", fetch_s=0.5)
    assert fault(impatient.fetch)[0] == tree.FETCH_TIMEOUT
    assert everything(reader) == {"a.yaml": b"1\n"}
    server.cut_after = None
    server.release()
    reader.fetch()
    assert len(everything(reader)) == 151
    reader.close()
    impatient.close()


def test_locks_and_half_packs_left_by_a_crash_are_removed(repo: Repo, reader: GitReader) -> None:
    reader.fetch()
    mirror = reader.folder
    (mirror / git_mirror.REF).with_suffix(".lock").write_text("")
    for leftover in ("packed-refs.lock", "config.lock", "HEAD.lock", "shallow.lock", "objects/pack/tmp_pack_x"):
        (mirror / leftover).parent.mkdir(parents=True, exist_ok=True)
        (mirror / leftover).write_text("half")
    new = repo.commit({"a.yaml": "2\n"})
    reader.fetch()
    assert reader.head() == f"main@sha1:{new}"
    assert not (mirror / "objects/pack/tmp_pack_x").exists()


@pytest.mark.parametrize("moment", ["before the swap", "in the swap", "after the swap"])
def test_a_swap_cut_short_by_a_crash_is_finished_or_undone(repo: Repo, reader: GitReader, moment: str) -> None:
    reader.fetch()
    mirror = reader.folder
    old, new = mirror.with_suffix(".old"), mirror.with_suffix(".new")
    reader.close()
    if moment == "before the swap":
        new.mkdir()
    elif moment == "in the swap":
        shutil.copytree(mirror, new)
        mirror.rename(old)
    else:
        shutil.copytree(mirror, old)
    reader.fetch()
    assert everything(reader) == {"a.yaml": b"1\n"}
    assert not old.exists()
    assert not new.exists()


def test_a_damaged_mirror_is_reported_and_rebuilt_by_the_next_fetch(repo: Repo, reader: GitReader) -> None:
    for damage in ("bytes", "gone", "ref", "head", "all"):
        reader.fetch()
        assert everything(reader) == {"a.yaml": b"1\n"}
        reader.close()
        mirror = reader.folder
        files = [f for f in (mirror / "objects").rglob("*") if f.is_file() and "info" not in f.parts]
        if damage == "bytes":
            for file in files:
                file.chmod(0o600)
                data = bytearray(file.read_bytes())
                data[len(data) // 2] ^= 0xFF
                file.write_bytes(bytes(data))
        elif damage == "gone":
            for file in files:
                file.unlink()
        elif damage == "ref":
            (mirror / git_mirror.REF).write_text("garbage")
        elif damage == "head":
            (mirror / "HEAD").write_text("")
        else:
            shutil.rmtree(mirror)
        reason, _ = fault(lambda: everything(reader))
        assert reason in (tree.OBJECT_DAMAGED, tree.OBJECT_MISSING, tree.REF_DAMAGED, tree.REPOSITORY_UNREACHABLE)
        reader.fetch()
        assert everything(reader) == {"a.yaml": b"1\n"}


def test_a_revision_the_mirror_never_had_does_not_cost_a_rebuild(
    repo: Repo, reader: GitReader, server: GitServer
) -> None:
    reader.fetch()
    assert fault(lambda: reader.read_tree("1" * 40))[0] == tree.OBJECT_MISSING
    server.requests.clear()
    reader.fetch()
    assert "fetch" not in server.requests


def test_fetches_of_two_engines_wait_for_one_another(repo: Repo, server: GitServer, tmp_path: Path) -> None:
    readers = [GitReader(server.url, cache=tmp_path / "cache", fetch_s=30) for _ in range(4)]
    failures: list[BaseException] = []

    def work(reader: GitReader) -> None:
        try:
            for _ in range(3):
                reader.fetch()
                assert everything(reader)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for number in range(3):
        repo.commit({"a.yaml": f"{number}\n"})
    for thread in threads:
        thread.join()
    assert failures == []
    for reader in readers:
        reader.fetch()
        assert everything(reader) == {"a.yaml": b"2\n"}
        reader.close()


def test_a_lock_held_by_another_process_ends_in_a_timeout(reader: GitReader, server: GitServer, tmp_path: Path) -> None:
    impatient = GitReader(server.url, cache=tmp_path / "cache", fetch_s=0.3)
    (tmp_path / "cache").mkdir()
    with impatient.folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason, message = fault(impatient.fetch)
    assert reason == tree.FETCH_TIMEOUT
    assert "another process" in message


def test_a_full_disk_is_named_and_healed_by_room(repo: Repo, server: GitServer, tmp_path: Path) -> None:
    cache = tmp_path / "small"
    cache.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", cache], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        reader = GitReader(server.url, cache=cache, fetch_s=20)
        reader.fetch()
        before = reader.head()
        repo.commit({f"{n}.yaml": os.urandom(8000) for n in range(150)})
        for _ in range(2):
            reason, message = fault(reader.fetch)
            assert reason == tree.DISK_FULL
            assert "free some space" in message
            assert reader.head() == before
            assert everything(reader) == {"a.yaml": b"1\n"}
        subprocess.run(["mount", "-o", "remount,size=16m", cache], check=True)
        reader.fetch()
        assert len(everything(reader)) == 151
        reader.close()
    finally:
        subprocess.run(["umount", cache], check=True)


def test_a_cache_that_cannot_be_written_is_named(server: GitServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    reader = GitReader(server.url, cache=tmp_path / "file" / "cache")
    reason, message = fault(reader.fetch)
    assert reason == tree.REPOSITORY_UNREACHABLE
    assert str(tmp_path / "file") in message


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called ssh that notes its arguments and runs the command on this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ssh"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    return program


@pytest.mark.parametrize("form", ["ssh://git@example.org{}", "git@example.org:{}"])
def test_ssh_is_used_without_a_prompt(repo: Repo, ssh: Path, tmp_path: Path, form: str) -> None:
    reader = GitReader(form.format(repo.path), cache=tmp_path / "cache")
    reader.fetch()
    assert everything(reader) == {"a.yaml": b"1\n"}
    reader.close()
    asked = (tmp_path / "asked").read_text()
    assert "BatchMode=yes" in asked
    assert "git@example.org" in asked


def test_a_key_that_ssh_does_not_accept_is_an_authentication_failure(repo: Repo, ssh: Path, tmp_path: Path) -> None:
    ssh.write_text("#!/bin/sh\necho 'git@example.org: Permission denied (publickey).' >&2\nexit 255\n")
    reader = GitReader("git@example.org:specs.git", cache=tmp_path / "cache")
    assert fault(reader.fetch)[0] == tree.AUTHENTICATION_FAILED


def test_credentials_come_from_the_users_own_configuration(
    repo: Repo, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.password = "s3cret"
    reader = GitReader(server.url, cache=tmp_path / "cache")
    assert fault(reader.fetch)[0] == tree.AUTHENTICATION_FAILED
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / ".netrc").write_text("machine 127.0.0.1 login robot password s3cret\n")
    again = GitReader(server.url, cache=tmp_path / "cache")
    again.fetch()
    assert everything(again) == {"a.yaml": b"1\n"}
    again.close()


def test_a_remote_needs_a_cache_folder() -> None:
    assert fault(lambda: GitReader("https://example.org/x.git"))[0] == tree.ADDRESS_REFUSED


def test_fetching_a_local_source_does_nothing(tmp_path: Path) -> None:
    reader = GitReader(str(tmp_path / "nowhere"))
    reader.fetch()
