"""What a store is told to take out is in none of its files, wherever it was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from controllers.secrets.known import KnownSecrets
from schemas.base import Key
from schemas.redaction import OFF, Redactor
from schemas.resource import SYSTEM, Declared
from store import open_store
from tests.fakes.stores import CountedIds, SettableClock

SECRET = "the-value-of-a-secret"


def masked(value: Any, namespace: str) -> Any:
    return Redactor((SECRET,), OFF).known(value) if namespace == "default" else value


def test_a_mask_keeps_values_out_of_every_table(tmp_path: Path) -> None:
    store = open_store(
        f"sqlite:///{tmp_path / 'state.db'}", now=SettableClock(), new_id=CountedIds(), create=True, mask=masked
    )
    said: dict[str, Any] = {"text": f"it is {SECRET}", "deep": [{SECRET: SECRET}]}
    key = Key("Mission", "default", "m")
    with store.transaction(SYSTEM) as tx:
        record = tx.create(Declared("ToolCall", "default", "call", said), status=said)
        assert SECRET not in str((record.spec, record.status)), "who wrote it sees what is kept"
        declared = tx.create(Declared("Mission", "default", "m", {"title": "t"}))
        tx.put_status(declared, said)
        tx.event("Created", key, reason="Said", message=f"it is {SECRET}", data=said)
        tx.enqueue("Notify", "k", key, said)
        again = tx.get(record.key)
        assert again is not None
        assert tx.put_status(again, said).resource_version == again.resource_version, "masked, it is no change"
    with store.transaction(SYSTEM) as tx:
        (effect,) = tx.claim_effects("me", types=["Notify"], limit=1, lease_s=10)
        tx.fail_effect(effect, f"refused: {SECRET}", retry_at=None)
    with store.snapshot() as snapshot:
        assert snapshot.verify_events().broken_seq == 0
        assert "[redacted]" in snapshot.events()[0].message
    store.close()
    for path in tmp_path.glob("state.db*"):
        assert SECRET.encode() not in path.read_bytes()


def test_what_people_declare_is_kept_as_they_wrote_it(tmp_path: Path) -> None:
    """A masked spec would differ from what stands in git at every look; plans and pages mask what they show."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    store = open_store(url, now=SettableClock(), new_id=CountedIds(), create=True, mask=masked)
    with store.transaction(SYSTEM) as tx:
        spec = {"title": SECRET}
        assert tx.create(Declared("Mission", "default", "m", spec)).spec == spec
        assert tx.create_many([Declared("Mission", "default", "n", spec)])[0].spec == spec
    store.close()


def test_a_value_is_taken_out_where_its_users_live_and_nowhere_else() -> None:
    """A tenant that gives its secret the value of a word of others must not change what these write."""
    known = KnownSecrets()
    known.learn("sha256:0123456789", ["acme"])
    known.learn("Succeeded", ["acme", "default"])
    known.learn("20261121", ["default"])
    assert known.mask({"a": "sha256:0123456789ab"}, "acme") == {"a": "[redacted]ab"}
    for text in ("sha256:0123456789ab", "Succeeded", "2026112109"):
        assert known.mask(text, "default") == text
        assert known.mask(text, "") == text
    assert known.mask("Succeeded", "acme") == "Succeeded", "a plain word is nobody's secret"
