"""Requests to addresses that specs name: checked where they lead, bounded in time and size, without redirects."""
