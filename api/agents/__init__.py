"""The agent protocol: what a working agent reports and asks, over HTTP on a port of its own.

Here belong who is speaking (`callers`), how much of it is listened to (`limits`, `bodies`), waiting for news (`wakes`),
the endpoints of a run (`runs`), their description (`openapi`), and the application (`app`). What a report means, and
what it changes, is in ``controllers.runs``.

Every write is carried out once per Idempotency-Key, in one transaction with the record of the key; every problem is an
``application/problem+json``. A token speaks for one run: other runs are 404 to it, and when its run has ended it is
dead (401).
"""
