"""HTTP: the read-only API and dashboard for people, and the agent protocol, each on a port of its own.

Here belong the wire (paths, headers, bodies, status codes), who may ask, and the one shape of errors (`problems`).
What does not: what a request means. `agents` hands that to ``controllers.runs`` and ``controllers.gate``; everything
else only reads, from ``store``. `server` runs an application, `hosts` guards both against foreign names.
"""
