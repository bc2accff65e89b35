"""What MODEL may be on the command line.

- `net.safetensors`: a plan file.  Data; nothing in it is executed.
- `net.onnx`, `net.pt2`: a model, which is data as well; `--shape` gives sizes that it leaves open.
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
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from gossamer.capturing import FILES, capture, survey
from gossamer.cli.output import counted, working
from gossamer.errors import ModelError
from gossamer.front import load, tune
from gossamer.front import plan as make_plan
from jit.decide.halved import Weights
from refimpl.graph import Graph
from refimpl.importers.sizes import GivenShapes
from refimpl.importers.survey import Survey
from refimpl.plan import MOST_THREADS, Plan
from refimpl.recognise import Recognition, annotate, recognise_network

DEMO_FOLDER = Path("demo")
_REFERENCE = re.compile(r"(?P<module>.+):(?P<factory>[A-Za-z_]\w*)")
_SHAPE = re.compile(r"(?:(?P<name>.+)=)?(?P<sizes>\d{1,10}(?:x\d{1,10})*)")
_FORMS = (
    "a plan file (net.safetensors), net.onnx, net.pt2, module.py:factory, demo:dense or demo:pruned"
)

Shapes = Annotated[
    list[str] | None,
    Parameter(
        name="--shape",
        negative=(),
        help="The shape of an input of which a .onnx or .pt2 file leaves sizes open, such as "
        "x=1x3x224x224; the name may be left out where there is one input. May be given several "
        "times.",
    ),
]
"""The option by which verbs take shapes of inputs."""

Threads = Annotated[
    int | None,
    Parameter(
        name="--threads",
        validator=Number(gte=1, lte=MOST_THREADS),
        help="Threads that run the network together, on devices that have them; one where not "
        "given. A plan file says by itself how many it is for.",
    ),
]
"""The option by which verbs that plan take a number of threads."""

StoredAs = Annotated[
    Weights | None,
    Parameter(
        name="--weights",
        help="As what the weights of linear layers and recurrences are stored: float16 halves "
        "them and rounds each once; float32 where not given. A plan file says so by itself.",
    ),
]
"""The option by which verbs that plan take how weights are stored."""


@dataclass(frozen=True)
class Source:
    """What MODEL names, but for plans.

    Attributes:
        text: MODEL.
        model: a torch module, or the path of a file.
        example: the module's inputs; None of a file.
        shapes: of the file's inputs, as given; None of a module.
    """

    text: str
    model: Any
    example: Any
    shapes: GivenShapes | None


def source_of(model: str, shape: list[str] | None = None) -> Source:
    """What MODEL names; a factory has been called.

    Raises:
        ModelError: it names nothing that can be used, or `shape` does not go with it.
    """
    if model.lower().endswith(FILES):
        return Source(model, Path(model), None, _shapes(shape or []))
    _refuse_shapes(model, shape)
    return Source(model, *_module_of(model), None)


def captured(source: Source) -> Graph:
    """The Graph, with the masks that the model says it has.

    Raises:
        CaptureError: as `gossamer.capture`.
    """
    with working(f"capturing {source.text}"), _quiet():
        return capture(source.model, source.example, shapes=source.shapes, recognise=False)


def surveyed(source: Source) -> Survey:
    """What a model holds that cannot be captured.

    Raises:
        CaptureError: not even that can be told.
    """
    with working(f"looking into {source.text}"), _quiet():
        return survey(source.model, source.example, shapes=source.shapes)


def recognised(graph: Graph) -> dict[str, Recognition]:
    """What the zeros of the weights say; see `refimpl.recognise`."""
    with working(f"recognising the schemes of {graph.name}"):
        return recognise_network(graph)


def graph_or_plan(model: str, shape: list[str] | None = None) -> Graph | Plan:
    """What MODEL names, its schemes recognised.

    Raises:
        ModelError: it names nothing that can be used. PlanFileError, CaptureError: as they say.
    """
    if is_plan(model):
        _refuse_shapes(model, shape)
        return load(model)
    graph = captured(source_of(model, shape))
    return annotate(graph, recognised(graph))


def _refuse_shapes(model: str, shape: list[str] | None) -> None:
    if shape:
        raise ModelError(f"--shape is for {' and '.join(FILES)} files; {model} has its own shapes")


def is_plan(model: str) -> bool:
    """Whether MODEL is a plan file."""
    return model.endswith(".safetensors")


def _shapes(given: list[str]) -> GivenShapes | None:
    """The shapes by the name of the input; without a name, the one shape that there is."""
    found: dict[str, tuple[int, ...]] = {}
    for text in given:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ModelError(f"--shape {text!r} is not NAME=SIZES or SIZES, such as x=1x3x224x224")
        name = match["name"] or ""
        if name in found:
            raise ModelError(f"--shape gives {f'input {name!r}' if name else 'the input'} twice")
        found[name] = tuple(int(size) for size in match["sizes"].split("x"))
    if "" in found and len(found) > 1:
        raise ModelError("--shape without a name is for a model of one input; name them all")
    return found.get("", found or None)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch logs the traceback of what is then raised and said, and warns of its own insides."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def plan_of(
    model: str,
    target: str | None,
    shape: list[str] | None = None,
    threads: int | None = None,
    weights: Weights | None = None,
) -> Plan:
    """The plan that MODEL names, or one made for `target` ("host" where None), `threads` (1) and
    `weights` (float32).

    Raises:
        ModelError: a plan file for another target or number of threads than asked for, or given
            how weights are stored, which it says by itself.
    """
    found = graph_or_plan(model, shape)
    if isinstance(found, Graph):
        with working(f"planning {model}"):
            return make_plan(found, target or "host", threads or 1, weights=weights or "float32")
    if weights is not None:
        raise ModelError(
            f"{model} is a plan, whose weights are stored as they are; make one from the model: "
            f"gossamer plan MODEL --target {found.target} --weights {weights}"
        )
    if target not in (None, found.target):
        raise ModelError(
            f"{model} is a plan for {found.target}, not {target}; make one for it "
            f"from the model: gossamer plan MODEL --target {target}"
        )
    if threads not in (None, found.threads):
        raise ModelError(
            f"{model} is a plan for {counted(found.threads, 'thread')}, not {threads}; make one "
            f"from the model: gossamer plan MODEL --target {found.target} --threads {threads}"
        )
    return found


def tuned(
    model: str,
    device: str,
    target: str | None,
    shape: list[str] | None = None,
    threads: int | None = None,
    weights: Weights | None = None,
) -> Plan:
    """A plan of MODEL whose choices are measured on a device, with a bar of the progress.

    Raises:
        ModelError: it is a plan already, whose choices are made.
    """
    found = graph_or_plan(model, shape)
    if isinstance(found, Plan):
        raise ModelError(f"{model} is a plan, whose choices are made; tune the model it came from")
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"timing candidates on {device}", total=None)

        def tell(known: int, wanted: int) -> None:
            progress.update(task, completed=known, total=wanted)

        stored_as = weights or "float32"
        return tune(found, device, target, threads or 1, weights=stored_as, tell=tell)


def _module_of(model: str) -> tuple[Any, Any]:
    if model.startswith("demo:"):
        return _demo(model)
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
