"""The other end of a Pull executor: a process on another machine that fetches runs and starts their programs.

Here belong what it remembers (`desk`), how it speaks to the engine (`engine_link`) and the process itself (`worker`).
Programs are started by the Command executor, under a supervisor of their own. What does not belong here: the engine's
side of a claim, which is in ``effects.claims``.
"""
