"""The MCP proxy: a server to agents, a client to a ToolServer, and the engine's gate between the two.

Here belong the two sides of the protocol (`upstream`, `proxy`), how they are reached (`stdio`, `web`, `addresses`,
`serve`), the questions to the engine (`engine`), and what becomes of a call while a person is asked (`waiting`,
`tasks`). This package alone imports the MCP SDK, which takes most of a second: whoever needs it imports it late.

It runs beside the engine, as a program of its own, and knows it by the agent port only: it holds no store.
"""
