"""The reader of a Graph's text, in the grammar of `refimpl.graph.form`.

The text may come from anywhere: every token is matched by a bounded pattern, nesting is bounded,
and nothing is evaluated.  The Graph is well formed as text only; `check` says if it has a meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from refimpl.graph.form import Attributes, Constant, Graph, GraphError, Node, Sparsity
from refimpl.graph.show import BARE_NAME
from refimpl.ops import Shape
from refimpl.schemes import SchemeError, scheme_from_text

T = TypeVar("T")

# A tuple of pairs is two deep; no attribute needs more.
_DEEPEST_VALUE = 4
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
_SHAPE = re.compile(r"\(\)|\d{1,19}(?:x\d{1,19})*", re.ASCII)
_FLOAT = re.compile(r"-?(?:inf|nan|\d{1,400}(?:\.\d{1,400}(?:e[+-]?\d{1,4})?|e[+-]?\d{1,4}))")
_INT = re.compile(r"-?\d{1,19}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{16}(?![0-9A-Za-z_.])")
_WORD = re.compile(r"(?:True|False)(?![A-Za-z0-9_.])")
# A keyword has a name behind it; a node of the same name has "=" or ",".
_ENTRY = {
    keyword: re.compile(keyword + r' +(?=["A-Za-z0-9_.])')
    for keyword in ("graph", "input", "const", "output")
}
_SPACE = re.compile(r"[ \n]*")


def parse(text: str, constants: Mapping[str, Constant], masks: Mapping[str, Constant]) -> Graph:
    """The Graph that printed as `text`, with the arrays that stand beside it.

    Args:
        text: as `str(graph)` wrote it.
        constants: by name; those the text does not name are not looked at.
        masks: of the pruned constants, by the constant's name.

    Raises:
        GraphError: the text breaks the grammar, a scheme is unknown, or an array is missing or
            is not the one that the text was written with.
    """
    return _Reader(text, constants, masks).graph()


class _Reader:
    """A cursor over the text; each method reads one rule of the grammar and moves on."""

    def __init__(
        self, text: str, constants: Mapping[str, Constant], masks: Mapping[str, Constant]
    ) -> None:
        self.text = text
        self.at = 0
        self.stored_constants = constants
        self.stored_masks = masks
        self.constants: dict[str, Constant] = {}
        self.sparsity: dict[str, Sparsity] = {}

    def graph(self) -> Graph:
        self.keyword("graph")
        name = self.name()
        self.expect("{")
        inputs = self.entries("input", self.input)
        self.entries("const", self.constant)
        nodes = []
        while not self.at_entry("output") and not self.follows("}"):
            nodes.append(self.node())
        outputs = self.entries("output", self.name)
        self.expect("}")
        self.space()
        if self.at < len(self.text):
            self.fail("the end of the text")
        return Graph(name, inputs, tuple(nodes), outputs, self.constants, self.sparsity)

    def entries(self, keyword: str, entry: Callable[[], T]) -> tuple[T, ...]:
        found = []
        while self.at_entry(keyword):
            self.keyword(keyword)
            found.append(entry())
        return tuple(found)

    def at_entry(self, keyword: str) -> bool:
        """Whether an entry with this keyword comes next, and not a node called like it."""
        self.space()
        return _ENTRY[keyword].match(self.text, self.at) is not None

    def keyword(self, keyword: str) -> None:
        self.token(_ENTRY[keyword], repr(keyword))

    def input(self) -> tuple[str, Shape]:
        name = self.name()
        self.expect(":")
        return name, self.shape()

    def constant(self) -> None:
        name = self.name()
        self.expect(":")
        shape = self.shape()
        digest = self.token(_DIGEST, "a digest of 16 hex digits")
        if name in self.constants:
            raise GraphError(f"{self.place()}: constant {name!r} is defined twice")
        constant = self.stored(self.stored_constants, name, "constant", digest)
        if constant.array.shape != shape:
            raise GraphError(
                f"{self.place()}: constant {name!r} has shape {constant.array.shape}, "
                f"the text says {shape}"
            )
        self.constants[name] = constant
        if self.accept("["):
            self.sparsity[name] = self.annotation(name)

    def annotation(self, name: str) -> Sparsity:
        text = self.name()
        digest = self.token(_DIGEST, "a digest of 16 hex digits")
        self.expect("]")
        try:
            scheme = scheme_from_text(text)
        except SchemeError as error:
            raise GraphError(f"{self.place()}: scheme of constant {name!r}: {error}") from error
        return Sparsity(scheme, self.stored(self.stored_masks, name, "mask of", digest))

    def stored(self, store: Mapping[str, Constant], name: str, what: str, digest: str) -> Constant:
        if name not in store:
            raise GraphError(f"{self.place()}: the {what} {name!r} does not stand beside the text")
        if store[name].digest != digest:
            raise GraphError(
                f"{self.place()}: the {what} {name!r} has digest {store[name].digest}, "
                f"the text was written with {digest}"
            )
        return store[name]

    def node(self) -> Node:
        outputs = self.separated(self.name)
        self.expect("=")
        op = self.name()
        self.expect("(")
        inputs = () if self.follows(")") else self.separated(self.name)
        self.expect(")")
        return Node(outputs, op, inputs, self.attributes())

    def attributes(self) -> Attributes:
        self.expect("{")
        found = () if self.follows("}") else self.separated(self.attribute)
        self.expect("}")
        return found

    def attribute(self) -> tuple[str, Any]:
        name = self.name()
        self.expect("=")
        return name, self.value(0)

    def value(self, depth: int) -> Any:
        if self.follows("("):
            return self.tuple(depth + 1)
        if self.follows('"'):
            return self.string()
        if word := self.match(_WORD):
            return word == "True"
        if number := self.match(_FLOAT):
            return float(number)
        return int(self.token(_INT, "a value"))

    def tuple(self, depth: int) -> tuple[Any, ...]:
        if depth > _DEEPEST_VALUE:
            self.fail(f"tuples at most {_DEEPEST_VALUE} deep")
        self.expect("(")
        values = []
        while not self.follows(")"):
            values.append(self.value(depth))
            if not self.accept(","):
                break
        self.expect(")")
        return tuple(values)

    def separated(self, entry: Callable[[], T]) -> tuple[T, ...]:
        found = [entry()]
        while self.accept(","):
            found.append(entry())
        return tuple(found)

    def name(self) -> str:
        return self.string() if self.follows('"') else self.token(BARE_NAME, "a name")

    def string(self) -> str:
        return json.loads(self.token(_STRING, "a string on one line"))

    def shape(self) -> Shape:
        text = self.token(_SHAPE, "a shape such as 1x3x32x32")
        return () if text == "()" else tuple(map(int, text.split("x")))

    def expect(self, literal: str) -> None:
        if not self.accept(literal):
            self.fail(repr(literal))

    def accept(self, literal: str) -> bool:
        found = self.follows(literal)
        self.at += len(literal) if found else 0
        return found

    def follows(self, literal: str) -> bool:
        self.space()
        return self.text.startswith(literal, self.at)

    def match(self, pattern: re.Pattern[str]) -> str | None:
        self.space()
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group()

    def token(self, pattern: re.Pattern[str], wanted: str) -> str:
        found = self.match(pattern)
        if found is None:
            self.fail(wanted)
        return found

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def place(self) -> str:
        return f"line {self.text.count(chr(10), 0, self.at) + 1}"

    def fail(self, wanted: str) -> NoReturn:
        found = self.text[self.at : self.at + 20] or "the end"
        raise GraphError(f"{self.place()}: expected {wanted}, found {found!r}")
