"""Signatures of commits and tags: each way to be no good has its own reason, and nothing of the repository helps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controllers.sources import git_edit, git_signing, git_trust
from controllers.sources.git import GitReader
from controllers.sources.git_signature import Verdict
from schemas.errors import SourceUnreadable
from schemas.source import SourceReason, Verify
from tests.fakes.repos import Repo
from tests.fakes.signing import (
    GpgHome,
    Signer,
    allowed,
    commit,
    gpg_home,
    needs_gpg,
    needs_ssh,
    rewritten,
    ssh_signer,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
BEFORE = 'valid-before="20200101"'
AFTER = 'valid-after="20300101"'


@dataclass(frozen=True)
class GpgKeys:
    """Keys that the tests of a module share: making them takes a while."""

    ada: Signer
    bob: Signer
    old: Signer
    forge: Signer
    revoked: str


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgKeys]:
    with gpg_home() as home:
        yield _gpg_keys(home)


def _gpg_keys(home: GpgHome) -> GpgKeys:
    bob = home.signer("Bob <bob@example.org>")
    return GpgKeys(
        ada=home.signer("Ada Byron (work) <ada@example.org>"),
        bob=bob,
        old=home.signer("Old <old@example.org>", at="20200101T000000", lives="30d"),
        forge=home.signer("Forge <noreply@forge.example>"),
        revoked=home.revoked(bob),
    )


class Bench:
    """A repository, a file of allowed signers beside it, a keyring, and what a reader says of the head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "specs")
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.ada = ssh_signer(self.keys, "ada")
        self.eve = ssh_signer(self.keys, "eve")
        self.readers: list[GitReader] = []

    def trust(self, text: str, keyring: str | None = None, **more: object) -> Verify:
        """Declare trusted keys."""
        values: dict[str, object] = dict(more)
        if text or keyring is None:
            (self.folder / "allowed_signers").write_text(text)
            values["allowed_signers"] = "allowed_signers"
        if keyring is not None:
            (self.folder / "keyring.asc").write_text(keyring)
            values["gpg_keyring"] = "keyring.asc"
        return Verify.model_validate(values)

    def reader(self, verify: Verify, url: str = "specs", ref: str = "main") -> GitReader:
        """A reader that asks for signatures."""
        where = url if "://" in url else str(self.folder / url)
        trusted = git_trust.files(verify, self.folder)
        self.readers.append(GitReader(where, ref=ref, cache=self.folder / "mirrors", trusted=trusted))
        return self.readers[-1]

    def verdict(self, verify: Verify, *, ref: str = "main", url: str = "specs") -> Verdict:
        """What is said of the head."""
        reader = self.reader(verify, url, ref)
        reader.fetch()
        trust = reader.trust()
        assert trust is not None
        return reader.verdict(reader.head(), trust, NOW)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for reader in made.readers:
        reader.close()


def put(bench: Bench, signer: Signer | None, **options: str) -> str:
    return commit(bench.repo, {"a.yaml": "a: 1\n"}, signer, **options)


# SSH.


@needs_ssh
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_commit_of_an_allowed_signer_is_good_and_says_who(tmp_path: Path, object_format: str) -> None:
    bench = Bench(tmp_path)
    bench.repo = Repo(tmp_path / "other", object_format=object_format)
    put(bench, bench.ada)
    verdict = bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada))), url="other")
    assert (verdict.problem, verdict.principal, verdict.person) == (None, "ada@example.org", True)


SshCase = Callable[[Bench], Verify]


def _unsigned(bench: Bench) -> Verify:
    put(bench, None)
    return bench.trust(allowed(("ada@example.org", bench.ada)))


def _wrong_key(bench: Bench) -> Verify:
    put(bench, bench.eve)
    return bench.trust(allowed(("ada@example.org", bench.ada)))


def _forged_author(bench: Bench) -> Verify:
    put(bench, bench.eve, author="Ada <ada@example.org>")
    return bench.trust(allowed(("ada@example.org", bench.ada)))


def _expired(bench: Bench) -> Verify:
    put(bench, bench.ada)
    return bench.trust(allowed(("ada@example.org", bench.ada, BEFORE)))


