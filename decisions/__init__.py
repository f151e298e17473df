"""What follows from the facts: pure functions, facts in, decision out.

Mission moves, admission, dispatch order, holds, references, plan and its effects. Nothing here reads a clock, a store,
a file or a random source: times and facts are arguments, so every function may be run twice, in a test or in a
simulation, with the same result. How facts are gathered and decisions carried out belongs in ``controllers``.
"""
