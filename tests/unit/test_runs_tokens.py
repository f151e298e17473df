"""Run tokens: minted from the uid, proven by the key, dead without it."""

from __future__ import annotations

import os
import stat
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.runs.tokens import KEY_BYTES, RunTokens, load_or_create_key
from schemas.errors import Refused, StoreUnavailable

KEY = bytes(range(32))
UID = "019a0000-0000-7000-8000-000000000001"


def test_a_token_names_its_kind_and_is_the_same_each_time() -> None:
    token = RunTokens(KEY).mint(UID)
    assert token.startswith("rmt_run_")
    assert token == RunTokens(KEY).mint(UID)
    assert len(token) == len("rmt_run_") + 22 + 1 + 43 + 6


@given(st.uuids(), st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_every_uid_comes_back_from_its_token(uid: uuid.UUID, key: bytes) -> None:
    tokens = RunTokens(key)
    assert tokens.verify(tokens.mint(str(uid))) == str(uid)


@given(st.integers(0, 79), st.sampled_from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_- "))
def test_no_token_with_another_character_is_good(place: int, character: str) -> None:
    tokens = RunTokens(KEY)
    token = tokens.mint(UID)
    changed = token[:place] + character + token[place + 1 :]
    assert tokens.verify(changed) == (UID if changed == token else None)


@given(st.text(max_size=120))
def test_no_other_text_is_good(text: str) -> None:
    assert RunTokens(KEY).verify(text) is None


def test_a_token_of_another_engine_is_not_good() -> None:
    assert RunTokens(KEY).verify(RunTokens(bytes(32)).mint(UID)) is None


def test_a_token_for_a_number_beyond_every_uid_is_not_good() -> None:
    assert RunTokens(KEY).verify("rmt_run_" + "z" * 22 + "_" + "0" * 43 + "000000") is None


def test_only_canonical_uids_have_tokens() -> None:
    for text in ("run-1", UID.upper(), "{" + UID + "}", ""):
        with pytest.raises(ValueError, match=r"uid|UUID|form"):
            RunTokens(KEY).mint(text)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        RunTokens(b"short")


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "run.key"
    key = load_or_create_key(path)
    assert len(key) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path) == key
    assert [p.name for p in tmp_path.iterdir()] == ["run.key"]


def test_a_loose_umask_does_not_open_the_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create_key(tmp_path / "run.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run.key").stat().st_mode) == 0o600


def test_makers_at_the_same_time_get_the_same_key(tmp_path: Path) -> None:
    path, found = tmp_path / "run.key", []
    gate = threading.Barrier(8)

    def make() -> None:
        gate.wait()
        found.append(load_or_create_key(path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.key"]


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(KEY)
    target.chmod(0o600)
    link = tmp_path / "run.key"
    link.symlink_to(target)
    with pytest.raises(Refused, match="symbolic link"):
        load_or_create_key(link)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refused, match="symbolic link"):
        load_or_create_key(link)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_key_that_others_can_reach_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "run.key"
    path.write_bytes(KEY)
    path.chmod(mode)
    with pytest.raises(Refused, match="mode") as caught:
        load_or_create_key(path)
    assert caught.value.reason == "KeyFileUnsafe"
    assert path.read_bytes() == KEY


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"x" * 10_000])
def test_a_key_of_another_length_is_not_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Refused, match="bytes instead of 32"):
        load_or_create_key(path)


def test_what_is_not_a_file_is_not_used(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.key", 0o600)
    with pytest.raises(Refused, match="not a regular file"):
        load_or_create_key(tmp_path / "run.key")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"no/run\.key"):
        load_or_create_key(tmp_path / "no" / "run.key")


def test_a_place_has_a_token_of_its_own_that_is_no_runs() -> None:
    tokens = RunTokens(KEY)
    placed = tokens.mint(UID, "hook")
    assert placed.startswith("rmt_hook_")
    for _ in range(2):  # the second time it is known
        assert tokens.identify(placed) == (UID, "hook")
        assert tokens.verify(placed) is None
        assert tokens.identify(tokens.mint(UID)) == (UID, "run")
    assert tokens.identify(placed.replace("rmt_hook_", "rmt_run_")) is None, "the kind is proven too"
    with pytest.raises(ValueError, match="not a kind of token"):
        tokens.mint(UID, "proxy")