def _not_yet(bench: Bench) -> Verify:
    put(bench, bench.ada)
    return bench.trust(allowed(("ada@example.org", bench.ada, f'namespaces="git",{AFTER}')))


def _other_purpose(bench: Bench) -> Verify:
    put(bench, bench.ada)
    return bench.trust(allowed(("ada@example.org", bench.ada, 'namespaces="file"')))


def _not_admitted(bench: Bench) -> Verify:
    put(bench, bench.eve)
    both = allowed(("ada@example.org", bench.ada), ("eve@example.org", bench.eve))
    return bench.trust(both, principals=["ada@example.org"])


def _changed(bench: Bench) -> Verify:
    signed = put(bench, bench.ada)
    other = rewritten(bench.repo, signed, lambda data: data.replace(b"\n\nchange", b"\n\nchanged"))
    bench.repo.git("update-ref", "refs/heads/main", other)
    return bench.trust(allowed(("ada@example.org", bench.ada)))


def _other_tree(bench: Bench) -> Verify:
    signed = put(bench, bench.ada)
    tree = bench.repo.git("rev-parse", f"{signed}^{{tree}}").strip().encode()
    bench.repo.write("a.yaml", "a: 2\n")
    bench.repo.git("add", "-A")
    new = bench.repo.git("write-tree").strip().encode()
    bench.repo.git(
        "update-ref", "refs/heads/main", rewritten(bench.repo, signed, lambda data: data.replace(tree, new, 1))
    )
    return bench.trust(allowed(("ada@example.org", bench.ada)))


def _damaged(bench: Bench) -> Verify:
    signed = put(bench, bench.ada)
    other = rewritten(bench.repo, signed, lambda data: data.replace(b" U1NIU0lH", b" !!NIU0lH"))
    bench.repo.git("update-ref", "refs/heads/main", other)
    return bench.trust(allowed(("ada@example.org", bench.ada)))


def _twin(bench: Bench) -> Verify:
    """Git leaves every signature header out of what is signed, so this one verifies for git under another id."""
    signed = put(bench, bench.ada)
    extra = b"gpgsig-sha256 nothing\n"
    twin = rewritten(bench.repo, signed, lambda data: data.replace(b"gpgsig ", extra + b"gpgsig ", 1))
    signers = bench.folder / "allowed_signers"
    signers.write_text(allowed(("ada@example.org", bench.ada)))
    bench.repo.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", twin)
    bench.repo.git("update-ref", "refs/heads/main", twin)
    return bench.trust(allowed(("ada@example.org", bench.ada)))


def _nobody_by_ssh(bench: Bench) -> Verify:
    put(bench, bench.ada)
    return bench.trust("", "nothing that is read here")


def _x509(bench: Bench) -> Verify:
    signed = put(bench, bench.ada)
    other = rewritten(bench.repo, signed, lambda data: data.replace(b"SSH SIGNATURE", b"SIGNED MESSAGE"))
    bench.repo.git("update-ref", "refs/heads/main", other)
    return bench.trust(allowed(("ada@example.org", bench.ada)))


@needs_ssh
@pytest.mark.parametrize(
    ("case", "reason", "words"),
    [
        (_unsigned, SourceReason.SIGNATURE_UNSIGNED, "is not signed"),
        (_wrong_key, SourceReason.SIGNATURE_UNTRUSTED, "SHA256:"),
        (_forged_author, SourceReason.SIGNATURE_UNTRUSTED, "SHA256:"),
        (_expired, SourceReason.SIGNATURE_EXPIRED, "ada@example.org"),
        (_not_yet, SourceReason.SIGNATURE_EXPIRED, "ada@example.org"),
        (_other_purpose, SourceReason.SIGNATURE_UNTRUSTED, "does not allow for git"),
        (_not_admitted, SourceReason.SIGNATURE_UNTRUSTED, "eve@example.org"),
        (_changed, SourceReason.SIGNATURE_INVALID, "does not fit"),
        (_other_tree, SourceReason.SIGNATURE_INVALID, "does not fit"),
        (_damaged, SourceReason.SIGNATURE_INVALID, "damaged"),
        (_twin, SourceReason.SIGNATURE_INVALID, "do not belong"),
        (_nobody_by_ssh, SourceReason.SIGNATURE_UNTRUSTED, "no allowedSigners"),
        (_x509, SourceReason.SIGNATURE_UNTRUSTED, "neither by SSH nor by GPG"),
    ],
)
def test_each_ssh_signature_that_is_no_good_has_its_reason(
    bench: Bench, case: SshCase, reason: SourceReason, words: str
) -> None:
    verdict = bench.verdict(case(bench))
    assert verdict.problem is reason
    assert words in verdict.message
    assert bench.repo.head[:12] in verdict.message
    assert not verdict.person


