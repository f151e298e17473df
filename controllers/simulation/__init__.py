"""The engine in virtual time: the real planner, reconcilers, dispatcher, limits and schedules over a store of its own,
with work that is made up. What the work takes and costs is assumed, and said; nothing here starts a program or asks
anybody."""
