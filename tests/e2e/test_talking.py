"""A person and an agent talk through a real engine that is killed in between: nothing is lost, nothing comes twice."""

from __future__ import annotations

import os

from tests.fakes.engine_process import Project, until

# A checkout that is not the installed one: its own client is to be found.
HERE = ", env: [{name: PYTHONPATH, valueFrom: {env: PYTHONPATH}}]" if "PYTHONPATH" in os.environ else ""
FLEET = f"""\
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {{name: listener}}
spec:
  type: Command
  command: {{argv: [python3, -P, -m, remit_client.agents.listener], outputFormat: Remit{HERE}}}
---
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata: {{name: listener}}
spec: {{executorRef: {{name: listener}}}}
---
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {{name: quick}}
spec: {{autonomy: {{cooldown: 1s}}}}
---
apiVersion: remit.dev/v1alpha1
kind: Mission
metadata: {{name: notes}}
spec:
  title: Take notes
  agentRef: {{name: listener}}
  review: None
  input: {{askAgainSeconds: 2, timeLimitSeconds: 3600}}
"""


def test_an_agent_hears_answers_and_follows_up_over_a_kill_of_the_engine(project: Project) -> None:
    project.commit({"fleet.yaml": FLEET})
    engine = project.engine()

    def talk(text: str) -> None:
        until(
            lambda: any(text in m.spec["text"] and m.status["number"] for m in project.objects("Message")),
            text,
            every_s=0.2,
        )

    talk("What shall I write down?")
    talk("Is there more to write down?")  # by itself, as nobody spoke
    engine.kill()
    assert "to listener on notes" in project.good("say", "notes", "the first note")
    project.engine()
    talk("written down as number 1")
    assert "to listener on notes" in project.good("say", "notes", "/notes")
    talk("- the first note")
    project.good("say", "notes", "/done")
    project.comes_to("notes", "Done")
    shown = project.good("chat", "notes")
    for text in ("written down as number 1", "done: 1 notes", "  | - the first note"):
        assert shown.count(text) == 1, shown