@needs_ssh
def test_a_key_may_have_ended_after_the_commit(bench: Bench) -> None:
    """The commits of these repositories are of 2023."""
    put(bench, bench.ada)
    verdict = bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada, 'valid-before="20240101Z"'))))
    assert verdict.problem is None


@needs_ssh
def test_a_pattern_of_names_is_trusted_but_is_no_person(bench: Bench) -> None:
    put(bench, bench.ada)
    verdict = bench.verdict(bench.trust(allowed(("*@example.org", bench.ada))))
    assert (verdict.problem, verdict.person) == (None, False)


@needs_ssh
def test_a_certificate_of_an_authority_counts_for_the_name_in_it(bench: Bench) -> None:
    import subprocess

    authority = ssh_signer(bench.keys, "authority")
    key = Path(bench.ada.settings["user.signingKey"])
    sign = ("ssh-keygen", "-q", "-s", authority.settings["user.signingKey"], "-I", "x", "-n", "ada@example.org")
    subprocess.run((*sign, str(key.with_suffix(".pub"))), check=True, capture_output=True)
    certificate = key.with_name("ada-cert.pub")
    put(bench, Signer({"gpg.format": "ssh", "user.signingKey": str(certificate)}, "", ""))
    line = allowed(("*@example.org", authority, 'cert-authority,namespaces="git"'))
    good = bench.verdict(bench.trust(line))
    assert (good.problem, good.principal, good.person) == (None, "ada@example.org", True)
    line = allowed(("*@elsewhere.org", authority, 'cert-authority,namespaces="git"'))
    assert bench.verdict(bench.trust(line)).problem is SourceReason.SIGNATURE_UNTRUSTED


# GPG.


@needs_ssh
@needs_gpg
def test_a_gpg_key_of_the_keyring_is_good_by_mail_and_by_fingerprint(bench: Bench, gpg: GpgKeys) -> None:
    put(bench, gpg.ada)
    verdict = bench.verdict(bench.trust("", gpg.ada.public + gpg.forge.public))
    assert (verdict.problem, verdict.principal, verdict.person) == (None, "ada@example.org", True)
    for names in (["ada@example.org"], [gpg.ada.name]):
        assert bench.verdict(bench.trust("", gpg.ada.public, principals=names)).problem is None
    other = bench.verdict(bench.trust("", gpg.ada.public + gpg.bob.public, principals=["bob@example.org"]))
    assert other.problem is SourceReason.SIGNATURE_UNTRUSTED
    assert "ada@example.org" in other.message


@needs_gpg
@pytest.mark.parametrize(
    ("signer", "keyring", "reason"),
    [
        ("bob", "ada", SourceReason.SIGNATURE_UNTRUSTED),
        ("old", "old", SourceReason.SIGNATURE_EXPIRED),
        ("bob", "revoked", SourceReason.SIGNATURE_REVOKED),
        ("forge", "ada", SourceReason.SIGNATURE_UNTRUSTED),
    ],
)
def test_each_gpg_signature_that_is_no_good_has_its_reason(
    bench: Bench, gpg: GpgKeys, signer: str, keyring: str, reason: SourceReason
) -> None:
    put(bench, getattr(gpg, signer))
    ring = getattr(gpg, keyring)
    verdict = bench.verdict(bench.trust("", ring if isinstance(ring, str) else ring.public))
    assert verdict.problem is reason
    assert bench.repo.head[:12] in verdict.message


