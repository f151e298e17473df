"""Where declarations come from: readers of git repositories and directories, and what makes desired state of them.

A reader lists a source and hands out verified bytes (``tree`` holds the shape and the rules that all readers keep).
What does not belong here: what the bytes mean for running work (``decisions``) and writing it down (``store``). Only
modules named ``git*`` import GitPython.
"""
