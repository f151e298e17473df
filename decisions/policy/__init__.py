"""May this agent make this call? Policies compiled once, then asked: facts in, a ruling with its reasons out.

Expressions, allowlists (commands, paths, hosts, recipients), hard stops, the table, and the order in which they speak
belong here. Who asks, what a Hold or a budget says, and what is written down afterwards belong in ``controllers``.
"""
