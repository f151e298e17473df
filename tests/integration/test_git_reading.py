"""Reading real repositories: what is listed, what it costs, and that a listing is one consistent state."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controllers.sources import tree
from controllers.sources.git import GitReader
from schemas.errors import InvalidSpec, SourceUnreadable
from tests.fakes.repos import Repo, agent

Reading = Callable[..., GitReader]


@pytest.fixture
def read() -> Iterator[Reading]:
    readers: list[GitReader] = []

    def make(repo: Repo | Path, **options: object) -> GitReader:
        path = repo.path if isinstance(repo, Repo) else repo
        readers.append(GitReader(str(path), **options))  # type: ignore[arg-type]
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def contents(reader: GitReader, listed: tree.Tree | None = None) -> dict[str, bytes]:
    listed = listed or reader.read_tree()
    return {entry.path: data for entry, data in reader.read_blobs(listed.entries)}


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(SourceUnreadable) as caught:
        call()
    assert str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("bare", [False, True])
def test_a_listing_holds_every_manifest_and_its_bytes(
    tmp_path: Path, read: Reading, bare: bool, object_format: str
) -> None:
    repo = Repo(tmp_path / "r", bare=bare, object_format=object_format)
    head = repo.commit({"b/z.yaml": agent("z"), "a.YML": agent("a"), "README.md": "x", "b.yaml": agent("b")})
    reader = read(repo)
    listed = reader.read_tree()
    assert listed.revision == reader.head() == f"main@{object_format}:{head}"
    assert listed.commit == head
    assert listed.problems == ()
    assert contents(reader) == {
        "a.YML": agent("a").encode(),
        "b.yaml": agent("b").encode(),
        "b/z.yaml": agent("z").encode(),
    }
    assert [e.path for e in listed.entries] == ["a.YML", "b.yaml", "b/z.yaml"]
    assert {e.blob for e in listed.entries} == {repo.blob(p) for p in ("a.YML", "b.yaml", "b/z.yaml")}
    assert all(e.size == len(agent("x")) and e.mode == "100644" for e in listed.entries)


def test_the_reader_agrees_with_git_show_over_random_histories(tmp_path: Path, read: Reading) -> None:
    rnd = random.Random(7)
    repo = Repo(tmp_path / "r")
    reader = read(repo)
    names = [f"{a}/{b}.yaml" for a in ("x", "x/y", "x.y", "z") for b in ("a", "b", "a b", "ü", 'q"')]
    alive: set[str] = set()
    for step in range(25):
        change: dict[str | bytes, str | bytes | None] = {}
        for name in rnd.sample(names, 4):
            change[name] = None if name in alive and rnd.random() < 0.4 else rnd.randbytes(rnd.randrange(3000))
        head = repo.commit(change, checkout=False, message=f"step {step}")
        alive = set(repo.git("ls-tree", "-r", "-z", "--name-only", head).split("\0")) - {""}
        listed = reader.read_tree()
        assert listed.commit == head
        assert [e.path for e in listed.entries] == sorted(alive, key=str.encode)
        for path, data in contents(reader, listed).items():
            assert repo.git("show", f"{head}:{path}") == data.decode("utf-8", "surrogateescape")


def test_a_path_scopes_the_listing_and_unrelated_commits_leave_its_tree_id(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"teams/a/one.yaml": agent("one"), "other/two.yaml": agent("two")})
    reader = read(repo, path="./teams/a/")
    first = reader.read_tree()
    assert [e.path for e in first.entries] == ["one.yaml"]
    repo.commit({"other/two.yaml": agent("three")})
    second = reader.read_tree()
    assert second.revision != first.revision
    assert second.tree_id == first.tree_id
    assert second.entries == first.entries


def test_hidden_files_and_folders_are_not_listed(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit(
        {".github/ci.yaml": "x", ".remit/remit.yaml": "x", ".hidden.yaml": "x", "a/.b/c.yaml": "x", "d.yaml": "x"}
    )
    listed = read(repo).read_tree()
    assert [e.path for e in listed.entries] == ["d.yaml"]
    assert listed.problems == ()


def test_a_reader_lists_what_else_it_is_asked_for(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"souls/a.md": "be kind", "b.yaml": "x", "c.txt": "x"})
    reader = read(repo, wanted=lambda path: tree.is_manifest(path) or path.startswith("souls/"))
    assert [e.path for e in reader.read_tree().entries] == ["b.yaml", "souls/a.md"]


def test_find_gives_any_file_and_refuses_what_leaves_the_path(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    links = {"s/link.md": "120000", "s/out.md": "120000"}
    repo.commit(
        {"s/souls/a.md": "be kind", "s/b.yaml": "x", "s/link.md": "souls/a.md", "s/out.md": "../top.md", "top.md": "x"},
        modes=dict(links),
    )
    reader = read(repo, path="s")
    listed = reader.read_tree()
    found = reader.find(listed, "souls/a.md")
    assert found is not None
    assert list(reader.read_blobs([found])) == [(found, b"be kind")]
    linked = reader.find(listed, "link.md")
    assert linked is not None
    assert linked.path == "link.md"
    assert linked.blob == found.blob
    assert reader.find(listed, "souls/none.md") is None
    assert reader.find(listed, "souls") is None
    assert reader.find(listed, "b.yaml/x") is None
    for path in ("out.md", "../top.md", "/etc/passwd", "a\n"):
        with pytest.raises(InvalidSpec, match=r"leaves the source path|not a path|control character"):
            reader.find(listed, path)


def test_a_branch_wins_over_a_tag_and_tags_are_peeled(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    first = repo.commit({"a.yaml": "1"})
    repo.git("tag", "-a", "-m", "annotated", "v1")
    repo.git("tag", "-a", "-m", "tag of a tag", "v2", "v1")
    second = repo.commit({"a.yaml": "2"})
    assert read(repo, ref="v1").head() == f"v1@sha1:{first}"
    assert read(repo, ref="v2").head() == f"v2@sha1:{first}"
    repo.git("branch", "v1", second)
    assert read(repo, ref="v1").head() == f"v1@sha1:{second}"
    assert read(repo, ref="refs/tags/v1").head() == f"refs/tags/v1@sha1:{first}"
    assert read(repo, ref=first).head() == f"{first}@sha1:{first}"
    assert read(repo, ref="HEAD").head() == f"HEAD@sha1:{second}"


def test_refs_are_found_loose_packed_and_moving_between_the_two(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    reader = read(repo)
    for number in range(4):
        repo.git("pack-refs", "--all")
        assert not (repo.git_dir / "refs/heads/main").exists()
        assert reader.head() == f"main@sha1:{repo.head}"
        head = repo.commit({"a.yaml": f"{number + 2}"})
        assert reader.head() == f"main@sha1:{head}"
    repo.git("gc", "--quiet", "--prune=now")
    assert reader.head() == f"main@sha1:{head}"
    assert contents(reader) == {"a.yaml": b"5"}


def test_a_repository_with_a_reftable_is_asked_through_git(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    head = repo.commit({"a.yaml": "1"})
    (repo.git_dir / "reftable").mkdir()
    assert read(repo).head() == f"main@sha1:{head}"
    assert read(repo, ref="HEAD").head() == f"HEAD@sha1:{head}"
    assert reason(read(repo, ref="mai").head) == tree.REF_NOT_FOUND


def test_a_tag_named_like_a_full_ref_never_answers_for_it(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    repo.git("update-ref", "refs/tags/refs/heads/gone", repo.head)
    assert reason(read(repo, ref="gone").head) == tree.REF_NOT_FOUND
    assert reason(read(repo, ref="refs/heads/gone").head) == tree.REF_NOT_FOUND


def test_linked_work_trees_and_git_files_are_read(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    head = repo.commit({"a.yaml": "1"})
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    linked = read(tmp_path / "linked")
    assert linked.head() == f"main@sha1:{head}"
    assert read(tmp_path / "linked", ref="HEAD").head() == f"HEAD@sha1:{head}"
    repo.git("init", "-q", "--template=", f"--separate-git-dir={tmp_path / 'apart.git'}")
    assert contents(read(repo)) == {"a.yaml": b"1"}


def test_an_older_revision_can_be_read_while_the_branch_moves_on(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1", "b.yaml": "1"})
    reader = read(repo)
    old = reader.head()
    new = repo.commit({"a.yaml": "2", "b.yaml": None, "c.yaml": "3"})
    assert contents(reader, reader.read_tree(old)) == {"a.yaml": b"1", "b.yaml": b"1"}
    assert contents(reader, reader.read_tree(new)) == {"a.yaml": b"2", "c.yaml": b"3"}
    assert reader.read_tree(old).revision == old


def test_changed_names_the_files_that_differ(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    old = repo.commit({"s/a.yaml": "1", "s/b.yaml": "1", "s/c.yaml": "1", "other.yaml": "1"})
    new = repo.commit({"s/a.yaml": "2", "s/b.yaml": None, "s/ü d.yaml": "1", "other.yaml": "2"})
    reader = read(repo, path="s")
    assert reader.changed(old, old) == []
    assert reader.changed(old, new) == [
        tree.Change("a.yaml", repo.blob("s/a.yaml", old), repo.blob("s/a.yaml", new)),
        tree.Change("b.yaml", repo.blob("s/b.yaml", old), ""),
        tree.Change("ü d.yaml", "", repo.blob("s/ü d.yaml", new)),
    ]
    gone = repo.commit({"s/a.yaml": None, "s/c.yaml": None, "s/ü d.yaml": None})
    assert [change.new for change in reader.changed(new, gone)] == ["", "", ""]


def test_ancestry_tells_a_fast_forward_from_a_rewrite(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    first = repo.commit({"a.yaml": "1"})
    second = repo.commit({"a.yaml": "2"})
    repo.git("update-ref", "refs/heads/main", first)
    forced = repo.commit({"a.yaml": "3"})
    unrelated = repo.commit({"a.yaml": "4"}, orphan=True)
    reader = read(repo)
    assert reader.is_ancestor(first, second)
    assert reader.is_ancestor(second, second)
    assert not reader.is_ancestor(second, forced)
    reader.require_common_history(second, forced)
    assert reason(lambda: reader.require_common_history(forced, unrelated)) == tree.HISTORY_REWRITTEN
    assert not reader.is_ancestor("1" * 40, unrelated)
    assert reason(lambda: reader.require_common_history("1" * 40, unrelated)) == tree.HISTORY_REWRITTEN


def test_a_shallow_clone_is_read_but_does_not_vouch_for_history(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    first = repo.commit({"a.yaml": "1"})
    for number in range(3):
        last = repo.commit({"a.yaml": f"{number}"})
    shallow = Repo(tmp_path / "shallow", bare=True)
    shallow.git("fetch", "-q", "--depth=2", f"file://{repo.path}", "main:main")
    reader = read(shallow)
    assert contents(reader) == {"a.yaml": b"2"}
    assert reader.is_ancestor(f"{last}", last)
    assert reason(lambda: reader.is_ancestor(first, last)) == tree.OBJECT_MISSING


def test_a_repository_without_commits_is_not_an_empty_source(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    reader = read(repo)
    assert reason(reader.head) == tree.EMPTY_REPOSITORY
    assert reason(reader.read_tree) == tree.EMPTY_REPOSITORY
    head = repo.commit({"a.yaml": "1"})
    assert reader.head() == f"main@sha1:{head}"


def test_a_deleted_branch_is_not_an_empty_source(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    repo.git("branch", "keep")
    reader = read(repo)
    reader.read_tree()
    repo.git("update-ref", "-d", "refs/heads/main")
    assert reason(reader.head) == tree.REF_NOT_FOUND
    assert reason(reader.read_tree) == tree.REF_NOT_FOUND


def test_a_path_that_is_gone_is_not_an_empty_source(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"specs/a.yaml": "1", "b.yaml": "1"})
    reader = read(repo, path="specs")
    reader.read_tree()
    repo.commit({"specs/a.yaml": None})
    assert reason(reader.read_tree) == tree.PATH_NOT_FOUND
    assert reason(read(repo, path="b.yaml").read_tree) == tree.PATH_NOT_FOUND
    repo.commit({"specs": "elsewhere", "elsewhere/x.yaml": "1"}, modes={"specs": "120000"})
    assert reason(reader.read_tree) == tree.PATH_NOT_FOUND


def test_an_empty_tree_that_was_committed_is_empty(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    repo.commit({"a.yaml": None})
    assert read(repo).read_tree().entries == ()


def test_a_repository_that_goes_and_comes_back_is_read_again(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    reader = read(repo)
    listed = reader.read_tree()
    repo.path.rename(tmp_path / "away")
    assert reason(reader.head) == tree.REPOSITORY_UNREACHABLE
    assert reason(lambda: list(reader.read_blobs(listed.entries))) == tree.REPOSITORY_UNREACHABLE
    other = Repo(tmp_path / "r", object_format="sha256")
    head = other.commit({"b.yaml": "2"})
    assert reader.head() == f"main@sha256:{head}"
    assert contents(reader) == {"b.yaml": b"2"}


def test_a_folder_that_is_no_repository_is_unreachable(tmp_path: Path, read: Reading) -> None:
    with pytest.raises(SourceUnreadable, match="not a git repository"):
        read(tmp_path).head()
    Repo(tmp_path / "r").commit({"specs/a.yaml": "1"})
    with pytest.raises(SourceUnreadable, match="set the path"):
        read(tmp_path / "r" / "specs").head()
    with pytest.raises(SourceUnreadable, match="no such folder"):
        read(tmp_path / "none").head()


def test_killed_git_processes_are_replaced_without_a_word(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({f"{n}.yaml": f"{n}" for n in range(50)})
    reader = read(repo)
    first = reader.head()
    reader.changed(first, first)
    assert len(contents(reader)) == 50
    for _ in range(3):
        pids = reader.pids
        assert len(pids) == 3
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        head = repo.commit({"0.yaml": f"again {pids}"}, checkout=False)
        assert contents(reader)["0.yaml"] == f"again {pids}".encode()
        assert [change.path for change in reader.changed(first, head)] == ["0.yaml"]
        assert not set(pids) & set(reader.pids)


def test_a_git_process_that_hangs_ends_in_an_error_not_in_a_wait(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    reader = read(repo, deadline_s=1.0)
    listed = reader.read_tree()
    list(reader.read_blobs(listed.entries))
    for pid in reader.pids:
        os.kill(pid, signal.SIGSTOP)
    assert reason(lambda: list(reader.read_blobs(listed.entries))) == tree.REPOSITORY_UNREACHABLE
    assert len(list(reader.read_blobs(listed.entries))) == 1


def test_commits_made_while_reading_never_mix_into_a_listing(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r", bare=True)
    names = [f"d{n % 7}/f{n}.yaml" for n in range(60)]
    repo.commit(dict.fromkeys(names, "0"))
    done = threading.Event()

    def churn() -> None:
        for number in range(1, 25):
            repo.commit(dict.fromkeys(names, f"{number}"))
            if number % 8 == 0:
                repo.git("repack", "-adq")
        done.set()

    reader = read(repo)
    writer = threading.Thread(target=churn)
    writer.start()
    seen = set()
    while not done.is_set() or not seen:
        found = contents(reader)
        assert set(found) == set(names)
        assert len(set(found.values())) == 1
        seen |= set(found.values())
    writer.join()
    assert contents(reader) == dict.fromkeys(names, b"24")
    assert len(seen) > 2


def test_ten_thousand_files_in_one_commit_then_one_change(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r", bare=True)
    repo.commit({f"ns-{n // 100}/r-{n}.yaml": agent(f"a{n}") for n in range(10_000)})
    reader = read(repo)
    first = reader.read_tree()
    assert len(first.entries) == 10_000
    assert sum(1 for _ in reader.read_blobs(first.entries)) == 10_000
    repo.commit({"ns-7/r-700.yaml": "changed: true\n"})
    second = reader.read_tree()
    assert [e.path for e in set(second.entries) - set(first.entries)] == ["ns-7/r-700.yaml"]
    # Everything that did not change is the very same object: nothing of it was read again.
    kept = {id(entry) for entry in first.entries}
    assert sum(1 for entry in second.entries if id(entry) not in kept) <= 100


def test_too_many_files_or_links_make_the_source_unreadable(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit(
        {f"{n}.yaml": "1" for n in range(12)} | {f"l{n}": "0.yaml" for n in range(3)},
        modes={f"l{n}": "120000" for n in range(3)},
    )
    assert len(read(repo, limits=tree.Limits(max_files=12)).read_tree().entries) == 12
    for limits in (tree.Limits(max_files=11), tree.Limits(max_nodes=14), tree.Limits(max_links=2)):
        assert reason(read(repo, limits=limits).read_tree) == tree.LIMIT_EXCEEDED


def test_a_tree_that_repeats_itself_without_end_is_refused_in_time(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r", bare=True)
    oid = repo.store("blob", b"x: 1\n")
    inner = repo.store("tree", b"100644 a.yaml\0" + bytes.fromhex(oid))
    for _ in range(12):  # 10 to the power of 12 files in 13 objects
        inner = repo.store("tree", b"".join(b"40000 %d\0%s" % (n, bytes.fromhex(inner)) for n in range(10)))
    repo.commit_tree([("40000", b"bomb", inner)])
    assert reason(read(repo, limits=tree.Limits(max_nodes=20_000)).read_tree) == tree.LIMIT_EXCEEDED


def test_two_threads_may_share_a_reader(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({f"{n}.yaml": "1" * n for n in range(40)})
    reader = read(repo)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(15):
                assert {p: len(d) for p, d in contents(reader).items()} == {f"{n}.yaml": n for n in range(40)}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_closed_reader_opens_again_and_leaves_no_process(tmp_path: Path, read: Reading) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1"})
    reader = read(repo)
    contents(reader)
    pids = reader.pids
    reader.close()
    reader.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert contents(reader) == {"a.yaml": b"1"}
