"""The text of a Program, and back: a subset of Python's syntax, read with `ast`, never executed."""

from __future__ import annotations

import ast
import math
from typing import Any

from jit.index import Index, at, index, maximum, minimum
from jit.program import (
    Block,
    Buffer,
    Call,
    Const,
    For,
    If,
    Let,
    Load,
    Number,
    Param,
    Program,
    ProgramError,
    Registers,
    Statement,
    Store,
    Value,
)

_ROLES = ("read", "write", "update")
_KINDS = ("range", "parallel", "unroll", "vector")


def show(program: Program) -> str:
    """The program as text."""
    lines = [f"def {program.name}("]
    for p in program.params:
        lines.append(f"    {p.name}: param({p.lo}, {p.hi}, {p.multiple}),")
    for b in program.buffers:
        shape, strides = _tuple(b.shape), _tuple(b.strides)
        lines.append(f"    {b.name}: {b.role}({b.dtype}, {shape}, {strides}),")
    lines.append("):")
    lines += show_block(program.body, 1) or ["    pass"]
    return "\n".join(lines) + "\n"


def show_block(block: Block, depth: int = 0) -> list[str]:
    """The lines of a block."""
    lines: list[str] = []
    pad = "    " * depth
    for statement in block:
        match statement:
            case For(var, lo, hi, body, kind):
                lines.append(f"{pad}for {var} in {kind}({lo}, {hi}):")
                lines += show_block(body, depth + 1) or [pad + "    pass"]
            case If(left, right, then, orelse):
                lines.append(f"{pad}if {left} == {right}:")
                lines += show_block(then, depth + 1) or [pad + "    pass"]
                if orelse:
                    lines.append(f"{pad}else:")
                    lines += show_block(orelse, depth + 1)
            case Let(name, value):
                lines.append(f"{pad}{name} = {value}")
            case Registers(name, shape):
                lines.append(f"{pad}{name} = registers({', '.join(map(str, shape))})")
            case Store(buffer, subscript, value):
                lines.append(f"{pad}{buffer}[{_commas(subscript)}] = {show_value(value)}")
    return lines


def show_value(value: Value) -> str:
    """A value expression as text."""
    match value:
        case Const():
            return str(value)
        case Number(expression):
            return f"number({expression})"
        case Load(buffer, subscript):
            return f"{buffer}[{_commas(subscript)}]"
        case Call(primitive, args):
            return f"{primitive}({', '.join(show_value(a) for a in args)})"
    raise ProgramError(f"{value!r} is not a value")


def _commas(items: tuple[Index, ...]) -> str:
    return ", ".join(map(str, items))


def _tuple(items: tuple[Index, ...]) -> str:
    return f"({_commas(items)}{',' if len(items) == 1 else ''})"


def parse(text: str) -> Program:
    """The Program that `show` printed. Raises ProgramError for any other text."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(f"not the text of a program: {error}") from None
    _refuse_more(module)
    if len(module.body) != 1 or not isinstance(module.body[0], ast.FunctionDef):
        raise ProgramError("not the text of a program: expected one def")
    function = module.body[0]
    params: list[Param] = []
    buffers: list[Buffer] = []
    for arg in function.args.args:
        _argument(arg, params, buffers)
    return Program(function.name, tuple(params), tuple(buffers), _block(function.body))


def parse_index(text: str) -> Index:
    """The index expression that `str` wrote. Raises ProgramError for anything else."""
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(f"not the text of an index expression: {error}") from None
    return _index(node)


_UNSPOKEN: dict[type[ast.AST], tuple[str, ...]] = {
    ast.FunctionDef: ("decorator_list", "returns"),
    ast.arguments: ("posonlyargs", "vararg", "kwonlyargs", "kwarg", "defaults"),
    ast.Call: ("keywords",),
    ast.For: ("orelse",),
}
"""What Python's syntax has and the grammar lacks, inside what both have."""


