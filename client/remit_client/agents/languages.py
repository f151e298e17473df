"""Which language or kind of text a file name stands for."""

from __future__ import annotations

import posixpath

_BY_SUFFIX: dict[str, str] = {}
for _language, _suffixes in {
    "Ada": "adb ads", "Assembly": "asm s", "Batch": "bat cmd", "C": "c h", "C#": "cs", "C++": "cc cpp cxx hh hpp hxx",
    "CMake": "cmake", "CSS": "css less sass scss", "CSV": "csv tsv", "Clojure": "clj cljc cljs edn", "Dart": "dart",
    "Elixir": "ex exs", "Elm": "elm", "Erlang": "erl hrl", "Fortran": "f f90 f95", "Go": "go", "GraphQL": "graphql gql",
    "Groovy": "gradle groovy", "HTML": "htm html xhtml", "Haskell": "hs", "INI": "cfg conf ini properties",
    "JSON": "json jsonl ndjson json5 jsonc", "Java": "java", "JavaScript": "cjs js jsx mjs", "Jinja": "j2 jinja jinja2",
    "Jupyter": "ipynb", "Kotlin": "kt kts", "Lua": "lua", "Make": "mk", "Markdown": "markdown md mdown mkd",
    "Nix": "nix", "OCaml": "ml mli", "PHP": "php", "Perl": "pl pm", "PowerShell": "ps1 psm1", "Protocol Buffers":
    "proto", "Python": "py pyi pyx", "R": "r", "Ruby": "rb rake", "Rust": "rs", "SQL": "sql", "SVG": "svg",
    "Scala": "scala sc", "Shell": "bash fish sh zsh", "Starlark": "bzl star", "Svelte": "svelte", "Swift": "swift",
    "TOML": "toml", "TeX": "sty tex", "Terraform": "hcl tf tfvars", "Text": "adoc log org rst txt", "TypeScript":
    "cts mts ts tsx", "Vue": "vue", "XML": "xml xsd xsl", "YAML": "yaml yml", "Zig": "zig",
}.items():  # fmt: skip
    _BY_SUFFIX.update(dict.fromkeys(_suffixes.split(), _language))

_BY_NAME = {
    "dockerfile": "Dockerfile",
    "containerfile": "Dockerfile",
    "makefile": "Make",
    "gnumakefile": "Make",
    "cmakelists.txt": "CMake",
    "gemfile": "Ruby",
    "rakefile": "Ruby",
    "jenkinsfile": "Groovy",
}


def language(path: str) -> str:
    """The language of a file by its name, ``other`` when its name tells nothing."""
    name = posixpath.basename(path).lower()
    return _BY_NAME.get(name) or _BY_SUFFIX.get(posixpath.splitext(name)[1][1:], "other")
