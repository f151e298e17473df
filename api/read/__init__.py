"""The read API on ``listen``: Kubernetes-shaped objects, the log, figures, health. GET and HEAD only.

Here belong routes, what they answer and who may ask. What does not: pages (``api.dashboard``), and anything that
changes the world. Nothing here imports ``controllers``; what it needs to know of the engine is handed in (`engine`).
"""
