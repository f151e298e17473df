"""What Remit talks about: resource models, references, quantities, conditions and reasons, wire messages, errors.

One module per kind. Everything here is data and the rules that hold for it: no I/O, no clock, no randomness, and no
import from the rest of the project. A rule that needs two objects, or facts from the store, belongs in ``decisions``.
"""
