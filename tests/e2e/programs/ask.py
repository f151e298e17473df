"""An agent program that asks the gate over and over and does not end when it is told to. Each answer leaves a line:
decision, code, and when it was asked for and got (monotonic seconds, the same for every process of the machine).

``input`` of the mission: effects (folder). The file is called like the run.
"""

import json
import os
import signal
import time
import urllib.error
import urllib.request

signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(os.environ["REMIT_MISSION_FILE"], encoding="utf-8") as file:
    mission = json.load(file)
path = os.path.join(mission["input"]["effects"], os.environ["REMIT_RUN"])
out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
number = 0
while True:
    number += 1
    request = urllib.request.Request(
        os.environ["REMIT_URL"] + "/agent/v1/authorize",
        data=json.dumps({"tool": "read_db", "args": {"row": number}}).encode(),
        headers={
            "Authorization": "Bearer " + os.environ["REMIT_TOKEN"],
            "Content-Type": "application/json",
            "Idempotency-Key": f"call-{number}",
        },
    )
    asked = time.monotonic()
    try:
        with opener.open(request, timeout=60) as response:
            answer = json.load(response)
            word, code = answer["decision"], answer["code"]
    except urllib.error.HTTPError as error:
        word, code = "problem", str(error.code)
    except OSError as error:
        word, code = "problem", type(error).__name__
    os.write(out, f"{word} {code} {asked:.6f} {time.monotonic():.6f}\n".encode())
    time.sleep(0.05)  # noqa: TID251 - a program of its own
