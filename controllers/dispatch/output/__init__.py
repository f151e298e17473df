"""Reading what agent programs print: one module per output format, each a pure function of bytes and exit code.

A parser never raises on any input: output is written by agents, may be cut, flooded, mixed with noise, or made to
deceive. It reports what it found and marks what it did not; whether the run counts as done is decided by the caller.
"""
