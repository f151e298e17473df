"""tell_tale.py CORPUS: give away every secret that it has or was handed, by every way there is."""

import base64
import contextlib
import json
import os
import sys

from remit_client import Run

with open(sys.argv[1]) as file:
    texts = json.load(file)
own = [os.environ[name] for name in ("FROM_ENV", "FROM_FILE", "FROM_VAULT")]
token = os.environ["REMIT_TOKEN"]
for value in own:
    texts += [f"it is {value}", base64.b64encode(f"user:{value}".encode()).decode(), value.encode().hex()]
texts.append(f"mine is {token}")
for stream in (sys.stdout, sys.stderr):
    for text in texts:
        for part in (text[:7], text[7:], "\n"):
            stream.write(part)
            stream.flush()
with Run.from_environment() as run:
    for number, text in enumerate(texts):
        if number % 8 == 0 or len(texts) - number < 12:
            run.progress(text[:1900], work_plan="\n".join(texts[: number + 1])[:90_000])
    run.say(texts[-1] + "\n" + "\n".join(texts)[:9_000])
    for text in (texts[-1], "\n".join(texts)[:20_000]):
        asked = run.authorize(
            "post_comment", {"on": "notes", "text": text, "password": own[0]}, target=text[:1900], wait_s=0
        )
        run.tool_result("post_comment", ok=False, error=text[:1900], decision=asked)
    with contextlib.suppress(TimeoutError):  # nobody answers
        run.authorize("send_fax", {"body": "\n".join(texts)[:20_000]}, target=texts[-1], wait_s=0)
    run.artifact("all.txt", "\n".join(texts))
    run.artifact(f"named-{own[0]}.txt", "x")
    run.complete("\n".join(texts), self_review="; ".join(texts)[:19_000], evidence=["all.txt"])