def _refuse_more(module: ast.Module) -> None:
    for node in ast.walk(module):
        for name in _UNSPOKEN.get(type(node), ()):
            if getattr(node, name):
                raise _fail(node, f"no {name}")


def _fail(node: ast.AST, wanted: str) -> ProgramError:
    line = getattr(node, "lineno", "?")
    return ProgramError(f"line {line}: expected {wanted}, found `{ast.unparse(node)}`")


def _argument(arg: ast.arg, params: list[Param], buffers: list[Buffer]) -> None:
    match arg.annotation:
        case ast.Call(func=ast.Name(id="param"), args=[lo, hi, multiple]):
            params.append(Param(arg.arg, _integer(lo), _integer(hi), _integer(multiple)))
        case ast.Call(
            func=ast.Name(id=role),
            args=[ast.Name(id=dtype), ast.Tuple(elts=shape), ast.Tuple(elts=strides)],
        ) if role in _ROLES and dtype in ("f32", "i32", "f16"):
            extents, steps = (tuple(map(_index, es)) for es in (shape, strides))
            buffers.append(Buffer(arg.arg, role, dtype, extents, steps))
        case _:
            raise _fail(arg, "a parameter or a buffer")


def _block(body: list[ast.stmt]) -> Block:
    return tuple(_statement(s) for s in body if not isinstance(s, ast.Pass))


def _statement(node: ast.stmt) -> Statement:
    match node:
        case ast.For(
            target=ast.Name(id=var),
            iter=ast.Call(func=ast.Name(id=kind), args=[lo, hi]),
            body=body,
        ) if kind in _KINDS:
            return For(var, _index(lo), _index(hi), _block(body), kind)
        case ast.If(
            test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]),
            body=then,
            orelse=orelse,
        ):
            return If(_index(left), _index(right), _block(then), _block(orelse))
        case ast.Assign(
            targets=[ast.Name(id=name)],
            value=ast.Call(func=ast.Name(id="registers"), args=shape),
        ):
            return Registers(name, tuple(map(_integer, shape)))
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return Let(name, _index(value))
        case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=buffer), slice=sub)], value=value):
            return Store(buffer, _subscript(sub), _value(value))
    raise _fail(node, "a statement")


def _subscript(node: ast.expr) -> tuple[Index, ...]:
    return tuple(map(_index, node.elts)) if isinstance(node, ast.Tuple) else (_index(node),)


def _integer(node: ast.expr) -> int:
    constant = _index(node).constant
    if constant is None:
        raise _fail(node, "an integer")
    return constant


def _index(node: ast.expr) -> Index:
    match node:
        case ast.Constant(value=int(number)) if type(number) is int:
            return index(number)
        case ast.Name(id=name):
            return index(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _index(operand) * -1
        case ast.Subscript(value=ast.Name(id=table), slice=inner):
            return at(table, _index(inner))
        case ast.Call(func=ast.Name(id="min"), args=[left, right]):
            return minimum(_index(left), _index(right))
        case ast.Call(func=ast.Name(id="max"), args=[left, right]):
            return maximum(_index(left), _index(right))
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(node, op, _index(left), _index(right))
    raise _fail(node, "an index expression")


def _arithmetic(node: ast.expr, op: Any, left: Index, right: Index) -> Index:
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.FloorDiv():
            return left // right
        case ast.Mod():
            return left % right
    raise _fail(node, "one of + - * // %")


def _value(node: ast.expr) -> Value:
    match node:
        case ast.Constant(value=float(number)):
            return Const(number)
        case ast.Name(id="inf" | "nan" as name):
            return Const(math.inf if name == "inf" else math.nan)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _value(operand)
            if isinstance(inner, Const):
                return Const(-inner.value)
        case ast.Call(func=ast.Name(id="number"), args=[expression]):
            return Number(_index(expression))
        case ast.Call(func=ast.Name(id=name), args=args):
            return Call(name, tuple(map(_value, args)))
        case ast.Subscript(value=ast.Name(id=buffer), slice=sub):
            return Load(buffer, _subscript(sub))
    raise _fail(node, "a value")
