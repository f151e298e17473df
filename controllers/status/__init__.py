"""Tells the outside how things stand: the status branch of a source's repository, and commit statuses on its forge.
The store stays authoritative; nothing here decides anything, and nothing that is written here is ever read as a spec.
"""
