"""One module per verb, named after it. What several verbs share is in modules of `cli` named after a noun."""
