"""The history of the tables, for alembic: one module per step in ``versions``, each with its way back.

``store.migrate`` runs them. A step that was released is never edited; it says in words of its own what it builds and
imports nothing of ours, because the code goes on and the step stays.
"""
