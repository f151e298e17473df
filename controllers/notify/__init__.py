"""What people are told: read from the event log, kept as Notifications, carried out by one sender per type of Channel.
What is news and how it reads is decided in ``decisions.notices``; no sender knows of objects."""
