"""The dashboard: pages for people over the store, made on the server.

Belongs here: what a page shows (``facts``, bounded reads over ``store.contract``), its address (``pages``), its HTML
(``templates``), the style sheet and the script (``static``). Does not belong here: anything that changes the world. All
routes are GET and HEAD; a page tells the command that acts, and people run it.
"""
