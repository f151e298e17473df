#!/bin/sh
# Says which system package is missing before the install starts, instead of a traceback in the middle of it.
# Usage: preflight.sh PYTHON
set -eu
python=$1
fail() { printf 'remit: %s\n' "$1" >&2; exit 2; }
command -v "$python" >/dev/null 2>&1 || fail "no $python found: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
command -v git >/dev/null 2>&1 || fail "no git found: install it (Debian: apt-get install git)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is $("$python" -V 2>&1): Remit needs 3.11 or newer; name another one with PYTHON=python3.12"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python cannot make a virtual environment: install its venv package (Debian: apt-get install python3-venv)"
