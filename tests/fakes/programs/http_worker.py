"""A worker behind HTTP, as a real process: takes runs, does each once by its Idempotency-Key, and can be told to
misbehave.

    http_worker.py PORT FOLDER MODE [ARGV...]

``FOLDER/journal`` gets a line of JSON for each request and for each piece of work. ``FOLDER/faults`` holds one word a
line, of which each POST takes the first: ``503``, ``500`` (answers), ``drop`` (does the work, closes the connection),
``hold`` (does the work, answers once FOLDER/go is there). MODE is ``answer`` (the result comes with the answer),
``poll`` (202 and a status address that says Running twice), or ``report`` (202, and ARGV is started to report over the
agent protocol, as a program that the engine starts is).
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, FOLDER, MODE, ARGV = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
LOCK = threading.Lock()
DONE: set[str] = set()
ASKED: dict[str, int] = {}


def journal(**fields: object) -> None:
    with (FOLDER / "journal").open("a") as file:
        file.write(json.dumps(fields) + "\n")


def fault() -> str:
    with LOCK:
        path = FOLDER / "faults"
        words = path.read_text().split() if path.exists() else []
        if words:
            path.write_text("\n".join(words[1:]))
        return words[0] if words else ""


def work(key: str, order: dict) -> None:
    """Do it, once."""
    with LOCK:
        if key in DONE:
            return
        DONE.add(key)
        journal(did=key, mission=order["mission"]["name"])
        if MODE != "report":
            return
        path = FOLDER / f"{key}.json"
        path.write_text(json.dumps(order["mission"]))
        back = order["callback"]
        told = {"REMIT_URL": back["url"], "REMIT_RUN": back["run"], "REMIT_TOKEN": back["token"]}
        with path.open() as stdin:
            subprocess.Popen(ARGV, stdin=stdin, env={**os.environ, **told, "REMIT_MISSION_FILE": str(path)})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key, word = self.headers["Idempotency-Key"], fault()
        journal(post=key, fault=word, run=self.headers["Remit-Run"], authorization=self.headers.get("Authorization"))
        if word in ("503", "500"):
            return self.say(int(word), {"message": "not now"})
        work(key, order)
        if word == "drop":
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)
            return None
        while word == "hold" and not (FOLDER / "go").exists():
            threading.Event().wait(0.02)
        if MODE == "answer":
            return self.say(200, {"state": "Succeeded", "deliverable": "crawled", "selfReview": "looked twice"})
        return self.say(202, {"statusUrl": f"/runs/{key}"} if MODE == "poll" else {})

    def do_GET(self) -> None:
        key = self.path.rpartition("/")[2]
        with LOCK:
            ASKED[key] = ASKED.get(key, 0) + 1
        if ASKED[key] < 3:
            return self.say(200, {"state": "Running", "percent": 10 * ASKED[key], "message": "crawling"})
        return self.say(200, {"state": "Succeeded", "deliverable": {"pages": 3}, "usage": {"usd": "0.02"}})

    def do_DELETE(self) -> None:
        journal(deleted=self.path)
        self.say(204, None)

    def say(self, status: int, body: object) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    server.daemon_threads = True
    print("listens", flush=True)
    server.serve_forever()
