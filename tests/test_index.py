"""Index expressions: one canonical form, and arithmetic that keeps the value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit.index import at, evaluator, index, maximum, minimum, substitute
from jit.program_text import _index
from jit.rewrite import simplify

NAMES = ("a", "b", "c")


def expressions():
    leaves = st.integers(-20, 20).map(index) | st.sampled_from(NAMES).map(index)

    def extend(inner):
        pair = st.tuples(inner, inner)
        return (
            pair.map(lambda p: p[0] + p[1])
            | pair.map(lambda p: p[0] - p[1])
            | pair.map(lambda p: p[0] * p[1])
            | pair.map(lambda p: minimum(*p))
            | pair.map(lambda p: maximum(*p))
            | st.tuples(inner, st.integers(1, 9)).map(lambda p: p[0] // p[1])
            | st.tuples(inner, st.integers(1, 9)).map(lambda p: p[0] % p[1])
            | inner.map(lambda i: at("t", i))
        )

    return st.recursive(leaves, extend, max_leaves=8)


def value(expression, env):
    return evaluator(expression, lambda _, i: (i * 7 + 3) % 11)(env)


environments = st.fixed_dictionaries({n: st.integers(0, 30) for n in NAMES})


@given(expressions())
def test_text_parses_back(expression):
    import ast

    assert _index(ast.parse(str(expression), mode="eval").body) == expression


@given(expressions(), expressions(), environments)
def test_arithmetic_keeps_the_value(x, y, env):
    a, b = value(x, env), value(y, env)
    assert value(x + y, env) == a + b
    assert value(x - y, env) == a - b
    assert value(x * y, env) == a * b
    assert value(x // 4, env) == a // 4
    assert value(x % 6, env) == a % 6


@given(expressions(), expressions(), environments)
def test_substitution_is_evaluation(x, y, env):
    replaced = substitute(x, {"a": y})
    assert value(replaced, env) == value(x, {**env, "a": value(y, env)})


@given(expressions(), st.integers(0, 3), st.integers(0, 7))
def test_simplify_keeps_the_value_in_range(x, a, b):
    env = {"a": a, "b": b, "c": 0}
    assert value(simplify(x, {"a": 4, "b": 8, "c": 1}), env) == value(x, env)


def test_equal_expressions_are_equal_values():
    a, b = index("a"), index("b")
    assert (a + b) * 2 - b == b + a * 2
    assert (a * 32 + b) // 16 == a * 2 + b // 16
    assert simplify((a * 32 + b) // 16, {"b": 16}) == a * 2
    assert simplify((a * 8 + b) % 16, {"b": 8}) == (a % 2) * 8 + b


def test_a_divisor_must_be_positive():
    with pytest.raises(ValueError, match="not positive"):
        index("a") // 0
