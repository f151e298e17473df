"""One module per verb, or per few that belong together."""
