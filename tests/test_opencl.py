"""OpenCL: the grid schedule in the interpreter, the emitted text, and networks on a device."""

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

import prune
import refimpl.plan
from jit.artifact import OpenCLArtifact, build
from jit.checker import check as check_program
from jit.decide import plan as decide
from jit.devices import open_device
from jit.executable import Executable, open_executable
from jit.index import index
from jit.inputs import InputError
from jit.interpret_plan import differences
from jit.kernels.activation import ATTRIBUTES
from jit.launches import launches
from jit.opencl.emitter import emit_source
from jit.opencl.grid import WORK_GROUP, work_items
from jit.opencl.primitives import literal
from jit.opencl.runtime import OpenCLSession, open_opencl, opencl_devices
from jit.pipeline import lower
from jit.primitives import PRIMITIVES
from jit.program import (
    Buffer,
    For,
    Load,
    Param,
    Program,
    ProgramError,
    Registers,
    Store,
    call,
    loop,
)
from jit.program_text import parse
from jit.session import DeviceError, DeviceLost, Timeout
from jit.target import OpenCLTarget, target
from refimpl import schemes
from refimpl.importers.torch import capture
from refimpl.plan import Plan

TARGET = cast(OpenCLTarget, target("opencl"))


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plan_of(module: nn.Module, *inputs: np.ndarray, on: str = "opencl") -> Plan:
    graph = capture(module.eval(), tuple(map(torch.from_numpy, inputs)), masks=prune.masks(module))
    return decide(graph, on)


