"""Calendars: what is due when, gathered from the store, and its exchange with the calendars that people keep."""
