"""Licences of a repository: the file at its top, and the marks in the heads of source files."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(licen[cs]e|copying|unlicense)([._-].*)?", re.IGNORECASE)
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() -]{1,100})")
_COPYRIGHT = re.compile(r"\bCopyright\b|\N{COPYRIGHT SIGN}", re.IGNORECASE)
_HEAD_BYTES = 4096

# Phrases that stand in every copy of the text, looked for in this order; white space does not matter.
_PHRASES: tuple[tuple[str, str], ...] = (
    ("Apache-2.0", "apache license version 2.0, january 2004"),
    ("AGPL-3.0", "gnu affero general public license version 3"),
    ("LGPL-3.0", "gnu lesser general public license version 3"),
    ("LGPL-2.1", "gnu lesser general public license version 2.1"),
    ("GPL-3.0", "gnu general public license version 3"),
    ("GPL-2.0", "gnu general public license version 2"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("EPL-2.0", "eclipse public license - v 2.0"),
    ("BSL-1.0", "boost software license - version 1.0"),
    ("CC0-1.0", "cc0 1.0 universal"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy of this software"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"),
    ("BSD-3-Clause", "neither the name of"),
    ("BSD-2-Clause", "redistribution and use in source and binary forms"),
)


@dataclass(frozen=True, slots=True)
class LicenceFile:
    """A licence file. ``name`` is an SPDX id, "" when the text is not one of the known ones."""

    path: str
    name: str
    empty: bool


def is_licence_file(path: str) -> bool:
    """Whether the path names a licence: LICENSE, LICENCE.md, COPYING ... at the top, or anything in LICENSES/."""
    folder, _, name = path.rpartition("/")
    return (folder == "" and _NAME.fullmatch(name) is not None) or folder == "LICENSES"


def read_licence(path: str, text: str) -> LicenceFile:
    """Recognise the licence by phrases of its text."""
    words = re.sub(r"[\s*>#=-]+", " ", text[:100_000]).lower()
    for name, phrase in _PHRASES:
        if re.sub(r"[\s-]+", " ", phrase) in words:
            return LicenceFile(path, name, False)
    return LicenceFile(path, "", not text.strip())


def header(text: str) -> str | None:
    """The licence that the head of a source file names: its SPDX id, "" for a mere copyright line, None for nothing."""
    head = text[:_HEAD_BYTES]
    match = _SPDX.search(head)
    if match is not None:
        return match.group(1).strip()
    return "" if _COPYRIGHT.search("\n".join(head.split("\n")[:20])) else None
