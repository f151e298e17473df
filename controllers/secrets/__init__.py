"""Secrets by reference: who may use which one, where its value comes from, and which values are out.

Here belong the places that values are taken from (`files`, `vault`, `aws`), the walls between namespaces (`walls`), the
keeper that joins them (`keeper`), and what is taken out of texts because it was handed out (`known`). A value is in
memory only: it goes to a program's environment or into a request's header, and nowhere else.

What does not belong here: the environment of a program (``dispatch.environment``), and how a text is searched
(``schemas.redaction``).
"""
