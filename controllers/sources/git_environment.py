"""What a git command of ours sees of the world: an environment and settings made from lists.

What a governed repository says in its configuration must not run here, and what our own environment says must not
steer git. So: no hooks, no fsmonitor, no lazy fetching, no replacement objects, no prompts, nothing of GIT_* from
outside, and only the protocols that the task at hand needs.
"""

from __future__ import annotations

import os
from typing import Final

CONFIG: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "core.sshCommand=false",  # GIT_SSH_COMMAND of a fetch goes before it
    "core.askPass=",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.fsync=committed,reference",  # what a crash may lose is only what nobody was told of
)

_FIXED: Final = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_LITERAL_PATHSPECS": "1",
}

# A person's own settings, which a remote needs: credentials, keys, proxies, certificates. Nothing of GIT_*.
_REMOTE_KEPT: Final = (
    *("HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "KRB5CCNAME", "TMPDIR"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)


def local() -> dict[str, str]:
    """For a repository on this machine: reads its own configuration and nobody's else, and reaches no other one."""
    return {
        **_FIXED,
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/dev/null",  # set, or an include of ~/... in the repository's configuration would be fatal
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
    }


def remote(protocols: str, *, connect_s: int = 20) -> dict[str, str]:
    """For ``ls-remote`` and ``fetch``: the user's own git configuration and credentials, and never a prompt."""
    kept = {name: os.environ[name] for name in _REMOTE_KEPT if name in os.environ}
    alive = "-o ServerAliveInterval=15 -o ServerAliveCountMax=3"
    return {
        "HOME": "/dev/null",
        **kept,
        **_FIXED,
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_SSH_COMMAND": f"ssh -o BatchMode=yes -o ConnectTimeout={connect_s} {alive}",
        "GIT_SSH_VARIANT": "ssh",
    }
