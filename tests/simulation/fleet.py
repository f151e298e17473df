"""The fleet of the week: agents that share three providers, and schedules that keep them busy."""

from __future__ import annotations

PLACES = 2
SLOTS = 4
PROVIDERS = 3
ACTIVE = 14
ZONE = "Europe/Berlin"
BUDGET_USD = "1.20"
RUN_USD = "0.30"
OVER_BUDGET = "a01"

SHARED = f"""\
apiVersion: remit.dev/v1alpha1
kind: Tenant
metadata: {{name: default}}
spec:
  members: [{{subject: "user:alice", role: Approver}}]
  limits: {{maxActiveAgents: {ACTIVE}}}
  standup: {{at: "09:00", timeZone: {ZONE}}}
---
apiVersion: remit.dev/v1alpha1
kind: Channel
metadata: {{name: dashboard}}
spec:
  type: Dashboard
  routes: [{{events: [ApprovalRequired, ApprovalReminder, ApprovalExpired, AssistanceRequired, MissionFailed, DailySummary]}}]
---
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {{name: local}}
spec: {{type: Command, command: {{argv: [sh, -c, "true"], outputFormat: Text}}, timeout: 1h}}
---
apiVersion: remit.dev/v1alpha1
kind: Budget
metadata: {{name: thrifty}}
spec:
  scope: {{agentRef: {{name: {OVER_BUDGET}}}}}
  window: Day
  limits: {{usd: {BUDGET_USD}}}
  onBreach: BlockMission
---
apiVersion: remit.dev/v1alpha1
kind: Budget
metadata: {{name: each-run}}
spec:
  scope: {{tenant: true}}
  window: Run
  limits: {{usd: {RUN_USD}}}
"""  # noqa: E501
PROVIDER = f"""\
---
apiVersion: remit.dev/v1alpha1
kind: Provider
metadata: {{name: NAME}}
spec: {{maxConcurrency: {SLOTS}, backoff: {{initial: 5s, max: 5m}}}}
"""
AGENT = f"""\
---
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata: {{name: NAME}}
spec:
  executorRef: {{name: local}}
  autonomyLevel: Lead
  maxConcurrentMissions: {PLACES}
  model: {{providerRef: {{name: PROVIDER}}, primary: a-model}}
"""
SCHEDULE = """\
---
apiVersion: remit.dev/v1alpha1
kind: Schedule
metadata: {name: NAME}
spec:
  schedule: "CRON"
  concurrencyPolicy: Allow
  catchUp: Last
  missionTemplate:
    spec:
      title: "the work of AGENT"
      agentRef: {name: AGENT}
      priority: PRIORITY
      review: REVIEW
      retry: {maxAttempts: 3, idempotent: SAFE, backoff: {initial: 30s}}
"""


def _schedule(name: str, agent: str, cron: str, priority: int, *, review: str = "None", safe: bool = True) -> str:
    text = SCHEDULE.replace("NAME", name).replace("AGENT", agent).replace("CRON", cron)
    text = text.replace("PRIORITY", str(priority)).replace("REVIEW", review)
    return text.replace("SAFE", "true" if safe else "false")


def specs(agents: int, a_day: int) -> str:
    """A fleet whose schedules make about so many missions a day. One agent has a day's work to catch up with each
    midnight, at the lowest priority, beside what comes every hour at a high one; one has a budget for a day."""
    hourly = max(1, round(a_day / agents / 24))
    backlog = max(1, a_day // 25)
    made = SHARED
    made += "".join(PROVIDER.replace("NAME", f"lab-{n}") for n in range(min(PROVIDERS, agents)))
    for number in range(agents):
        name = f"a{number:02}"
        minutes = ",".join(str(m) for m in sorted({(number * 7 + k * 60 // hourly) % 60 for k in range(hourly)}))
        made += AGENT.replace("NAME", name).replace("PROVIDER", f"lab-{number % PROVIDERS}")
        review = "Human" if number % 7 == 0 else "None"
        priority = 90 if number == 2 else number * 5 % 101
        made += _schedule(name, name, f"{minutes} * * * *", priority, review=review, safe=number % 5 != 4)
        if number == 2:
            made += _schedule(f"{name}-backlog", name, f"0-{min(59, backlog - 1)} 0 * * *", 0)
    return made
