"""``when`` expressions: CEL, bounded and linted before use, evaluated so that a failure never opens anything."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from decisions.policy import expression_native, expression_tokens
from decisions.policy.expression_tokens import BadExpression
from decisions.policy.facts import AgentFacts, Call, Circumstances, MissionFacts
from schemas.policy import MAX_EXPRESSION


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


if TYPE_CHECKING:
    import cel

FIELDS = MappingProxyType(
    {
        "tool": None,
        "args": None,
        "time": None,
        "agent": frozenset({"name", "namespace", "level", "labels"}),
        "mission": frozenset({"name", "namespace", "type", "project", "priority", "labels"}),
        "spend": frozenset({"estimate", "run", "mission", "today", "remaining"}),
    }
)
"""What an expression may look at. None: no fixed fields (a text, a moment, or whatever the agent passes)."""
FUNCTIONS = _words(
    "size contains startsWith endsWith matches int uint double string bool type dyn timestamp duration has "
    "getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes getSeconds "
    "getMilliseconds"
)
"""What an expression may call: no clock, no randomness, nothing outside."""
_TYPES = frozenset({"int", "uint", "double", "string", "bool", "bytes", "list", "map", "null_type", "type"})
MAX_ELEMENTS = (5_000, 1_000, 100)
"""Items in the lists and mappings of the arguments, by depth of the loops of the expression."""
MAX_TEXT = 65_536
"""Characters in the arguments together."""
MAX_DEPTH = 64
"""Lists and mappings in one another."""


class View(dict[str, Any]):
    """What expressions see of one call: the variables by name, made when they are first looked at. A figure of
    ``spend`` that is not known is left out, and an expression over it fails. ``time`` is when the caller says it is.
    """

    __slots__ = ("_agent", "_around", "_call")

    def __init__(self, call: Call, agent: AgentFacts, around: Circumstances) -> None:
        super().__init__()
        self._call = call
        self._agent = agent
        self._around = around

    def __missing__(self, name: str) -> Any:
        value: Any
        if name == "args":
            value = self._call.args
        elif name == "tool":
            value = self._call.tool
        elif name == "agent":
            key = self._agent.key
            value = {
                "name": key.name,
                "namespace": key.namespace,
                "level": self._agent.level.value,
                "labels": self._agent.labels,
            }
        elif name == "spend":
            value = self._around.spend
        elif name == "time":
            value = self._around.now
        elif name == "mission":
            value = _mission(self._around.mission)
        else:
            raise KeyError(name)
        self[name] = value
        return value

    def whole(self) -> dict[str, Any]:
        """Every variable."""
        return {name: self[name] for name in FIELDS}


def _mission(mission: MissionFacts | None) -> dict[str, Any]:
    if mission is None:
        return {}
    return {
        "name": mission.key.name,
        "namespace": mission.key.namespace,
        "type": mission.type,
        "project": mission.project,
        "priority": mission.priority,
        "labels": mission.labels,
    }


class Evaluation:
    """Evaluates expressions over one view. What they need of it is prepared once, when the first one needs it."""

    __slots__ = ("_context", "_size", "variables")

    def __init__(self, view: View) -> None:
        self.variables = view
        self._context: cel.Context | None = None
        self._size: tuple[int, int] | None = None

    def context(self, loops: int) -> cel.Context:
        """The facts as the CEL library wants them. Raises ValueError when they are more than an evaluation may take."""
        if self._size is None:
            self._size = _measure(self.variables["args"])
        items, text = self._size
        if items > MAX_ELEMENTS[loops] or text > MAX_TEXT:
            raise ValueError("the arguments are too large or too deep to evaluate")
        if self._context is None:
            import cel  # costs 0.4 s, and only policies with expressions need it

            self._context = cel.Context(self.variables.whole())
        return self._context


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression. ``problem`` says why it cannot be used, and it then fails whenever it is asked."""

    source: str
    program: cel.Program | None
    native: expression_native.Native | None
    loops: int
    problem: str = ""

    def holds(self, evaluation: Evaluation) -> bool | str:
        """True or False; or, as a text, why nobody can say."""
        if self.native is not None:
            answer = self.native(evaluation.variables)
            if answer is not None:
                return answer
        if self.program is None:
            return self.problem or "it does not compile"
        try:
            value = self.program.execute(evaluation.context(self.loops))
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001  the library raises whatever fits, panics of Rust included
            return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no details'}"
        if isinstance(value, bool):
            return value
        return f"it gives {type(value).__name__}, not true or false"


def check(source: str) -> BadExpression | None:
    """What is wrong with an expression, as far as that can be said without a call; None when nothing is."""
    try:
        _compile(source)
    except BadExpression as error:
        return error
    return None


