"""What comes, and where people and agents talk: schedules, channels, transcripts."""

from __future__ import annotations

from datetime import timedelta

from api.dashboard import links, marks, timelines
from api.dashboard.facts import missions, objects
from api.dashboard.facts.shapes import (
    Act,
    Cell,
    Chart,
    Detail,
    Empty,
    Fact,
    Listing,
    Row,
    Table,
    Text,
    acts,
    cells,
    columns,
)
from api.dashboard.facts.view import PAGE, View
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import moment, number, who, words
from schemas.event import EventType
from schemas.resource import Resource

_FIRES = 500
MESSAGES = 200
_DAYS = 7


def schedule(view: View) -> Listing:
    """Seven days around now: fires that were, fires that come."""
    found = view.snapshot.objects("Schedule", namespace=view.namespace, limit=PAGE)
    since = view.now - timedelta(days=_DAYS)
    fired = view.snapshot.events(
        types=[EventType.SCHEDULE_FIRED, EventType.FIRE_SKIPPED], since=since, namespace=view.namespace,
        limit=_FIRES, newest_first=True,
    )  # fmt: skip
    lanes: dict[str, list[timelines.Bar]] = {s.name: [] for s in found}
    rows = []
    for event in reversed(fired):
        skipped = event.type == EventType.FIRE_SKIPPED
        tone = Tone.WARN if skipped else Tone.GOOD
        text = "skipped" if skipped else "fired"
        lanes.setdefault(event.subject.name, []).append(timelines.Bar(event.at, event.at, text, tone))
        mark = Mark("slash" if skipped else "tick", text, tone)
        rows.append(
            Row(f"e-{event.seq}", cells(Cell(at=event.at), Cell(mark=mark),
                                        Cell(event.subject.name, links.of(event.subject)), Cell(event.message)))
        )  # fmt: skip
    rows.reverse()
    for item in found:
        for index, text in enumerate(item.status.get("nextFireTimes") or ()):
            at = moment(text)
            if at is not None and at <= view.now + timedelta(days=_DAYS):
                lanes[item.name].append(timelines.Bar(at, at, "comes", Tone.BUSY, waiting=True))
                mark = Mark("clock", "comes", Tone.BUSY)
                rows.append(Row(f"next-{item.uid}-{index}",
                                cells(Cell(at=at), Cell(mark=mark), Cell(item.name, links.of(item.key)),
                                      Cell(str(item.spec.get("schedule", ""))))))  # fmt: skip
    rows.sort(key=lambda r: r.cells[0].at or view.now, reverse=True)
    svg = timelines.days(list(lanes.items()), view.now, days=_DAYS, label="Fires of the last and next seven days")
    empty = Empty("Nothing fired in the last seven days, and nothing will.")
    twin = Table("fires", columns("When", "What", "Schedule*", "Said~"), tuple(rows[:PAGE]), empty, title="Fires")
    return Listing("Schedule", (Chart("schedule", "Seven days back, seven ahead", svg, twin),) if found else (
        Table("none", columns("Schedule*"), (), _no_schedule(view)),))  # fmt: skip


def _no_schedule(view: View) -> Empty:
    return Empty("No schedule is declared.", command=view.commands.verb("explain", "schedule"))


def crons(view: View) -> Listing:
    """Each schedule: what it says, when it fires next, what became of its last missions."""
    found, more = view.objects("Schedule")
    rows = []
    for item in found:
        made = view.snapshot.objects("Mission", namespace=item.namespace, owner_uid=item.uid, limit=40)
        made.sort(key=lambda m: m.created_at)
        outcomes = " ".join(_DOTS.get(m.state, "·") for m in made[-10:]) or "-"
        upcoming = item.status.get("nextFireTimes") or ()
        suspended = bool(item.spec.get("suspend"))
        rows.append(
            Row(
                f"row-{item.uid}",
                cells(
                    Cell(mark=Mark("pause", "suspended", Tone.CALM) if suspended else marks.ready(item.status)),
                    Cell(item.name, links.of(item.key)),
                    Cell(str(item.spec.get("schedule", "")), mono=True, note=str(item.spec.get("timeZone", ""))),
                    Cell(at=moment(upcoming[0])) if upcoming and not suspended else Cell("-"),
                    Cell(at=moment(item.status.get("lastScheduleTime"))) if item.status.get("lastScheduleTime")
                    else Cell("never"),
                    Cell(outcomes),
                    Cell(number(item.status.get("missed", 0))),
                ),
            )
        )  # fmt: skip
    names = columns("State", "Schedule*", "When", "Next", "Last~", "Outcomes~", "Missed#~")
    note = "Outcomes: ✓ done, ✗ failed, ▸ under way, – canceled; the latest to the right." if rows else ""
    return Listing("Cron", (Table("crons", names, tuple(rows), _no_schedule(view), more=more, note=note),))