@needs_gpg
def test_a_changed_gpg_commit_is_invalid(bench: Bench, gpg: GpgKeys) -> None:
    signed = put(bench, gpg.ada)
    other = rewritten(bench.repo, signed, lambda data: data.replace(b"\n\nchange", b"\n\nchanged"))
    bench.repo.git("update-ref", "refs/heads/main", other)
    assert bench.verdict(bench.trust("", gpg.ada.public)).problem is SourceReason.SIGNATURE_INVALID


@needs_gpg
def test_a_key_in_the_users_own_keyring_does_not_count(
    bench: Bench, gpg: GpgKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap: git alone exits with 0 for a key that was imported and never trusted."""
    with gpg_home() as home:
        home.gpg("--import", stdin=gpg.bob.public.encode())
        monkeypatch.setenv("GNUPGHOME", str(home.folder))
        monkeypatch.setenv("HOME", str(home.folder))
        put(bench, gpg.bob)
        bench.repo.git("verify-commit", "HEAD", env={"GNUPGHOME": str(home.folder)})
        verdict = bench.verdict(bench.trust("", gpg.ada.public))
    assert verdict.problem is SourceReason.SIGNATURE_UNTRUSTED


@needs_ssh
@needs_gpg
def test_a_merge_that_a_forge_signed_needs_the_forges_key_and_names_no_person(bench: Bench, gpg: GpgKeys) -> None:
    base = put(bench, bench.ada)
    bench.repo.git("checkout", "-q", "-b", "topic")
    commit(bench.repo, {"b.yaml": "b: 1\n"}, bench.ada)
    bench.repo.git("checkout", "-q", "main")
    bench.repo.git(*gpg.forge.options, "merge", "-q", "--no-ff", "-S", "-m", "Merge pull request", "topic")
    assert bench.repo.head != base
    people = allowed(("ada@example.org", bench.ada))
    without = bench.verdict(bench.trust(people))
    assert without.problem is SourceReason.SIGNATURE_UNTRUSTED
    assert "gpgKeyring" in without.message
    strict = bench.trust(people, gpg.forge.public, principals=["ada@example.org"])
    assert bench.verdict(strict).problem is SourceReason.SIGNATURE_UNTRUSTED
    listed = bench.trust(people, gpg.forge.public, principals=["ada@example.org"], forges=["noreply@forge.example"])
    good = bench.verdict(listed)
    assert (good.problem, good.principal, good.person) == (None, "noreply@forge.example", False)


@needs_gpg
def test_a_keyring_without_a_key_trusts_nobody(bench: Bench, gpg: GpgKeys) -> None:
    put(bench, gpg.ada)
    with pytest.raises(SourceUnreadable) as caught:
        bench.verdict(bench.trust("", "no key at all\n"))
    assert caught.value.reason == SourceReason.ALLOWED_SIGNERS_REFUSED


# Tags.


@needs_ssh
@needs_gpg
def test_an_annotated_tag_is_judged_by_its_own_signature(bench: Bench, gpg: GpgKeys) -> None:
    trust = bench.trust(allowed(("ada@example.org", bench.ada)), gpg.ada.public)
    put(bench, None)
    bench.repo.git(*bench.ada.options, "tag", "-s", "-m", "one", "v1")
    bench.repo.git(*gpg.ada.options, "tag", "-s", "-m", "two", "v2")
    bench.repo.git("tag", "-a", "-m", "three", "v3")
    bench.repo.git(*bench.eve.options, "tag", "-s", "-m", "four", "v4")
    bench.repo.git("tag", "v5")
    for ref in ("v1", "refs/tags/v1", "v2", bench.repo.git("rev-parse", "v1").strip()):
        found = bench.verdict(trust, ref=ref)
        assert (found.problem, found.principal, found.person) == (None, "ada@example.org", True), ref
    unsigned = bench.verdict(trust, ref="v3")
    assert unsigned.problem is SourceReason.SIGNATURE_UNSIGNED
    assert "the tag v3" in unsigned.message
    assert bench.verdict(trust, ref="v4").problem is SourceReason.SIGNATURE_UNTRUSTED
    assert bench.verdict(trust, ref="v5").problem is SourceReason.SIGNATURE_UNSIGNED
    assert bench.verdict(trust, ref="main").problem is SourceReason.SIGNATURE_UNSIGNED
    old = bench.trust(allowed(("ada@example.org", bench.ada, BEFORE)))
    assert bench.verdict(old, ref="v1").problem is SourceReason.SIGNATURE_EXPIRED


@needs_ssh
def test_a_lightweight_tag_is_judged_by_its_commit(bench: Bench) -> None:
    put(bench, bench.ada)
    bench.repo.git("tag", "v1")
    assert bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada))), ref="v1").problem is None


@needs_ssh
def test_a_changed_tag_is_invalid(bench: Bench) -> None:
    put(bench, bench.ada)
    bench.repo.git(*bench.ada.options, "tag", "-s", "-m", "one", "v1")
    tag = bench.repo.git("rev-parse", "v1").strip()
    for change in (
        lambda data: data.replace(b"\n\none", b"\n\nother"),
        lambda data: data.replace(b"tagger ", b"gpgsig-sha256 x\ntagger "),
    ):
        bench.repo.git("update-ref", "refs/tags/v1", rewritten(bench.repo, tag, change))
        found = bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada))), ref="v1")
        assert found.problem is SourceReason.SIGNATURE_INVALID


@needs_ssh
def test_an_old_signed_tag_under_a_new_name_is_refused(bench: Bench) -> None:
    put(bench, bench.ada)
    bench.repo.git(*bench.ada.options, "tag", "-s", "-m", "one", "v1")
    bench.repo.git("update-ref", "refs/tags/v2", "refs/tags/v1")
    with pytest.raises(SourceUnreadable, match="signed as v1") as caught:
        bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada))), ref="v2")
    assert caught.value.reason == SourceReason.SIGNATURE_INVALID


@needs_ssh
def test_remotes_are_judged_through_their_mirror(bench: Bench) -> None:
    put(bench, bench.ada)
    bench.repo.git(*bench.ada.options, "tag", "-s", "-m", "one", "v1")
    trust = bench.trust(allowed(("ada@example.org", bench.ada)))
    url = f"file://{bench.repo.path}"
    assert bench.verdict(trust, url=url).principal == "ada@example.org"
    assert bench.verdict(trust, url=url, ref="v1").principal == "ada@example.org"
    put(bench, None)
    assert bench.verdict(trust, url=url).problem is SourceReason.SIGNATURE_UNSIGNED


# Hostile repositories.


@needs_ssh
@needs_gpg
def test_nothing_in_the_repositorys_configuration_takes_part(bench: Bench, gpg: GpgKeys) -> None:
    put(bench, bench.eve)
    marker = bench.folder / "ran"
    program = bench.folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\nexit 0\n")
    program.chmod(0o755)
    signers = bench.repo.path / ".git" / "signers"
    signers.write_text(allowed(("ada@example.org", bench.eve)))
    for key, value in {
        "gpg.program": program,
        "gpg.openpgp.program": program,
        "gpg.x509.program": program,
        "gpg.ssh.program": program,
        "gpg.ssh.defaultKeyCommand": program,
        "gpg.ssh.allowedSignersFile": signers,
        "gpg.minTrustLevel": "undefined",
        "log.showSignature": "true",
        "core.pager": program,
        "alias.verify-commit": f"!{program}",
    }.items():
        bench.repo.git("config", key, str(value))
    trust = bench.trust(allowed(("ada@example.org", bench.ada)), gpg.ada.public)
    assert bench.verdict(trust).problem is SourceReason.SIGNATURE_UNTRUSTED
    bench.repo.git("-c", "gpg.ssh.program=ssh-keygen", *bench.ada.options, "commit", "-q", "--allow-empty", "-S", "-m",
                   "x")  # fmt: skip
    assert bench.verdict(trust).problem is None
    bench.repo.git("-c", "gpg.openpgp.program=", *gpg.ada.options,
                   "-c", f"gpg.openpgp.program={gpg.ada.settings['gpg.program']}",
                   "commit", "-q", "--allow-empty", "-S", "-m", "x")  # fmt: skip
    assert bench.verdict(trust).problem is None
    assert not marker.exists()


@needs_ssh
def test_replacing_a_commit_does_not_lend_it_a_signature(bench: Bench) -> None:
    good = put(bench, bench.ada)
    bad = put(bench, None, message="bad")
    bench.repo.git("replace", bad, good)
    assert bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada)))).problem is (
        SourceReason.SIGNATURE_UNSIGNED
    )


@needs_ssh
def test_a_good_object_stored_under_another_name_is_damage(bench: Bench) -> None:
    good = put(bench, bench.ada)
    bad = put(bench, None, message="bad")
    content = bench.repo.git("cat-file", "commit", good).encode()
    bench.repo.forge(bad, content, "commit")
    with pytest.raises(SourceUnreadable) as caught:
        bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada))))
    assert caught.value.reason == "ObjectDamaged"


@needs_ssh
def test_a_branch_that_moves_meanwhile_does_not_lend_its_new_signature(bench: Bench) -> None:
    put(bench, None)
    reader = bench.reader(bench.trust(allowed(("ada@example.org", bench.ada))))
    trust, head = reader.trust(), reader.head()
    assert trust is not None
    put(bench, bench.ada, message="later")
    assert reader.verdict(head, trust, NOW).problem is SourceReason.SIGNATURE_UNSIGNED
    assert reader.verdict(reader.head(), trust, NOW).problem is None


@needs_ssh
def test_a_tag_that_moves_meanwhile_is_read_again(bench: Bench) -> None:
    put(bench, None)
    bench.repo.git(*bench.ada.options, "tag", "-s", "-m", "one", "v1")
    reader = bench.reader(bench.trust(allowed(("ada@example.org", bench.ada))), ref="v1")
    trust, head = reader.trust(), reader.head()
    assert trust is not None
    put(bench, None, message="later")
    bench.repo.git(*bench.ada.options, "tag", "-f", "-s", "-m", "two", "v1")
    with pytest.raises(SourceUnreadable) as caught:
        reader.verdict(head, trust, NOW)
    assert caught.value.reason == SourceReason.SOURCE_CHANGING
    assert reader.verdict(reader.head(), trust, NOW).problem is None


# What is committed here.


@needs_ssh
def test_a_file_is_committed_with_the_users_signature(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bench, bench.ada)
    monkeypatch.setenv("HOME", str(bench.folder))
    (bench.folder / ".gitconfig").write_text(
        f"[user]\n\tsigningKey = {bench.ada.settings['user.signingKey']}\n[gpg]\n\tformat = ssh\n"
    )
    signing = git_signing.configured(bench.repo.git_dir)
    assert signing is not None
    trust = bench.trust(allowed(("ada@example.org", bench.ada)))
    git_edit.commit_file(bench.repo.path, "main", "a.yaml", "a: 2\n", "Edit", signing=signing)
    assert bench.verdict(trust).principal == "ada@example.org"
    git_edit.commit_file(bench.repo.path, "main", "a.yaml", "a: 3\n", "Edit")
    assert bench.verdict(trust).problem is SourceReason.SIGNATURE_UNSIGNED


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("", False),
        ("[gpg]\n\tformat = ssh\n", False),
        ("[commit]\n\tgpgSign = false\n", False),
        ("[user]\n\tsigningKey = x\n[gpg]\n\tformat = x509\n", False),
        ("[user]\n\tsigningKey = x\n", True),
        ("[commit]\n\tgpgSign\n", True),
    ],
)
def test_who_has_no_key_does_not_sign(bench: Bench, monkeypatch: pytest.MonkeyPatch, text: str, signs: bool) -> None:
    monkeypatch.setenv("HOME", str(bench.folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (bench.folder / ".gitconfig").write_text(text)
    assert (git_signing.configured(bench.repo.git_dir) is not None) is signs


# Programs that say yes in words only.


def stub(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program before the real one."""
    place = folder / "stubs"
    place.mkdir()
    (place / name).write_text(f"#!/bin/sh\n{script}")
    (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


@needs_ssh
def test_the_word_good_is_no_good_signature(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git takes the letter G and the name from what ssh-keygen prints, whatever its exit code."""
    put(bench, bench.eve)
    script = """case "$2" in
    find-principals) echo ada@example.org ;;
    check-novalidate) exit 0 ;;
    *) echo 'Good "git" signature for ada@example.org with ED25519 key SHA256:x'; exit 1 ;;
    esac
    """
    stub(bench.folder, "ssh-keygen", script, monkeypatch)
    verdict = bench.verdict(bench.trust(allowed(("ada@example.org", bench.ada))))
    assert verdict.problem is SourceReason.SIGNATURE_UNTRUSTED


GOOD = "NEWSIG", "GOODSIG FC90611ECC8463AD Ada <ada@example.org>"
VALID = "VALIDSIG {0} 2026-11-21 1795234243 0 4 0 22 8 00 {0}"


@needs_gpg
@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        ((*GOOD, VALID, "TRUST_ULTIMATE 0 pgp"), True),
        ((*GOOD, VALID, "TRUST_FULLY 0 pgp"), True),
        ((*GOOD, VALID, "TRUST_MARGINAL 0 pgp"), False),
        ((*GOOD, VALID, "TRUST_UNDEFINED 0 pgp"), False),
        ((*GOOD, VALID, "TRUST_NEVER 0 pgp"), False),
        ((*GOOD, VALID), False),
        ((*GOOD, "TRUST_ULTIMATE 0 pgp"), False),
        ((*GOOD, VALID.replace("{0}", "0" * 40), "TRUST_ULTIMATE 0 pgp"), False),
        ((*GOOD, VALID, *GOOD, VALID, "TRUST_ULTIMATE 0 pgp"), False),
        ((*GOOD, VALID, "BADSIG FC90611ECC8463AD Eve", "TRUST_ULTIMATE 0 pgp"), False),
        (("NEWSIG", VALID, "TRUST_ULTIMATE 0 pgp"), False),
        ((), False),
    ],
)
def test_gpg_has_to_vouch_for_one_declared_key(
    bench: Bench, gpg: GpgKeys, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], counts: bool
) -> None:
    put(bench, gpg.ada)
    said = "".join(f"[GNUPG:] {line.format(gpg.ada.name)}\n" for line in lines)
    script = f"""case "$*" in
    *--verify*) cat <<'END'\n{said}END
    echo 'gpg: Good signature from "Ada <ada@example.org>" [ultimate]' >&2 ;;
    *) exec {shutil.which("gpg")} "$@" ;;
    esac
    """
    stub(bench.folder, "gpg", script, monkeypatch)
    verdict = bench.verdict(bench.trust("", gpg.ada.public))
    assert (verdict.problem is None) is counts, verdict.message


@needs_gpg
def test_a_gpg_that_cannot_even_start_is_no_verdict_on_the_commit(
    bench: Bench, gpg: GpgKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, gpg.ada)
    (bench.folder / "stubs").mkdir()
    (bench.folder / "stubs" / "gpg").write_bytes(b"\x7fELF")
    (bench.folder / "stubs" / "gpg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bench.folder / 'stubs'}:{os.environ['PATH']}")
    assert bench.verdict(bench.trust("", gpg.ada.public)).problem is SourceReason.SIGNATURE_UNCHECKED


# The files of trusted keys.


def refusal(bench: Bench, path: str | Path) -> str:
    with pytest.raises(SourceUnreadable) as caught:
        bench.reader(Verify.model_validate({"allowed_signers": str(path)})).trust()
    assert caught.value.reason == SourceReason.ALLOWED_SIGNERS_REFUSED
    return str(caught.value)


@needs_ssh
def test_keys_that_a_commit_could_change_are_refused(bench: Bench) -> None:
    put(bench, bench.ada)
    text = allowed(("ada@example.org", bench.ada))
    inside = bench.repo.path / "allowed_signers"
    inside.write_text(text)
    hidden = bench.repo.path / ".git" / "allowed_signers"
    hidden.write_text(text)
    bench.repo.git("worktree", "add", "-q", "--detach", str(bench.folder / "linked"))
    linked = bench.folder / "linked" / "allowed_signers"
    linked.write_text(text)
    outside = bench.folder / "outside"
    outside.write_text(text)
    to_inside = bench.folder / "to-inside"
    to_inside.symlink_to(inside)
    alias = bench.folder / "alias"
    alias.symlink_to(bench.repo.path)
    from_inside = bench.repo.path / "from-inside"
    from_inside.symlink_to(outside)
    relative = bench.folder / "relative"
    relative.symlink_to("specs/../specs/allowed_signers")
    for path in (inside, hidden, linked, to_inside, alias / "allowed_signers", from_inside, relative,
                 "specs/allowed_signers", "linked/../specs/allowed_signers"):  # fmt: skip
        assert "lies in the repository" in refusal(bench, path), path
    assert bench.reader(Verify(allowed_signers=str(outside))).trust() is not None


@needs_ssh
def test_a_mirror_is_no_place_for_keys(bench: Bench) -> None:
    put(bench, bench.ada)
    verify = bench.trust(allowed(("ada@example.org", bench.ada)))
    reader = bench.reader(verify, f"file://{bench.repo.path}")
    reader.fetch()
    (reader.folder / "keys").write_text("x")
    inside = bench.reader(Verify(allowed_signers=str(reader.folder / "keys")), f"file://{bench.repo.path}")
    with pytest.raises(SourceUnreadable, match="lies in the repository"):
        inside.trust()


def test_keys_that_cannot_be_read_are_refused(bench: Bench) -> None:
    put(bench, None)
    (bench.folder / "empty").write_text(" \n")
    (bench.folder / "loop").symlink_to("loop")
    os.mkfifo(bench.folder / "pipe")
    with (bench.folder / "huge").open("wb") as file:
        file.truncate(5 * 1024 * 1024)
    words = {"nowhere": "cannot be read", "empty": "nobody is trusted", "loop": "symlink", "keys": "not a regular file",
             "pipe": "not a regular file", "huge": "more than"}  # fmt: skip
    for name, text in words.items():
        assert text in refusal(bench, name), name


def test_naming_no_keys_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="allowedSigners, gpgKeyring"):
        Verify()


@needs_ssh
def test_a_changed_file_of_keys_counts_at_once(bench: Bench) -> None:
    put(bench, bench.ada)
    reader = bench.reader(bench.trust(allowed(("ada@example.org", bench.ada))))

    def look() -> SourceReason | None:
        trust = reader.trust()
        assert trust is not None
        return reader.verdict(reader.head(), trust, NOW).problem

    assert look() is None
    bench.trust(allowed(("eve@example.org", bench.eve)))
    assert look() is SourceReason.SIGNATURE_UNTRUSTED
    bench.trust(allowed(("ada@example.org", bench.ada)))
    assert look() is None


@needs_ssh
def test_a_verdict_is_remembered_for_a_while_and_a_missing_program_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench, bench.ada)
    reader = bench.reader(bench.trust(allowed(("ada@example.org", bench.ada))))
    trust = reader.trust()
    assert trust is not None
    assert reader.verdict(reader.head(), trust, NOW).problem is None
    bare = bench.folder / "bin"
    bare.mkdir()
    for name in ("git", "env"):
        found = shutil.which(name)
        assert found is not None
        (bare / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(bare))
    assert reader.verdict(reader.head(), trust, NOW + timedelta(minutes=5)).problem is None
    later = reader.verdict(reader.head(), trust, NOW + timedelta(minutes=11))
    assert later.problem is SourceReason.SIGNATURE_UNCHECKED
    assert "openssh-client" in later.advice
    monkeypatch.undo()
    assert reader.verdict(reader.head(), trust, NOW + timedelta(minutes=11)).problem is None