def compile_expression(source: str) -> Condition:
    """The expression, ready for use. Never raises: one that is wrong fails at every evaluation."""
    try:
        program, loops = _compile(source)
    except BadExpression as error:
        return Condition(source, None, None, 0, f"it does not compile: {error}")
    return Condition(source, program, expression_native.translate(source), loops)


def _compile(source: str) -> tuple[cel.Program, int]:
    if len(source) > MAX_EXPRESSION:
        raise BadExpression(f"longer than {MAX_EXPRESSION} characters", hint="write several rules")
    words = expression_tokens.tokens(source)
    bound = expression_tokens.check_bounds(words)
    import cel  # costs 0.4 s, and only policies with expressions need it

    try:
        program = cel.compile(source)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001  the library raises whatever fits, panics of Rust included
        raise _syntax(source, str(error)) from None
    _check_names(words, bound, set(program.functions()))
    _check_patterns(words)
    loops = min(_loops(words), expression_tokens.MAX_MACRO_NESTING)
    return program, loops


_SYNTAX = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


def _syntax(source: str, message: str) -> BadExpression:
    match = _SYNTAX.search(message)
    if match is None:
        return BadExpression("not an expression")
    lines = source.split("\n")
    line, column = int(match[1]), int(match[2])
    at = sum(len(text) + 1 for text in lines[: line - 1]) + column - 1
    text = match[3].partition(" expecting ")[0].replace("Syntax error: ", "")
    if "'<EOF>'" in text:
        text = "the expression ends too early"
    return BadExpression(text[:200] or "not an expression", at)


def _check_names(words: list[expression_tokens.Token], bound: frozenset[str], functions: set[str]) -> None:
    known = FIELDS.keys() | bound
    for index, word in enumerate(words):
        if word.kind != "name" or word.text in ("true", "false", "null", "in"):
            continue
        before = words[index - 1].text if index else ""
        after = words[index + 1].text if index + 1 < len(words) else ""
        if after == "(":
            if word.text not in FUNCTIONS | expression_tokens.MACROS:
                raise _unknown("function", word, FUNCTIONS | expression_tokens.MACROS - {"map"})
        elif before == ".":
            root = words[index - 2] if index > 1 else None
            first = index < 3 or words[index - 3].text != "."
            fields = FIELDS.get(root.text) if root is not None and root.kind == "name" and first else None
            if root is not None and fields is not None and root.text not in bound and word.text not in fields:
                raise _unknown(f"field of {root.text}", word, fields)
        elif after == ":" and before in ("{", ","):
            raise BadExpression("messages cannot be built", word.at)
        elif word.text not in known | _TYPES:
            raise _unknown("variable", word, frozenset(known))
    strange = [f for f in functions if f[0] not in "_@!-" and f not in FUNCTIONS]
    if strange:
        raise BadExpression(f"there is no function {strange[0]}")


def _unknown(what: str, word: expression_tokens.Token, known: frozenset[str]) -> BadExpression:
    near = difflib.get_close_matches(word.text, sorted(known), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return BadExpression(f"there is no {what} {word.text}", word.at, hint=hint)


def _check_patterns(words: list[expression_tokens.Token]) -> None:
    """A pattern that is written out must be one: else the rule would fail at every call."""
    import cel  # see _compile

    for index, word in enumerate(words[2:], 2):
        if word.kind == "string" and words[index - 1].text == "(" and words[index - 2].text == "matches":
            try:
                cel.compile(f"''.matches({word.text})").execute({})
            except (KeyboardInterrupt, SystemExit, MemoryError):
                raise
            except BaseException as error:  # noqa: BLE001  see _compile
                detail = re.search(r"error: ([^\n.]*)", str(error))
                text = f": {detail[1]}" if detail else ""
                raise BadExpression(f"not a regular expression{text}", word.at) from None


def _loops(words: list[expression_tokens.Token]) -> int:
    deepest = depth = 0
    stack: list[bool] = []
    for index, word in enumerate(words):
        if word.text in ("(", "[", "{") and word.kind == "mark":
            macro = index > 0 and words[index - 1].text in expression_tokens.MACROS
            stack.append(macro)
            depth += macro
            deepest = max(deepest, depth)
        elif word.text in (")", "]", "}") and word.kind == "mark":
            depth -= stack.pop()
    return deepest


def _measure(value: Any) -> tuple[int, int]:
    """(items of lists and mappings, characters), counted no further than the most that is ever taken. What nests too
    deep counts as too many items: the library recurses."""
    items = text = 0
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, str):
            text += len(item)
        elif isinstance(item, Mapping | list | tuple):
            items += len(item) if depth < MAX_DEPTH else MAX_ELEMENTS[0] + 1
            if items > MAX_ELEMENTS[0]:
                break
            inner = item.values() if isinstance(item, Mapping) else item
            stack.extend((one, depth + 1) for one in inner)
            if isinstance(item, Mapping):
                text += sum(len(str(key)) for key in item)
        if text > MAX_TEXT:
            break
    return items, text
