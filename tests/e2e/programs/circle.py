"""An agent program that goes around in circles, and does not care what it is told: it reports the same failure for as
long as it lives. With ``role: parent`` it spawns a sub-agent first, and hosts another; ``role: child`` only waits.

``input`` of the mission: effects (folder), role.
"""

import json
import os
import signal
import time
import urllib.error
import urllib.request

RUN, TOKEN = os.environ["REMIT_RUN"], os.environ["REMIT_TOKEN"]


def post(verb, body, key, run=RUN, token=TOKEN):
    """The answer; the problem where there is one; {} where nobody answers."""
    request = urllib.request.Request(
        f"{os.environ['REMIT_URL']}/agent/v1/runs/{run}/{verb}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Idempotency-Key": key, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as problem:
        return json.load(problem)
    except OSError:
        return {}


def leave(effects, name, text):
    """A file for the test, whole or not there."""
    path = os.path.join(effects, name)
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(f"{path}.part", path)


with open(os.environ["REMIT_MISSION_FILE"], encoding="utf-8") as file:
    given = json.load(file)["input"]
role = given.get("role", "circle")
if role == "parent":
    child = {"role": "child", "effects": given["effects"]}
    post("sub-agents", {"name": "program", "title": "wait", "input": child}, "one")
    hosted = post("sub-agents", {"name": "inline", "title": "wait here", "hosted": True}, "two")
    leave(given["effects"], "hosted.json", json.dumps(hosted))
elif role == "child":
    leave(given["effects"], f"child.{RUN}", "here")
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
turn = 0
while True:
    turn += 1
    if role == "circle":
        said = post("tool-results", {"tool": "grep", "ok": False, "error": f"no match in {turn} files"}, str(turn))
        leave(given["effects"], "said.json", json.dumps({"turn": turn, "answer": said}))
    time.sleep(0.05)  # noqa: TID251 - a program of its own