_DOTS = {"Done": "✓", "Failed": "✗", "Canceled": "–", "InProgress": "▸", "Assigned": "▸", "Review": "▸", "Inbox": "▸",
         "NeedsApproval": "▸", "Blocked": "✗"}  # fmt: skip


@objects.more("Schedule")
def schedule_detail(view: View, item: Resource, base: Detail) -> Detail:
    """Its next fires, its missions, what it skipped and why."""
    spec, status = item.spec, item.status
    facts = [
        *objects.fact("Schedule", spec.get("schedule"), mono=True),
        *objects.fact("Time zone", spec.get("timeZone")),
        *objects.fact("When the last still runs", words(str(spec.get("concurrencyPolicy", "")))),
        *objects.fact("Missed fires", words(str(spec.get("catchUp", "")))),
        Fact("Missed, ever", Cell(number(status.get("missed", 0)))),
    ]
    rows = tuple(
        Row(f"next-{i}", cells(Cell(at=moment(t)), Cell(str(t), mono=True)))
        for i, t in enumerate(status.get("nextFireTimes") or ())
    )
    upcoming = Table("next", columns("Next fires", "UTC*"), rows, Empty("It fires no more."), title="Next fires")
    made = view.snapshot.objects("Mission", namespace=item.namespace, owner_uid=item.uid, limit=PAGE)
    made.sort(key=lambda m: m.created_at, reverse=True)
    main: list[Table | Text | Chart] = [
        upcoming, missions.table("missions", made, Empty("No mission was made yet."), title="Its missions")
    ]  # fmt: skip
    return objects.widened(base, facts=facts, main=main)


def channels(view: View) -> Listing:
    """Where people are told, and how that fares."""
    found, more = view.objects("Channel")
    rows = tuple(
        Row(
            f"row-{c.uid}",
            cells(
                Cell(mark=Mark("pause", "suspended", Tone.CALM) if c.spec.get("suspend") else marks.ready(c.status)),
                Cell(c.name, links.of(c.key), note=str(c.spec.get("description") or "")),
                Cell(str(c.spec.get("type", ""))),
                Cell(
                    ", ".join(words(str(e)) for r in c.spec.get("routes") or () for e in r.get("events") or ()) or "-"
                ),
                Cell(number(c.status.get("waiting", 0))),
                Cell(number(c.status.get("delivered", 0))),
                Cell(at=moment(c.status.get("lastDeliveryTime")))
                if c.status.get("lastDeliveryTime")
                else Cell("never"),
                Cell(str(c.status.get("lastError") or "-")),
            ),
            attention=bool(c.status.get("lastError")),
        )
        for c in found
    )
    names = columns("State", "Channel*", "Type", "Told about~", "Waiting#", "Delivered#~", "Last", "Error~")
    empty = Empty("No channel is declared: people are told here and in the terminal only.",
                  command=view.commands.verb("explain", "channel"))  # fmt: skip
    talk = _sessions(view)
    return Listing("Channels", (Table("channels", names, rows, empty, more=more), talk))


def chats(view: View) -> Listing:
    """Conversations, the latest first."""
    return Listing("Chat", (_sessions(view, title=""),), lead="What agents and people said to each other, to be read.")


def _sessions(view: View, title: str = "Conversations") -> Table:
    found, more = view.objects("Session")
    found.sort(key=lambda s: str(s.status.get("lastMessageAt") or ""), reverse=True)
    rows = []
    for session in found:
        agent = links.ref("Agent", session.spec.get("agentRef"), session.namespace)
        mission = links.ref("Mission", session.spec.get("missionRef"), session.namespace)
        status = session.status
        cooldown = moment(status.get("cooldownUntil"))
        rows.append(
            Row(
                f"row-{session.uid}",
                cells(
                    Cell(mark=marks.state("Session", session.state or "Open")),
                    Cell(mission.name if mission else session.name, links.of(session.key),
                         note=agent.name if agent else ""),
                    Cell(number(status.get("messages", 0))),
                    Cell(at=moment(status.get("lastMessageAt"))) if status.get("lastMessageAt") else Cell("never"),
                    Cell(str(status.get("consecutive", 0))),
                    Cell(at=cooldown) if cooldown and cooldown > view.now else Cell("-"),
                    Cell(number(status.get("blocked", 0))),
                ),
                attention=bool(status.get("owed")),
            )
        )  # fmt: skip
    names = columns("State", "About*", "Messages#", "Last", "By itself#~", "Quiet until~", "Stopped#~")
    return Table("sessions", names, tuple(rows), Empty("Nobody said anything yet.",
                 command=view.commands.verb("say", end="MISSION '...'")), title=title, more=more)  # fmt: skip


