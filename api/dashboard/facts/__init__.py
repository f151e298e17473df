"""What pages show, read from the store at a bounded cost: counts, and lists by the page. Nothing here knows HTML."""
