"""Hooks of coding agents: each tool call of an agent that was not written for Remit is put before the gate.

``python -m remit_client.hooks claude`` (or ``remit hook claude``) reads what the agent says of a call on standard
input, asks the engine, and answers in the agent's own dialect. Only the standard library is used, so that it starts
fast. Agents take a hook that breaks for leave; so whatever goes wrong here is answered as a denial.
"""
