"""A real A2A service of the protocol's own SDK, which does what the text of a task names.

    a2a_service.py PORT FOLDER

``fail``, ``ask`` (for input) and ``wait`` (until it is cancelled) are such words; else it hands in what it was told.
``FOLDER/journal`` gets a line of JSON for each task that was begun or cancelled.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Part,
    Task,
    TaskState,
    TaskStatus,
)
from starlette.applications import Starlette

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])


def journal(**fields: object) -> None:
    with (FOLDER / "journal").open("a") as file:
        file.write(json.dumps(fields) + "\n")


class Worker(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        text, metadata = context.get_user_input(), dict(context.message.metadata)
        journal(began=context.message.message_id, mission=metadata["remit.dev/mission"], text=text)
        await event_queue.enqueue_event(
            Task(
                id=context.task_id,
                context_id=context.context_id,
                status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED),
            )
        )
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        if "wait" in text:
            await asyncio.Event().wait()
        elif "ask" in text:
            await updater.requires_input(updater.new_agent_message([Part(text="which one?")]))
        elif "fail" in text:
            await updater.failed(updater.new_agent_message([Part(text="it cannot be done")]))
        else:
            await updater.add_artifact([Part(text=f"did: {text}")])
            await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        journal(cancelled=context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


URL = f"http://127.0.0.1:{PORT}"
CARD = AgentCard(
    name="worker",
    description="Does what it is told.",
    version="1",
    supported_interfaces=[AgentInterface(url=f"{URL}/rpc", protocol_binding="JSONRPC", protocol_version="1.0")],
    capabilities=AgentCapabilities(),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
    skills=[AgentSkill(id="work", name="Work", description="Works.", tags=["work"])],
)
HANDLER = DefaultRequestHandler(agent_executor=Worker(), task_store=InMemoryTaskStore(), agent_card=CARD)


class Server(uvicorn.Server):
    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)
        print("listens", flush=True)


if __name__ == "__main__":
    APP = Starlette(routes=[*create_agent_card_routes(CARD), *create_jsonrpc_routes(HANDLER, "/rpc")])
    Server(uvicorn.Config(APP, host="127.0.0.1", port=PORT, log_level="warning")).run()
