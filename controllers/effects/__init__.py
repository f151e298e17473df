"""Carries out what transactions put into the outbox: at least once, with an idempotency key, outside of any
transaction. What is to be done was decided before; how it is done belongs to the executor or sender."""
