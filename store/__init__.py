"""Persistence behind one contract (``contract``): SQLite is the embedded default.

Tables, migrations, ledger, leases, outbox and the event chain live here, and nowhere else does the project know SQL.
What an object means is decided in ``decisions``; what happens next, in ``controllers``.
"""
