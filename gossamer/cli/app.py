"""The command `gossamer`: its verbs, and what becomes of their errors.

Exit codes: 0 success, 1 a check that failed or an error, 2 a command line that makes no sense, 130
Ctrl-C.  Errors are one sentence on standard error; `--traceback` shows where they came from.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

VERBS = {
    "demo": "Train, prune, compile and compare a small 3-D network on real data.",
    "inspect": "Show a model's layers, or the plan in a file.",
    "plan": "Decide how a model is computed on a target, say why, save it.",
    "compile": "Write a plan's code: assembly, LLVM IR, object.",
    "run": "Run a plan on a device, arrays in, arrays out.",
    "check": "Hold every layer of a plan to its error bound on a device.",
    "bench": "Time a plan per layer, or a single layer of a given shape.",
    "explain": "Follow one layer from tensor to machine code.",
    "devices": "List where code can run here, and what each device is.",
    "doctor": "Say what works here, and how to get what does not.",
}
"""Every verb, in `gossamer/cli/<verb>.py` as a function of that name, and what it is for."""

_EXTRAS = {
    "torch": "torch",
    "sklearn": "data",
    "jinja2": "report",
    "pygments": "report",
    "pyopencl": "opencl",
    "hypothesis": "conformance",
    "onnx": "onnx",
    "onnxruntime": "bench",
    "openvino": "bench",
}
"""Packages that are not always there, and the extra of ours that brings each."""

_TRACEBACK = "--traceback"
_EPILOGUE = "`--traceback` after any verb shows where an error came from."


def run(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code.  Ctrl-C is left to the caller."""
    traceback = _TRACEBACK in arguments
    given = [a for a in arguments if a != _TRACEBACK]
    warnings.showwarning = _show_warning
    try:
        result = application(given)(
            given, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if traceback:
            raise
        _say(explanation(error))
        return 2 if isinstance(error, CycloptsError) else 1


def application(given: Sequence[str]) -> App:
    """The App for a command line; only the verb that is asked for is imported."""
    app = App(
        name="gossamer",
        help="Prune networks with fine-grained structure, and compile them to fast code.",
        help_epilogue=_EPILOGUE,
        help_format="markdown",
        version=_version,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    verb = given[0] if given else ""
    if verb in VERBS:
        app.command(_function(verb), name=verb)
        return app
    for name, summary in VERBS.items():
        app.command(_nothing, name=name, help=summary)
    return app


def _nothing() -> None:
    """Stand for a verb in the list of verbs."""


def _function(verb: str) -> Callable[..., int]:
    return getattr(importlib.import_module(f"gossamer.cli.{verb}"), verb)


def explanation(error: Exception) -> str:
    """An error as sentences for people."""
    ours = type(error).__module__.partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        how = f"pip install 'gossamer[{extra}]'" if extra else "reinstall gossamer"
        return f"{error.name} is not installed here, and this needs it: {how}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    if isinstance(error, CycloptsError):
        return f"{str(error).rstrip('.')}; --help shows what a verb takes"
    if ours in _PACKAGES:
        return str(error)
    text = str(error).strip().partition("\n")[0]
    return (
        f"this is a bug in gossamer ({type(error).__name__}: {text}); please report it with "
        f"what {_TRACEBACK} prints"
    )


_PACKAGES = ("refimpl", "jit", "prune", "conformance", "bench", "gossamer")


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(f"gossamer: {text}", markup=False, soft_wrap=True)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"warning: {message}")


def _version() -> str:
    try:
        return version("gossamer")
    except PackageNotFoundError:  # run from a checkout
        return "0 (not installed)"
