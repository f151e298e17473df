"""An agent program that does without the protocol: leaves its effect, takes its time, prints its deliverable.

``input`` of the mission: effects (folder), seconds, succeedAt (the first attempt that succeeds; 0: none does), until (a
file that it waits for), beside (how many programs have to have begun before it goes on).
"""

import json
import os
import sys
import time

with open(os.environ["REMIT_MISSION_FILE"], encoding="utf-8") as file:
    mission = json.load(file)
given = mission["input"]
name = f"{mission['uid']}.{mission['attempt']}"
out = os.open(os.path.join(given["effects"], name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(out, f"{os.environ['REMIT_RUN']}\n".encode())
os.close(out)
time.sleep(given.get("seconds", 0))  # noqa: TID251 - a program of its own
while not os.path.exists(given.get("until", "/")) or len(os.listdir(given["effects"])) < given.get("beside", 0):
    time.sleep(0.02)  # noqa: TID251 - a program of its own
succeed_at = given.get("succeedAt", 1)
if not succeed_at or mission["attempt"] < succeed_at:
    print("not this time", file=sys.stderr)
    sys.exit(7)
print(f"what {mission['name']} came to, for {', '.join(d['name'] for d in mission['dependencies']) or 'nobody'}")
