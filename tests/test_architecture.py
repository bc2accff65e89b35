"""The house: who may import whom, and how large a file may grow."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BELOW = {
    "refimpl": set(),
    "jit": {"refimpl"},
    "prune": {"refimpl", "jit"},
    "conformance": {"refimpl", "jit", "prune"},
    "bench": {"refimpl", "jit", "prune", "conformance"},
    "gossamer": {"refimpl", "jit", "prune", "conformance", "bench"},
}
"""Our packages, lowest first, and what each may import of ours."""

EVERYWHERE = {
    "refimpl": {"numpy"},
    "jit": {"numpy", "llvmlite", "elftools", "safetensors"},
}
"""What the lower packages may import of others; the upper ones import what they like."""

ALLOWED = {
    "refimpl/importers/torch.py": {"torch"},
    "refimpl/importers/torch_program.py": {"torch"},
}
"""Files that alone may import more, and what; folders end in a slash."""

ALLOWED_FOLDERS = {
    "jit/opencl/": {"pyopencl"},
    "refimpl/importers/onnx/": {"onnx", "google"},
}

WITHOUT_TORCH = (
    "refimpl",
    "jit",
    # What `gossamer` imports when it is first asked for, and the command line.
    "gossamer.capturing",
    "gossamer.front",
    "gossamer.listing",
    "gossamer.network",
    "gossamer.cli.app",
    "gossamer.cli.models",
)
"""Modules whose import never imports torch."""

LONGEST = 350
"""Lines of a file."""

LONGER = {"jit/llvm.py": 430, "jit/pipeline.py": 400}
"""Files that are one walk or one table of many kinds of things, and may be this long; not more."""

BANNED = {"utils", "util", "manager", "helpers", "misc", "common"}
"""Names that say nothing."""

FILES = sorted(
    path.relative_to(ROOT) for package in BELOW for path in (ROOT / package).rglob("*.py")
)


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def imported(tree: ast.AST) -> set[str]:
    """The modules that any import statement names, at the top or inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # What is imported from a package may be one of its modules.
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & MODULES.keys() or {node.module or ""}
    return found


def at_import_time(tree: ast.Module) -> set[str]:
    """The modules imported when the file is, not by type checkers or inside functions."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= imported(node)
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down_only(path: Path) -> None:
    package = path.parts[0]
    ours = tops(imported(parsed(path))) & BELOW.keys()
    assert ours <= BELOW[package] | {package}


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] in EVERYWHERE], ids=str)
def test_lower_packages_import_little(path: Path) -> None:
    others = tops(imported(parsed(path))) - BELOW.keys() - set(sys.stdlib_module_names)
    name = str(path)
    more = ALLOWED.get(name, set())
    for folder, packages in ALLOWED_FOLDERS.items():
        more = more | packages if name.startswith(folder) else more
    assert others <= EVERYWHERE[path.parts[0]] | more


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short_and_named_for_what_they_hold(path: Path) -> None:
    assert not BANNED & {*path.parent.parts, path.stem}
    lines = len((ROOT / path).read_text().splitlines())
    assert lines <= LONGER.get(str(path), LONGEST), "split it by what it does"


@pytest.mark.parametrize("package", BELOW)
def test_modules_of_a_package_do_not_import_in_a_circle(package: str) -> None:
    """A module is imported only after those it needs at import time."""
    modules = {module_name(p): at_import_time(parsed(p)) for p in FILES if p.parts[0] == package}
    done: set[str] = set()
    waiting = dict(modules)
    while waiting:
        ready = [m for m, needs in waiting.items() if needs & waiting.keys() <= {m}]
        assert ready, f"a circle among {sorted(waiting)}"
        done.update(ready)
        for module in ready:
            del waiting[module]


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_torch_is_imported_only_where_it_is_needed(package: str) -> None:
    """Nothing that these packages import when they are imported needs torch."""
    seen: set[str] = set()
    todo = {package}
    while todo:
        name = todo.pop()
        seen.add(name)
        if name in MODULES:
            needs = at_import_time(parsed(MODULES[name]))
            assert "torch" not in tops(needs), f"{name} imports torch"
            todo |= {n for n in needs if n in MODULES} - seen