def pruned(module: nn.Module, scheme: schemes.Scheme, keep: float) -> nn.Module:
    names = [n for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    prune.apply(module, dict.fromkeys(names, (scheme, keep)))
    return module


def check(plan: Plan, session: OpenCLSession, *inputs: np.ndarray, bound: float = 1e-5) -> None:
    """Every step equals the reference's within `bound` of the value's maximum, halos are zero."""
    wanted = refimpl.plan.evaluate(plan, *inputs)
    with Executable(build(plan), session) as executable:
        for step in executable.steps(*inputs, poison=True):
            got, place = executable.value(step), plan.places[step]
            scale = max(1.0, float(np.abs(wanted[step]).max()))
            np.testing.assert_allclose(got, wanted[step], rtol=0, atol=bound * scale, err_msg=step)
            assert not executable.memory(step)[place.layout.halo_mask(place.shape)].any(), step


# Channels that no block divides, outputs that no tile divides, one layer of every kind.
LAYERS = {
    "linear": (lambda: nn.Linear(7, 13), (3, 7)),
    "conv1d": (lambda: nn.Conv1d(5, 9, 3, stride=2, padding=2), (2, 5, 11)),
    "conv2d": (lambda: nn.Conv2d(6, 10, 3, padding=1), (1, 6, 7, 9)),
    "conv2d of runs": (lambda: nn.Conv2d(8, 12, 3, stride=2, padding=(0, 1)), (1, 8, 9, 7)),
    "grouped, dilated": (lambda: nn.Conv2d(6, 9, 3, dilation=2, groups=3), (2, 6, 9, 8)),
    "conv3d": (lambda: nn.Conv3d(3, 7, 3, padding=1), (1, 3, 4, 5, 6)),
    "kgs conv2d": (
        lambda: pruned(nn.Sequential(nn.Conv2d(8, 18, 3, padding=1)), schemes.KGS(8, 4), 0.4),
        (1, 8, 6, 7),
    ),
    "kgs conv3d": (
        lambda: pruned(
            nn.Sequential(nn.Conv3d(10, 11, 3, stride=(1, 2, 2))), schemes.KGS(4, 2), 0.3
        ),
        (1, 10, 4, 7, 6),
    ),
    "unstructured": (
        lambda: pruned(nn.Sequential(nn.Conv2d(5, 6, 3)), schemes.Unstructured(), 0.2),
        (1, 5, 6, 6),
    ),
    "everything pruned in a strip": (
        lambda: pruned(nn.Sequential(nn.Conv2d(4, 16, 1)), schemes.Filter(), 0.1),
        (1, 4, 3, 5),
    ),
    "max_pool": (lambda: nn.MaxPool2d(3, 2, padding=1), (2, 5, 7, 8)),
    "max_pool3d": (lambda: nn.MaxPool3d((1, 2, 3), (1, 2, 1)), (1, 6, 3, 5, 7)),
    "avg_pool": (lambda: nn.AvgPool2d(3, 2, padding=1), (1, 5, 8, 7)),
    "avg_pool without padding": (
        lambda: nn.AvgPool1d(3, 2, padding=1, count_include_pad=False),
        (1, 5, 8),
    ),
    "adaptive_avg_pool": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (1, 5, 7, 8)),
    "adaptive_max_pool": (lambda: nn.AdaptiveMaxPool1d(4), (2, 3, 10)),
    "batch_norm": (lambda: nn.BatchNorm2d(5), (2, 5, 3, 4)),
    "softmax": (lambda: nn.Softmax(1), (5, 7)),
    "flatten": (lambda: nn.Flatten(), (2, 5, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_the_reference(name, device):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    check(plan_of(make(), array(*shape)), device, array(*shape))


# The same layers where the interpreter's loops in Python can run them in a moment.
STAGED = {
    "linear": (3, 7),
    "conv1d": (1, 5, 6),
    "conv2d of runs": (1, 8, 5, 3),
    "conv3d": (1, 3, 1, 2, 3),
    "kgs conv3d": (1, 10, 3, 3, 4),
    "everything pruned in a strip": (1, 4, 2, 3),
    "max_pool3d": (1, 6, 2, 3, 3),
    "avg_pool": (1, 5, 4, 3),
    "adaptive_avg_pool": (1, 5, 3, 4),
    "batch_norm": (2, 5, 2, 3),
    "softmax": (2, 3),
    "flatten": (2, 5, 2, 3),
}


@pytest.mark.parametrize("name", STAGED)
def test_every_stage_of_the_grid_schedule_computes_the_layer(name):
    torch.manual_seed(0)
    make, _ = LAYERS[name]
    x = array(*STAGED[name])
    plan = plan_of(make(), x)
    found = differences(plan, refimpl.plan.evaluate(plan, x), x)
    assert max(found.values(), default=0) < 1e-12, found
    for launch in launches(plan, TARGET)[0]:
        for entry in lower(launch.kernel).entries:
            check_program(entry.program)
            assert parse(str(entry.program)) == entry.program


class Activations(nn.Module):
    """Activations of every kind of expression, apart."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.ModuleList(
            [
                nn.ReLU(),
                nn.Hardtanh(-0.7, 1.3),
                nn.LeakyReLU(0.1),
                nn.ELU(0.8),
                nn.Sigmoid(),
                nn.Hardsigmoid(),
                nn.Tanh(),
                nn.SiLU(),
                nn.Hardswish(),
            ]
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(f(x) for f in self.all)


def test_every_activation_and_what_it_does_with_extreme_values(device):
    x = array(1, 7, 3, 5) * 4
    x.reshape(-1)[:9] = [0, -0.0, 1e-30, -1e-30, 88, -88, 105, -105, 3e38]
    plan = plan_of(Activations(), x)
    assert {s.activation[0] for s in plan.steps if s.activation} <= set(ATTRIBUTES)
    wanted = refimpl.plan.evaluate(plan, x)
    # Adding 1/2 to x/6 cancels near x = -3; everything else is right to a few ULPs.
    loose = [f"all_{i}:out" for i, f in enumerate(Activations().all) if "Hards" in str(f)]
    with Executable(build(plan), device) as executable:
        for name, got in zip(plan.outputs, executable(x), strict=True):
            atol = 1e-6 if name in loose else 1e-36
            np.testing.assert_allclose(got, wanted[name], rtol=1e-6, atol=atol, err_msg=name)


class Arithmetic(nn.Module):
    def forward(self, a, b):
        return a + b, a - b, a * b, (a + b).relu()


def test_arithmetic(device):
    a, b = array(2, 6, 5, seed=1), array(2, 6, 5, seed=2)
    check(plan_of(Arithmetic(), a, b), device, a, b, bound=1e-7)


class Small(nn.Module):
    """A residual network with everything between an image and probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.SiLU())
        self.a = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.b = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(12 * 3 * 4, 10), nn.Softmax(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = nn.functional.relu(self.b(self.a(x)) + x)
        return self.head(nn.functional.max_pool2d(x, 2))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return pruned(Small(), schemes.KGS(4, 4), 0.5)


def test_a_network_equals_the_reference_and_torch(small, device):
    x = array(1, 3, 7, 9)
    plan = plan_of(small, x)
    check(plan, device, x)
    with Executable(build(plan), device) as executable:
        (y,) = executable(x)
        np.testing.assert_allclose(y, small(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
        (again,) = executable(x)
        np.testing.assert_array_equal(y, again)


def test_nan_and_infinity_carry_through(device):
    x = array(1, 4, 4, 5)
    x[0, 1, 2, 3], x[0, 2, 0, 0] = np.nan, np.inf
    plan = plan_of(nn.Sequential(nn.MaxPool2d(2, 1), nn.ReLU()), x)
    with Executable(build(plan), device) as executable:
        np.testing.assert_array_equal(
            executable(x)[0], refimpl.plan.evaluate(plan, x)[plan.outputs[0]]
        )


# -- the executable's contract -----------------------------------------------------------------


def test_an_executable_on_opencl_is_like_any_other(small):
    x = array(1, 3, 7, 9)
    plan = plan_of(small, x)
    try:
        executable = open_executable(plan, "opencl:0")
    except DeviceError as error:
        pytest.skip(str(error))
    with executable:
        assert executable.session.info.arch == "opencl"
        executable(x)
        result = executable.run(runs=3, warmup=1)
        assert len(result.nanoseconds) == 3
        assert min(result.nanoseconds) > 0
        profile = executable.profile(x, runs=4, warmup=1)
        assert [step.step for step in profile] == [step.name for step in plan.steps]
        assert all(len(step.nanoseconds) == 4 and step.percentile(50) > 0 for step in profile)
        with pytest.raises(InputError, match=r"input 'x' has shape \(2, 3, 7, 9\)"):
            executable(array(2, 3, 7, 9))
        with pytest.raises(DeviceError, match="cannot count instructions"):
            executable.instructions(x)
    executable.close()
    for use in (executable.feed, executable):
        with pytest.raises(DeviceLost, match="the network was closed"):
            use(x)


def test_a_call_that_takes_too_long_ends_the_session(small):
    x = array(1, 3, 7, 9)
    try:
        executable = open_executable(plan_of(small, x), "opencl")
    except DeviceError as error:
        pytest.skip(str(error))
    with executable:
        executable(x)
        with pytest.raises(Timeout, match="did not return in time"):
            executable.run(runs=100, timeout_s=1e-6)
        with pytest.raises(DeviceLost, match="open the device again"):
            executable(x)


def test_plans_run_only_where_they_were_made_for(small, device):
    x = array(1, 3, 7, 9)
    with pytest.raises(DeviceError, match="the plan is for opencl, host runs"):
        open_executable(plan_of(small, x), "host")
    with pytest.raises(DeviceError, match=r"the plan is for cortex-a76 \(aarch64\), opencl:0 runs"):
        open_executable(plan_of(small, x, on="cortex-a76"), "opencl:0")
    with pytest.raises(DeviceError, match="no guard pages"):
        Executable(build(plan_of(small, x)), device, guard="end")


def test_a_device_with_looser_arithmetic_is_refused_by_what_it_lacks(small, device):
    with open_opencl(None, False) as other:
        other.info = replace(other.info, features=frozenset({"fma", "inf-nan"}))
        with pytest.raises(DeviceError, match="opencl:0 lacks rounded-divide; "):
            Executable(build(plan_of(small, array(1, 3, 7, 9))), other)


def test_devices_are_listed_and_chosen_by_number(device):
    lines = opencl_devices()
    with open_opencl("0", False) as first:
        assert first.info.description == lines[0]
    for wrong in (str(len(lines)), "-1", "x", "\u0663"):
        with pytest.raises(DeviceError, match=f"no device opencl:{wrong}; opencl:0 is "):
            open_device(f"opencl:{wrong}")
    with pytest.raises(DeviceError, match="unknown device"):
        open_device("opencl:")


def test_without_pyopencl_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with pytest.raises(DeviceError, match=r"pip install 'gossamer\[opencl\]'"):
        open_device("opencl")


def test_what_the_compiler_refuses_is_told_with_its_log(device, capfd):
    with pytest.raises(DeviceError, match=r"(?s)cannot compile the kernels.*undeclared_thing"):
        device.build("__kernel void k(__global float *x) { x[0] = undeclared_thing; }")


# -- the emitted text --------------------------------------------------------------------------


def test_no_name_of_a_model_reaches_code(device):
    module = nn.Sequential()
    module.add_module("evil_weight_name", nn.Conv2d(3, 4, 3))
    x = array(1, 3, 5, 5)
    plan = plan_of(module, x)
    artifact = build(plan)
    assert isinstance(artifact, OpenCLArtifact)
    for name in (plan.name, *plan.places, *plan.weights, *plan.constants):
        assert len(name) < 3 or name not in artifact.source


def test_each_kernel_is_written_once_and_keeps_its_rounding(small):
    source = build(plan_of(small, array(1, 3, 7, 9))).source  # type: ignore[union-attr]
    kernels = [line.split("(")[0] for line in source.splitlines() if line.startswith("void ")]
    assert len(kernels) == len(set(kernels)) == source.count("__kernel")
    assert "#pragma OPENCL FP_CONTRACT OFF" in source
    assert not {"native_", "half_", "fast_", "mad("} & set(source)


def test_another_compiler_accepts_the_text(small, tmp_path):
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed")
    modules = [
        (small, array(1, 3, 7, 9)),
        (Activations(), array(1, 7, 3, 5)),
        *((make(), array(*shape)) for make, shape in LAYERS.values()),
    ]
    for i, (module, x) in enumerate(modules):
        artifact = build(plan_of(module, x))
        assert isinstance(artifact, OpenCLArtifact)
        (tmp_path / f"{i}.cl").write_text(artifact.source)
    options = "-cl-std=CL1.2 -Xclang -finclude-default-header -target spir64-unknown-unknown"
    # The address stage may leave a distance that a tile of one row has no use for.
    command = [clang, *options.split(), "-fsyntax-only", "-Wall", "-Werror"]
    command.append("-Wno-unused-variable")
    files = [str(tmp_path / f"{i}.cl") for i in range(len(modules))]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def vector_program(primitive: str, arity: int, lanes: int) -> Program:
    """y[i] = primitive(x0[i], x1[i], ..), a vector per work item."""
    place = (index("i") * lanes + index("v"),)
    operands = [Load(f"x{k}", place) for k in range(arity)]
    body = loop("v", lanes, Store("y", place, call(primitive, *operands)), kind="vector")
    flat = ((index("L"),), (index(1),))
    buffers = [Buffer(f"x{k}", "read", "f32", *flat) for k in range(arity)]
    buffers.append(Buffer("y", "write", "f32", *flat))
    outer = loop("i", index("L") // lanes, body, kind="parallel")
    return Program("rows", (Param("L", 1, multiple=lanes),), tuple(buffers), (outer,))


def run_rows(program: Program, session: OpenCLSession, columns: list[np.ndarray]) -> np.ndarray:
    kernel = session.cl.Kernel(session.build(emit_source([program], TARGET)), "rows")
    held = [session.buffer(x.nbytes) for x in [*columns, columns[0]]]
    for buffer, x in zip(held, columns, strict=False):
        session.write(buffer, x)
    arguments = [part for buffer in held for part in (buffer, np.int32(0))]
    for i, argument in enumerate([*arguments, np.int32(columns[0].size)]):
        kernel.set_arg(i, argument)
    items = work_items(program, {"L": columns[0].size})
    session.call([(kernel, items)], runs=1, warmup=0, count=False, timeout_s=60)
    return np.frombuffer(session.read(held[-1], 0, columns[0].nbytes), np.float32)


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("name", [n for n in PRIMITIVES if n != "widen"])  # it needs a CPU
def test_primitives_stay_within_their_ulps(name, lanes, device):
    row = PRIMITIVES[name]
    random = np.random.default_rng(0)
    size = 16 * 500
    columns = [
        (random.standard_normal(size) * 10 ** random.uniform(-6, 1.5, size)).astype(np.float32)
        for _ in range(row.arity)
    ]
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 200, -200, 1e-20], np.float32)
    for i, column in enumerate(columns):
        column[:100] = special.repeat(10) if i == 0 else np.tile(special, 10)
    got = run_rows(vector_program(name, row.arity, lanes), device, columns).astype(np.float64)
    exact = row.meaning(*(c.astype(np.float64) for c in columns))
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    odd = ~np.isfinite(rounded)
    np.testing.assert_array_equal(got[odd], rounded[odd])
    normal = ~odd & (np.abs(exact) >= np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore"):
        distance = np.abs(got - exact)
    error = distance[normal] / np.spacing(np.abs(rounded[normal]))
    assert error.max() <= max(row.ulp, 0.5), name
    assert distance[~normal & ~odd].max(initial=0) <= np.finfo(np.float32).tiny


@pytest.mark.parametrize("number", [0.1, 1 / 3, 1e-30, 3.4e38, -2.5, 7.0, 16777217.0])
def test_literals_read_back_as_the_same_float(number):
    assert np.float32(literal(number).removesuffix("f")) == np.float32(number)


def test_special_literals():
    assert [literal(float(x)) for x in ("nan", "inf", "-inf")] == ["NAN", "INFINITY", "-INFINITY"]


def test_ranges_are_whole_groups():
    program = vector_program("add", 2, 4)
    assert [work_items(program, {"L": n}) for n in (4, 256, 260)] == [64, 64, 128]
    assert WORK_GROUP == 64


def test_what_cannot_be_emitted_is_refused():
    flat = Buffer("y", "write", "f32", (index("L"),), (index(1),))
    store = Store("y", (index("i"),), Load("y", (index("i"),)))

    def emit(*body, name="k") -> str:
        return emit_source([Program(name, (Param("L"),), (flat,), tuple(body))], TARGET)

    inside = loop("i", "L", loop("k", "L", store, kind="parallel"))
    with pytest.raises(ProgramError, match="a parallel loop is inside something else"):
        emit(inside)
    late = For("i", index(1), index("L"), (store,), "parallel")
    with pytest.raises(ProgramError, match="loop i cannot span a grid"):
        emit(late)
    with pytest.raises(ProgramError, match="cannot have 5 lanes"):
        emit(Registers("acc", (5,)))
    with pytest.raises(ProgramError, match="cannot be a name"):
        emit(store, name="a; b")
