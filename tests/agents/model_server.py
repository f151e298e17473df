"""A model on 127.0.0.1 that calls one tool and then says that it is done, in the APIs of Anthropic, OpenAI (responses
and chat) and Gemini: what the coding agents of this folder speak."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DONE = "It is done."
Event = tuple[str, dict[str, Any]]


@dataclass
class Model:
    """``command`` is what its one tool call runs. ``paths`` are the requests, ``results`` what the tool gave back."""

    command: str
    url: str = ""
    paths: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    def answer(self, path: str, body: dict[str, Any]) -> list[Event]:
        """The stream of events for a request; none for what is no turn of a conversation."""
        if path.startswith("/v1/messages"):
            return self._anthropic(body)
        if path.endswith("/responses"):
            return self._responses(body)
        if path.endswith("/chat/completions"):
            return self._chat(body)
        return self._gemini(body) if "streamGenerateContent" in path or "generateContent" in path else []

    def _anthropic(self, body: dict[str, Any]) -> list[Event]:
        blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
        given = [b for b in blocks if b.get("type") == "tool_result"]
        tools = {t.get("name") for t in body.get("tools", ())}
        usage = {"input_tokens": 9, "output_tokens": 1}
        start = {"id": "m1", "type": "message", "role": "assistant", "model": body["model"], "content": [],
                 "stop_reason": None, "stop_sequence": None, "usage": usage}  # fmt: skip
        if "Bash" in tools and not given:
            block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
            text = json.dumps({"command": self.command, "description": "work"})
            delta, stop = {"type": "input_json_delta", "partial_json": text}, "tool_use"
        else:
            self.results += [json.dumps(b.get("content")) for b in given]
            block = {"type": "text", "text": ""}
            delta, stop = {"type": "text_delta", "text": DONE}, "end_turn"
        events = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None},
             "usage": {"output_tokens": 9}},
            {"type": "message_stop"},
        ]  # fmt: skip
        return [(str(e["type"]), e) for e in events]

    def _responses(self, body: dict[str, Any]) -> list[Event]:
        given = [i for i in body["input"] if isinstance(i, dict) and str(i.get("type", "")).endswith("call_output")]
        names = [str(t.get("name") or t.get("type")) for t in body.get("tools", ())]
        if names and not given:
            name = next((n for n in ("exec_command", "shell_command", "shell", "local_shell") if n in names), names[0])
            words = {"exec_command": {"cmd": self.command}, "shell_command": {"command": self.command}}
            arguments = json.dumps(words.get(name, {"command": ["bash", "-lc", self.command]}))
            item = {"type": "function_call", "id": "fc1", "call_id": "call_1", "name": name, "arguments": arguments}
        else:
            self.results += [json.dumps(i.get("output")) for i in given]
            part = {"type": "output_text", "text": DONE, "annotations": []}
            item = {"type": "message", "id": "msg1", "role": "assistant", "status": "completed", "content": [part]}
        usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9,
                 "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 18}  # fmt: skip
        response = {"id": "r1", "object": "response", "status": "completed", "output": [item], "usage": usage}
        events = [
            {"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response},
        ]
        return [(str(e["type"]), e) for e in events]

    def _chat(self, body: dict[str, Any]) -> list[Event]:
        given = [m for m in body["messages"] if m.get("role") == "tool"]
        names = [t["function"]["name"] for t in body.get("tools", ())]
        name = next((n for n in ("bash", "exec") if n in names), "")
        if name and not given:
            arguments = json.dumps({"command": self.command, "description": "work"})
            call = {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            delta, reason = {"role": "assistant", "tool_calls": [call]}, "tool_calls"
        else:
            self.results += [str(m.get("content")) for m in given]
            delta, reason = {"role": "assistant", "content": DONE}, "stop"
        base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body.get("model")}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        return [
            ("", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
            ("", {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage}),
            ("", {}),
        ]

    def _gemini(self, body: dict[str, Any]) -> list[Event]:
        parts = [p for c in body["contents"] for p in c.get("parts", ())]
        given = [p["functionResponse"] for p in parts if "functionResponse" in p]
        names = [d["name"] for t in body.get("tools", ()) for d in t.get("functionDeclarations", ())]
        if "run_shell_command" in names and not given:
            arguments = {"command": self.command, "description": "work"}
            part: dict[str, Any] = {"functionCall": {"name": "run_shell_command", "args": arguments}}
        else:
            self.results += [json.dumps(g.get("response")) for g in given]
            part = {"text": DONE}
        candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        usage = {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18}
        return [("", {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake"})]


@contextmanager
def serving(command: str) -> Iterator[Model]:
    """A model on a free port."""
    model = Model(command)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._json(200, {"data": [], "models": []})

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            model.paths.append(self.path)
            try:
                body = json.loads(data or b"{}")
                events = model.answer(self.path.partition("?")[0], body)
            except (KeyError, ValueError, TypeError) as error:
                self._json(400, {"error": {"type": "invalid_request_error", "message": repr(error)}})
                return
            if not events or "count_tokens" in self.path:
                self._json(200, {"input_tokens": 9, "totalTokens": 9})
            elif "generateContent" in self.path:
                self._json(200, events[0][1])
            elif "/chat/completions" in self.path and not body.get("stream"):
                self._json(200, {"id": "c1", "choices": [{"index": 0, "finish_reason": "stop", "message": {
                    "role": "assistant", "content": DONE}}]})  # fmt: skip
            else:
                self._stream(events)

        def _stream(self, events: list[Event]) -> None:
            text = ""
            for name, event in events:
                text += f"event: {name}\n" if name else ""
                text += f"data: {json.dumps(event) if event else '[DONE]'}\n\n"
            self._send(200, "text/event-stream", text.encode())

        def _json(self, status: int, value: Any) -> None:
            self._send(status, "application/json", json.dumps(value).encode())

        def _send(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
