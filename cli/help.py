"""How verbs explain themselves: sections of verbs, one line each; the examples of a verb as they can be copied."""

from __future__ import annotations

import difflib
import errno
import importlib
import inspect
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli import catalogue
from cli.failures import Failure, ReaderLeft
from cli.program import shown

EXAMPLES = "Examples:"


class VerbCommand(TyperCommand):
    """One verb. Its docstring may end with a paragraph ``Examples:`` whose lines are shown as they stand."""

    def invoke(self, ctx: Any) -> Any:
        """Run it; the reader of our output may leave meanwhile, which is no error of ours."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise ReaderLeft from error
            raise
        return result

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``KIND/NAME`` rather than ``{KIND/NAME}``."""
        pieces = super().collect_usage_pieces(ctx)
        return [p[1:].replace("}", "", 1) if p.startswith("{") else p for p in pieces]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The text, wrapped, then the examples, unwrapped."""
        text, _, examples = inspect.cleandoc(self.help or "").partition(f"\n{EXAMPLES}\n")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(shown(text.strip()))
        if examples.strip():
            formatter.write_paragraph()
            with formatter.section("Examples"):
                indent = " " * formatter.current_indent
                for line in inspect.cleandoc(examples).splitlines():
                    formatter.write(f"{indent}{shown(line)}".rstrip() + "\n")

    def get_help(self, ctx: Any) -> str:
        """As it can be called from here."""
        return shown(super().get_help(ctx))


class VerbGroup(TyperGroup):
    """Verbs under one word, such as ``db``. Without one of them it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As kubectl does: asked for nothing, it tells what it can do."""
        if not args and not ctx.resilient_parsing:
            print(self.get_help(ctx))
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises Failure with the nearest verbs for one that there is not."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise self.unknown(ctx, name)
        return super().resolve_command(ctx, args)

    def unknown(self, ctx: Any, name: str) -> Failure:
        """What is said of a verb that there is not."""
        near = difflib.get_close_matches(name[:40].lower(), self.list_commands(ctx), n=2)
        details = [f"did you mean {' or '.join(near)}?"] if near else []
        return Failure(f"{ctx.command_path} has no verb {name[:60]!r}", *details, hint=f"{ctx.command_path} --help")

    def get_help(self, ctx: Any) -> str:
        """As it can be called from here."""
        return shown(super().get_help(ctx))


class AllVerbs(VerbGroup):
    """The whole command. Only the module of the verb that is called is imported; `--help` needs none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All of them, in the order of the catalogue."""
        return list(catalogue.VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb, its module imported."""
        verb = catalogue.VERBS.get(cmd_name)
        if verb is not None and cmd_name not in self.commands:
            self.commands.update(commands_of(verb.module))
        return self.commands.get(cmd_name)

    def unknown(self, ctx: Any, name: str) -> Failure:
        """With what Remit does instead, for words that people bring from other tools."""
        if name in catalogue.ELSEWHERE:
            instead, command = catalogue.ELSEWHERE[name]
            return Failure(f"remit has no verb {name!r}: {instead}", hint=command)
        return super().unknown(ctx, name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Sections of verbs, one line each."""
        width = max(len(name) for name in catalogue.VERBS)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, verb in catalogue.VERBS.items():
            sections.setdefault(verb.section, []).append((name.ljust(width), verb.summary))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def commands_of(module: str) -> dict[str, Any]:
    """The verbs that a module registers, by name."""
    app = typer.Typer(rich_markup_mode=None)
    importlib.import_module(module).register(app)
    _dress(app)
    return dict(typer.main.get_group(app).commands)


def _dress(app: typer.Typer) -> None:
    for info in app.registered_commands:
        info.cls = VerbCommand
    for group in app.registered_groups:
        group.cls = VerbGroup
        if group.typer_instance is not None:
            _dress(group.typer_instance)
