"""Weights in 16 bits: what is stored and means, every way to multiply by it, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from block_plans import SCHEDULE, TURNED, WIDE, WIDE_TURNED, cut_in_blocks, gru, linear

import gossamer
import jit.decide
from bench.shape import layer_graph, layer_shape
from conformance.check import check_plan
from conformance.primitives import faults
from gossamer.cli import main
from jit.checker import check as check_program
from jit.decide.halved import halved
from jit.devices import open_device
from jit.executable import open_executable
from jit.host import HostSession
from jit.interpret_plan import differences
from jit.kernels.conv import ConvKernel
from jit.launches import launches
from jit.pipeline import lower
from jit.plan_file import PlanFileError, load_plan, plan_bytes, save_plan
from jit.program_text import parse
from jit.session import DeviceError
from jit.shrink import shrink
from jit.target import host_target, llvm_target, target
from refimpl.graph import Constant
from refimpl.plan import PlanError, check, evaluate
from refimpl.schemes import Dense
from refimpl.tiles import narrowed, unpack

DENSE = layer_graph(layer_shape("linear:37x29,batch=3"), Dense(), 1.0)
GRAPHS = {"dense": DENSE, "pruned": linear(5), "gru": gru(False), "gru, reset first": gru(True)}
CUTS = {"as planned": None, "blocks": SCHEDULE, "turned": TURNED}


def stored_so(graph, name="x86-64-avx2"):
    return jit.decide.plan(graph, name, weights="float16")


def cut(made, schedule):
    """The plan with pruned weights in strips of several tiles."""
    return made if schedule is None else cut_in_blocks(made, schedule)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("how", CUTS)
def test_every_stage_means_the_layer(name, how):
    made = cut(stored_so(GRAPHS[name], "cortex-a76"), CUTS[how])
    x = np.random.default_rng(1).standard_normal(made.places["x"].shape)
    assert max(differences(made, evaluate(made, x), x).values()) < 1e-12
    for launch in launches(made, target(made.target))[0]:
        for entry in lower(launch.kernel).entries:
            check_program(entry.program)
            assert parse(str(entry.program)) == entry.program


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("schedule", [None, WIDE, WIDE_TURNED], ids=["planned", "blocks", "turned"])
def test_code_of_this_host_keeps_the_bound(name, schedule):
    if not host_target().has("f16c"):
        pytest.skip("this CPU cannot widen float16")
    made = cut(stored_so(GRAPHS[name], "host"), schedule)
    x = np.random.default_rng(2).standard_normal(made.places["x"].shape).astype(np.float32)
    for guard in ("start", "end"):
        with open_executable(made, "host", guard=guard) as net:
            assert check_plan(made, net, (x,)).ok


@pytest.mark.parametrize("name", ["dense", "gru"])
def test_code_for_arm_keeps_the_bound(name):
    made = stored_so(GRAPHS[name], "cortex-a76")
    x = np.random.default_rng(2).standard_normal(made.places["x"].shape).astype(np.float32)
    try:
        session = open_device("qemu:cortex-a76")
    except DeviceError as error:
        pytest.skip(str(error))
    session.close()
    with open_executable(made, "qemu:cortex-a76") as net:
        assert check_plan(made, net, (x,)).ok


@pytest.mark.parametrize("name", ["x86-64-avx2", "x86-64-avx512"])
def test_every_float16_is_widened_exactly(name):
    machine = llvm_target(name)
    if not set(machine.features) <= set(host_target().features):
        pytest.skip(f"this CPU cannot run code for {name}")
    with HostSession() as session:
        assert not [fault for fault in faults(session, machine, 2, 16) if "widen" in fault]


def test_weights_are_rounded_once_and_the_plan_says_how_far():
    made, whole = stored_so(DENSE), jit.decide.plan(DENSE, "x86-64-avx2")
    step = next(s for s in made.steps if s.weight)
    kept, before = (unpack(p.weights[step.weight])[0] for p in (made, whole))
    assert np.array_equal(kept, before.astype(np.float16).astype(np.float32))
    assert step.rounding == np.abs(kept - before).max() / np.abs(before).max()
    assert 0 < step.rounding <= 2.0**-11
    assert "float16" in str(made)
    assert f"weights rounded by {step.rounding:.1e} of the largest" in str(made)
    assert "float16" not in str(whole)


def test_half_the_bytes_are_stored(tmp_path):
    made, whole = stored_so(DENSE), jit.decide.plan(DENSE, "x86-64-avx2")
    weight = next(s.weight for s in made.steps if s.weight)
    stored = made.weights[weight].stored
    assert whole.weights[weight].nbytes - made.weights[weight].nbytes == 2 * stored
    assert len(plan_bytes(whole)) - len(plan_bytes(made)) > 1.9 * stored
    save_plan(made, tmp_path / "p.safetensors")
    assert load_plan(tmp_path / "p.safetensors") == made


def test_convolutions_with_positions_stay_in_32_bits():
    conv = layer_graph(layer_shape("conv2d:8x8x3x3@5x5"), Dense(), 1.0)
    with pytest.raises(PlanError, match="none of its layers is linear or recurrent"):
        stored_so(conv)


def test_what_cannot_be_had_is_refused_by_name():
    for name in ("x86-64-sse", "opencl"):
        with pytest.raises(PlanError, match=f"{name} has no instruction that widens float16"):
            stored_so(DENSE, name)
    with pytest.raises(PlanError, match="'int8'; float32 or float16"):
        jit.decide.plan(DENSE, weights="int8")  # type: ignore[arg-type]


def test_weights_beyond_float16_are_refused_by_the_layers_name():
    weight = DENSE.constants["weight"].array.copy()
    weight[3, 4] = -70000
    large = replace(DENSE, constants={**DENSE.constants, "weight": Constant(weight)})
    with pytest.raises(PlanError, match="y: a weight of 70000 is beyond float16"):
        stored_so(large)
    weight[3, 4] = np.inf  # it is what it was
    made = stored_so(replace(large, constants={**large.constants, "weight": Constant(weight)}))
    assert np.isinf(unpack(next(iter(made.weights.values())))[0]).sum() == 1


def test_zeros_and_the_smallest_weights_are_rounded_too():
    tiles = jit.decide.plan(DENSE, "x86-64-sse").weights["y.weight"]
    small, rounding = halved("y", replace(tiles, strips=(tiles.strips[0],)))
    assert small == narrowed(replace(tiles, strips=(tiles.strips[0],)))
    assert rounding > 0
    nothing = narrowed(tiles).strips[0][0]
    empty = replace(nothing, values=np.zeros_like(nothing.values, np.float32))
    assert halved("y", replace(tiles, strips=((empty,),)))[1] == 0


def test_panels_of_16_bit_weights_are_refused(tmp_path):
    rows = layer_graph(layer_shape("linear:64x32,batch=16"), Dense(), 1.0)
    ways = dict(jit.decide.plan(rows, "x86-64-avx2").steps[1].choice.candidates)
    panel = next(name for name in ways if "panel" in name)
    made = jit.decide.plan(rows, "x86-64-avx2", algorithms=(panel,))
    step = next(s for s in made.steps if s.weight)
    wrong = replace(made, weights={step.weight: narrowed(made.weights[step.weight])})
    with pytest.raises(PlanError, match=r"y: weights of \['float16'\]"):
        check(wrong)
    with pytest.raises((PlanError, PlanFileError)):
        save_plan(wrong, tmp_path / "p.safetensors")


def test_the_kernels_say_that_they_widen():
    made = stored_so(layer_graph(layer_shape("linear:64x32"), Dense(), 1.0))
    kernels = [launch.kernel for launch in launches(made, target(made.target))[0]]
    (kernel,) = {k for k in kernels if isinstance(k, ConvKernel)}
    text = str(lower(kernel).program)
    assert kernel.name.startswith("f32_f16_conv")
    assert "values: read(f16," in text
    assert text.count("widen(values[") == 1


def test_a_layer_is_shrunk_with_its_weights_as_they_are_stored():
    made = stored_so(layer_graph(layer_shape("linear:64x32"), Dense(), 1.0))
    (weight,) = shrink(made, "y").weights.values()
    assert weight.dtype == np.float16


def test_the_front_door_and_the_command_line(tmp_path, capsys):
    assert gossamer.plan(DENSE, "cortex-a76", weights="float16").steps
    saved = tmp_path / "p.safetensors"
    gossamer.save(gossamer.plan(DENSE, "cortex-a76"), saved)
    assert main(["plan", str(saved), "--weights", "float16"]) != 0
    assert "is a plan, whose weights are stored as they are" in "".join(capsys.readouterr())