@objects.more("Session")
def session_detail(view: View, session: Resource, base: Detail) -> Detail:
    """The transcript, with what limits stopped; answering goes through a command."""
    spec, status = session.spec, session.status
    mission = links.ref("Mission", spec.get("missionRef"), session.namespace)
    agent = links.ref("Agent", spec.get("agentRef"), session.namespace)
    cooldown = moment(status.get("cooldownUntil"))
    facts = [
        *objects.ref_fact("Agent", "Agent", spec.get("agentRef"), session.namespace),
        *objects.ref_fact("Mission", "Mission", spec.get("missionRef"), session.namespace),
        *objects.ref_fact("Channel", "Channel", spec.get("channelRef"), session.namespace),
        Fact("By itself since a person spoke", Cell(str(status.get("consecutive", 0)))),
        *([Fact("Quiet until", Cell(at=cooldown))] if cooldown and cooldown > view.now else []),
        *([Fact("Owes an answer", Cell("yes", mark=Mark("ask", "owed", Tone.WARN)))] if status.get("owed") else []),
    ]
    say = view.commands.verb("say", key=mission, target=mission.name, end="'...'") if mission else ""
    title = f"{agent.name if agent else 'An agent'} about {mission.name if mission else session.name}"
    label = "Your message reaches the agent, and stops what it was about to say by itself"
    answer = acts("Answer", Act(say, label=label))
    return objects.widened(base, facts=facts, main=[transcript(view, session)], title=title, acts=answer)


def transcript(view: View, session: Resource) -> Table:
    """Its messages, oldest first; only the latest of a long conversation."""
    found = view.snapshot.objects("Message", namespace=session.namespace, owner_uid=session.uid, limit=5 * MESSAGES)
    found.sort(key=lambda m: (m.created_at, m.name))
    shown = found[-MESSAGES:]
    rows = tuple(
        Row(
            f"msg-{m.uid}",
            cells(
                Cell(at=m.created_at),
                Cell(who(str(m.spec.get("author", ""))), note="by itself" if m.spec.get("autonomous") else ""),
                Cell(str(m.spec.get("text", ""))),
                Cell(mark=marks.state("Message", m.state or "Pending"), note=str(m.status.get("lastError") or "")),
            ),
            attention=m.state in ("Blocked", "Failed"),
        )
        for m in shown
    )
    note = f"The latest {MESSAGES} of {len(found)}." if len(found) > len(shown) else ""
    names = columns("When", "Who", "Said*", "State~")
    return Table("transcript", names, rows, Empty("Nobody said anything yet."), title="Transcript", note=note)


@objects.more("Channel")
def channel_detail(view: View, channel: Resource, base: Detail) -> Detail:
    """Its routes and how sending fares."""
    spec, status = channel.spec, channel.status
    facts = [
        *objects.fact("Type", spec.get("type")),
        Fact("Waiting", Cell(number(status.get("waiting", 0)))),
        Fact("Delivered", Cell(number(status.get("delivered", 0)))),
        *objects.fact("Last error", status.get("lastError")),
    ]
    rows = tuple(
        Row(
            f"route-{i}",
            cells(
                Cell(", ".join(words(str(e)) for e in r.get("events") or ()) or "all"),
                Cell(words(str(r.get("severity", "Low")))),
                Cell(", ".join(f"{k}={v}" for k, v in (r.get("matchLabels") or {}).items()) or "any"),
            ),
        )
        for i, r in enumerate(spec.get("routes") or ())
    )
    routes = Table("routes", columns("Told about*", "From severity", "Labels~"), rows, Empty("It is told nothing."),
                   title="Routes")  # fmt: skip
    return objects.widened(base, facts=facts, main=[routes])
