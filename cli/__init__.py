"""The ``remit`` command: one module per verb (cli.verbs), output, and the way from a project folder to its store.

Verbs read the store, or write to it what a person did; what follows is the engine's. Heavy libraries are imported
inside the verbs that need them: ``--help`` and ``validate`` start in under 0.3 s (tests/unit/test_cli_start.py).
"""
