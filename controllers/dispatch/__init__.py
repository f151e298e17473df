"""How a run reaches an agent: the executor contract, one module per executor, and what reads their output.

Here belong starting, stopping and observing runs, and turning what a program left behind into an outcome. What does
not: deciding whether a run may start (``decisions``), recording it (``reconcilers`` and ``effects``), and answering
the agent while it works (``controllers.gate``).

This file and ``controllers/__init__.py`` import nothing: the supervisor process imports the package and must start
in a few milliseconds with the standard library alone.
"""
