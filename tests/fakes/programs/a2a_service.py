"""An A2A service of protocol 1.0 over JSON-RPC, which does what the text of a task names. It says what a service of the
protocol's own SDK (1.3.0) says to the same requests.

    a2a_service.py PORT FOLDER

``fail``, ``ask`` (for input) and ``wait`` (until it is cancelled) are such words; else it hands in what it was told.
``FOLDER/journal`` gets a line of JSON for each task that was begun or cancelled.
"""

import json
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
URL = f"http://127.0.0.1:{PORT}"
CARD = {
    "name": "worker",
    "description": "Does what it is told.",
    "supportedInterfaces": [{"url": f"{URL}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
    "version": "1",
    "capabilities": {},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "work", "name": "Work", "description": "Works.", "tags": ["work"]}],
}
ENDED = ("COMPLETED", "FAILED", "CANCELED", "REJECTED")
LOCK = Lock()
TASKS: dict[str, dict] = {}


class Fault(Exception):
    """An error of the protocol: its code and message."""


def journal(**fields: object) -> None:
    with (FOLDER / "journal").open("a") as file:
        file.write(json.dumps(fields) + "\n")


def state(task: dict, name: str, said: str = "") -> None:
    task["status"] = {"state": f"TASK_STATE_{name}"}
    if said:
        parts = [{"text": said}]
        task["status"]["message"] = {"messageId": str(uuid.uuid4()), "role": "ROLE_AGENT", "parts": parts}


def begin(params: dict) -> dict:
    message = params["message"]
    text = "".join(part["text"] for part in message["parts"])
    journal(began=message["messageId"], mission=message["metadata"]["remit.dev/mission"], text=text)
    task = {"id": str(uuid.uuid4()), "contextId": str(uuid.uuid4())}
    state(task, "SUBMITTED")
    TASKS[task["id"]] = task
    answer = json.loads(json.dumps(task))
    if "ask" in text:
        state(task, "INPUT_REQUIRED", "which one?")
    elif "fail" in text:
        state(task, "FAILED", "it cannot be done")
    elif "wait" in text:
        state(task, "WORKING")
    else:
        state(task, "COMPLETED")
        task["artifacts"] = [{"artifactId": str(uuid.uuid4()), "parts": [{"text": f"did: {text}"}]}]
    return {"task": answer}


def found(params: dict) -> dict:
    if params["id"] not in TASKS:
        raise Fault(-32001, "Task not found")
    return TASKS[params["id"]]


def cancel(params: dict) -> dict:
    task = found(params)
    if task["status"]["state"].removeprefix("TASK_STATE_") in ENDED:
        raise Fault(-32002, "Task cannot be canceled")
    journal(cancelled=task["id"])
    state(task, "CANCELED")
    return task


METHODS = {"SendMessage": begin, "GetTask": found, "CancelTask": cancel}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        known = self.path == "/.well-known/agent-card.json"
        self.answer(200 if known else 404, CARD if known else {"detail": "Not Found"})

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"id": call["id"], "jsonrpc": "2.0"}
        try:
            if self.headers.get("A2A-Version") != "1.0":
                raise Fault(-32009, "A2A version is not supported")
            with LOCK:
                said["result"] = METHODS[call["method"]](call["params"])
        except Fault as fault:
            said["error"] = dict(zip(("code", "message"), fault.args, strict=True))
        self.answer(200, said)

    def answer(self, status: int, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *given: object) -> None:
        pass


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as server:
        print("listens", flush=True)
        server.serve_forever()
