"""Reading threads, following them, and talking in them: chat."""

from __future__ import annotations

import contextlib
import queue
import secrets
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion
from cli.failures import Failure
from cli.output import Format, dump_json, dump_yaml, paint, safe, table
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from controllers.holds.stops import Stops
    from controllers.runs.threads import Page
    from schemas.resource import Actor, Resource
    from store.contract import Snapshot, Store

_PROMPT = "> "


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("chat")(chat)


def chat(
    context: typer.Context,
    thread: Annotated[
        str | None,
        typer.Argument(
            help="mission/NAME, project/NAME, or agent/NAME; none lists the threads.",
            metavar="[THREAD]",
            autocompletion=completion.of("mission"),
        ),
    ] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many of the latest messages.")] = 50,
    before: Annotated[
        int, typer.Option("--before", min=0, help="Only what came before this cursor: an earlier page.")
    ] = 0,
    subscribe: Annotated[
        bool | None,
        typer.Option(
            "--subscribe/--unsubscribe", help="Count what is new in it as unread, or no longer; print nothing."
        ),
    ] = None,
    form: common.Output = Format.TABLE,
    watch: common.Watch = False,
) -> None:
    """Read a thread. At a terminal, follow it and say what is typed; Ctrl-D ends that.

    Whoever says something follows the thread from then on. What was printed counts as read.

    Examples:
      remit chat
      remit chat mission/check-links
      remit chat project/docs --limit 200
      remit chat mission/check-links -w | tee talk.txt
      remit chat project/docs --subscribe
    """
    from cli.held import stops_of
    from cli.project import me

    actor = me()
    with common.store_of(context) as store:
        if thread is None:
            if watch or before or subscribe is not None:
                raise Failure("name a thread", hint="remit chat")
            _list(store, None if all_namespaces else namespace, actor.subject, form)
            return
        if watch and before:
            raise Failure("an earlier page does not go on: leave out --before or -w")
        from cli.conversation import subject_named

        with store.snapshot() as snapshot:
            subject = subject_named(snapshot, thread, namespace)
        if subscribe is not None:
            _subscribe(store, actor, subject, wanted=subscribe)
            return
        view = _View(store, subject, actor, limit)
        if form is not Format.TABLE:
            if watch:
                raise Failure("-w prints messages for people; without it, -o json prints them for programs")
            view.document(form, before)
            return
        view.page(before)
        live = sys.stdin.isatty() and sys.stdout.isatty() and not before
        if watch or live:
            talk = None if watch or not live else _Talk(stops_of(common.project_of(context)))
            view.follow(talk)


def _list(store: Store, namespace: str | None, me: str, form: Format) -> None:
    from controllers.runs import threads

    with store.snapshot() as snapshot:
        found = snapshot.objects("Thread", namespace=namespace)
    if form in (Format.JSON, Format.YAML):
        from cli.output import as_list

        documents = as_list([t.to_wire() for t in found])
        print(dump_json(documents) if form is Format.JSON else dump_yaml(documents))
        return
    if form is Format.NAME:
        for each in found:
            print(safe(threads.place(each)))
        return
    if not found:
        typer.echo("nobody has said anything yet", err=True)
        return
    rows = []
    for each in sorted(found, key=lambda t: (-threads.unread(t, me), threads.place(t))):
        reader = threads.reader_of(each, me)
        rows.append(
            [
                *([each.namespace] if namespace is None else []),
                safe(threads.place(each)),
                str(each.status.get("messages", 0)),
                str(threads.unread(each, me)) if reader is not None and reader.subscribed else "-",
                str(reader.mentions) if reader is not None else "-",
                safe(str(each.status.get("lastMessageAt", "-"))),
                safe(str(each.status.get("lastAuthor", "")) or "-"),
            ]
        )
    print(
        table(
            rows,
            [*(["NAMESPACE"] if namespace is None else []), "THREAD", "MESSAGES", "UNREAD", "MENTIONS", "LAST", "BY"],
        )
    )


def _subscribe(store: Store, actor: Actor, subject: Resource, *, wanted: bool) -> None:
    from controllers.runs import threads

    with store.transaction(actor) as tx:
        thread = threads.of(tx, subject) if wanted else threads.find(tx, subject)
        if thread is not None:
            threads.subscribe(tx, thread, actor.subject, wanted=wanted)
    print(f"{'following' if wanted else 'no longer following'} {subject.key.short} (as {actor.subject})")


