"""The agents that Remit ships: small deterministic programs without a model and without network.

Each is run as ``python -P -m remit_client.agents.<name>`` by an Executor of type Command (-P, as Python would
otherwise import modules that lie in the working directory), works on the directory it is started in, and reports over
the agent protocol: ``links``, ``digest``, ``markers``, ``inventory`` and ``report``. They do useful work and show how
an agent is written; what they share (``program``, ``options``, ``tree``, ``globs``, ``markdown``) belongs to them and
is no public interface.

What they read may be hostile: they follow no symbolic link out of the project, execute nothing that the repository
names, and keep to bounds of time, memory and output. The same input gives the same deliverable, byte for byte.
"""
