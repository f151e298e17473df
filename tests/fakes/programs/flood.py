"""flood.py MEGABYTES: print that much, between a first and a last line."""

import os
import sys

block = b"x" * 1023 + b"\n"
os.write(1, b"first line\n")
for _ in range(int(sys.argv[1])):
    data = memoryview(block * 1024)
    while data:
        data = data[os.write(1, data) :]
os.write(1, b"last line\n")