class _View:
    """What one person sees of one thread."""

    def __init__(self, store: Store, subject: Resource, actor: Actor, limit: int) -> None:
        self._store = store
        self._subject = subject
        self._actor = actor
        self._limit = limit
        self._cursor = 0
        self._numbers: dict[str, int] = {}

    def page(self, before: int) -> None:
        """Print the latest messages, or those before a cursor."""
        with self._store.snapshot() as snapshot:
            page = self._page(snapshot, before=before or None)
        if page is None or not page.entries:
            typer.echo(f"nobody has said anything about {self._subject.key.short} yet", err=True)
            return
        if page.older is not None:
            earlier = f"remit chat {self._subject.key.short} --before {page.older} --limit {self._limit}"
            from cli.program import shown

            typer.echo(shown(f"earlier: {earlier}"), err=True)
        self._print(page)
        self._cursor = 0 if before else page.newest
        if not before:
            self._read()

    def document(self, form: Format, before: int) -> None:
        """Print the messages as objects."""
        from cli.output import as_list

        with self._store.snapshot() as snapshot:
            page = self._page(snapshot, before=before or None)
        messages = [entry.message for entry in page.entries] if page is not None else []
        if form is Format.NAME:
            for message in messages:
                print(f"message/{message.name}")
            return
        documents = as_list([message.to_wire() for message in messages])
        print(dump_json(documents) if form is Format.JSON else dump_yaml(documents))

    def follow(self, talk: _Talk | None) -> None:
        """Print what is said from now on, and say what is typed, until that ends."""
        if talk is not None:
            talk.begin()
        try:
            self._go_on(talk)
        finally:
            if talk is not None:
                talk.end()

    def _go_on(self, talk: _Talk | None) -> None:
        seen = -1
        while True:
            over = talk is not None and not talk.speak(self._say)
            cursor = self._store.cursor()
            if cursor != seen:
                seen = cursor
                self._news(talk)
            if over:
                return
            common.pause(common.POLL_S)

    def _news(self, talk: _Talk | None) -> None:
        while True:
            with self._store.snapshot() as snapshot:
                page = self._page(snapshot, after=self._cursor)
            if page is None or page.newest <= self._cursor:
                return
            if talk is not None:
                talk.clear()
            self._print(page)
            self._cursor = page.newest
            self._read()
            if talk is not None:
                talk.prompt()

    def _page(self, snapshot: Snapshot, *, before: int | None = None, after: int = 0) -> Page | None:
        from controllers.runs import threads

        thread = threads.find(snapshot, self._subject)
        if thread is None:
            return None
        return threads.page(snapshot, thread, before=before, after=after, limit=self._limit)

    def _print(self, page: Page) -> None:
        from cli import conversation

        for entry in page.entries:
            number = entry.message.status.get("number")
            if number:
                self._numbers[entry.message.uid] = int(number)
            for line in conversation.shown(entry, self._numbers, self._actor.subject):
                print(line, flush=True)

    def _read(self) -> None:
        """What was printed is read, for who follows the thread."""
        from controllers.runs import threads

        me = self._actor.subject
        with self._store.snapshot() as snapshot:
            thread = threads.find(snapshot, self._subject)
        reader = threads.reader_of(thread, me) if thread is not None else None
        if thread is None or reader is None or (threads.unread(thread, me) <= 0 and not reader.mentions):
            return
        shown = max(self._numbers.values(), default=0)
        with self._store.transaction(self._actor) as tx:
            current = tx.get(thread.key)
            if current is not None:
                threads.read(tx, current, me, shown)

    def _say(self, text: str, stops: Stops) -> None:
        from cli import conversation

        with self._store.transaction(self._actor) as tx:
            subject = tx.get(self._subject.key)
            if subject is None:
                raise Failure(f"{self._subject.key.short} is gone")
            heard = conversation.speak(tx, subject, self._actor, text, key=secrets.token_hex(16), stops=stops)
        if heard.note or (not heard.told and heard.answer is None):
            print(paint(safe(f"({conversation.whom(heard)})"), "dim"), flush=True)


class _Talk:
    """The line that a person types while the thread goes on."""

    def __init__(self, stops: Stops) -> None:
        self._stops = stops
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._terminal: list[Any] | None = None

    def begin(self) -> None:
        """Begin to listen. The thread that reads is left behind at the end: it waits for a key that nobody presses."""
        with contextlib.suppress(ImportError):  # not on every machine
            import readline  # noqa: F401  gives the line its editing
            import termios

            self._terminal = termios.tcgetattr(sys.stdin.fileno())
        threading.Thread(target=self._listen, name="remit-chat", daemon=True).start()

    def end(self) -> None:
        """Give the terminal back as it was: the line may still be open."""
        if self._terminal is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._terminal)

    def _listen(self) -> None:
        while True:
            try:
                self._lines.put(input(_PROMPT))
            except (EOFError, OSError, ValueError, KeyboardInterrupt):
                self._lines.put(None)
                return

    def speak(self, say: Callable[[str, Stops], None]) -> bool:
        """Say what was typed meanwhile; False when the person is done."""
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return True
            if line is None:
                print(flush=True)
                return False
            if not line.strip():
                continue
            try:
                say(line, self._stops)
            except Failure as failure:
                print(paint(safe(f"({failure})"), "bad"), flush=True)

    def clear(self) -> None:
        """Take the half-typed line away, to print above it."""
        sys.stdout.write("\r\x1b[K")

    def prompt(self) -> None:
        """Put it back."""
        typed = ""
        if "readline" in sys.modules:
            typed = sys.modules["readline"].get_line_buffer()
        sys.stdout.write(_PROMPT + typed)
        sys.stdout.flush()
