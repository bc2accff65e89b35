"""What MODEL may be on the command line.

- `net.safetensors`: a plan file.  Data; nothing in it is executed.
- `module.py:factory` or `package.module:factory`: a Python function without arguments that returns
  (torch module, tuple of example inputs).  That is code of yours, and it is run.
- `demo:dense`, `demo:pruned`: the demo's networks, trained into ./demo where they are not there.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.progress import Progress

from gossamer.cli.output import working
from gossamer.errors import ModelError
from gossamer.front import capture, load
from gossamer.front import plan as make_plan
from refimpl.graph import Graph
from refimpl.plan import Plan

DEMO_FOLDER = Path("demo")
_REFERENCE = re.compile(r"(?P<module>.+):(?P<factory>[A-Za-z_]\w*)")
_FORMS = "a plan file (net.safetensors), module.py:factory, or demo:dense, demo:pruned"


def graph_or_plan(model: str) -> Graph | Plan:
    """What MODEL names.

    Raises:
        ModelError: it names nothing that can be used. PlanFileError, CaptureError: as they say.
    """
    if model.endswith(".safetensors"):
        return load(model)
    module, example = _module_of(model)
    with working(f"capturing {model}"), _quiet():
        return capture(module, example)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs the traceback of what is then raised and said, and warns of its own insides."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def plan_of(model: str, target: str | None) -> Plan:
    """The plan that MODEL names, or one made for `target` ("host" where None).

    Raises:
        ModelError: a plan file for another target than the one asked for.
    """
    found = graph_or_plan(model)
    if isinstance(found, Graph):
        with working(f"planning {model}"):
            return make_plan(found, target or "host")
    if target not in (None, found.target):
        raise ModelError(
            f"{model} is a plan for {found.target}, not {target}; make one for it "
            f"from the model: gossamer plan MODEL --target {target}"
        )
    return found


def _module_of(model: str) -> tuple[Any, Any]:
    if model.startswith("demo:"):
        return _demo(model)
    if model.endswith((".pt2", ".onnx", ".pt", ".pth")):
        raise ModelError(f"{model}: {Path(model).suffix} files are not read yet; MODEL is {_FORMS}")
    match = _REFERENCE.fullmatch(model)
    if match is None:
        raise ModelError(f"{model!r} names no model; MODEL is {_FORMS}")
    factory = _factory(match["module"], match["factory"])
    try:
        with working(f"building {model}"):
            made = factory()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{model} raised {type(error).__name__}: {error}") from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise ModelError(f"{model} returned {type(made).__name__} instead of (module, inputs)")
    return made


def _factory(name: str, attribute: str) -> Callable[[], Any]:
    module = _from_file(Path(name)) if name.endswith(".py") else _from_path(name)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ModelError(f"{name} has no function {attribute!r}")
    return found


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"{path} is not a file")
    sys.path.insert(0, str(path.resolve().parent))  # so that it can import its neighbours
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    return _imported(str(path), lambda: spec.loader.exec_module(module) or module)  # type: ignore


def _from_path(name: str) -> ModuleType:
    sys.path.insert(0, "")  # as `python -m` does
    return _imported(name, lambda: importlib.import_module(name))


def _imported(name: str, load_it: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load_it()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _demo(model: str) -> tuple[Any, Any]:
    which = model.removeprefix("demo:")
    if which not in ("dense", "pruned"):
        raise ModelError(f"the demo's networks are demo:dense and demo:pruned, not {model}")
    import torch

    from prune.demo.train import load_or_train

    with Progress(console=Console(stderr=True), transient=True) as progress:
        result = load_or_train(DEMO_FOLDER, progress=progress)
    return getattr(result, which), (torch.from_numpy(result.test.frames[:1]),)
