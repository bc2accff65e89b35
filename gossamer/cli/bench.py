"""The verb `bench`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from gossamer.cli.models import Shapes, Threads, graph_or_plan, plan_of
from gossamer.cli.output import print_out, show_json, show_line, show_table, working
from gossamer.errors import ModelError
from gossamer.front import compile as load_on
from gossamer.network import Network
from gossamer.profile import HEADINGS
from jit.inputs import random_inputs
from refimpl.plan import Plan


def bench(
    model: str | None = None,
    *,
    layer: str | None = None,
    scheme: str = "dense",
    keep: float = 1.0,
    device: str = "host",
    target: str | None = None,
    runs: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    threads: Threads = None,
    shape: Shapes = None,
    ablate: Annotated[bool, Parameter(negative=())] = False,
    json: bool = False,
) -> int:
    """Time a plan per layer, or a made-up layer against its dense self and the peers here.

    On an emulator, instructions are counted instead: its times mean nothing.

    Example: `gossamer bench net.safetensors --device host`

    Example: `gossamer bench --layer conv3d:256x256x3x3x3@8x28x28 --scheme kgs:8x4 --keep 0.28`

    Example: `gossamer bench --layer conv2d:256x256x3x3@56x56 --scheme kgs:8x4 --keep 0.1 --ablate`

    Parameters
    ----------
    model
        A plan file, or a model as for `gossamer plan`.
    layer
        In place of MODEL: KIND:FILTERSxCHANNELSxKERNEL@INPUT, with random weights.
    scheme
        How the made-up layer is pruned, such as kgs:8x4.
    keep
        The share of its weights that stays.
    device
        host, host-isolated, qemu:CPU, opencl; `gossamer devices` lists them.
    target
        What to compile for where there is no plan yet.
    runs
        Timed runs: 50 of a plan, 15 rounds of a layer and the peers, where not given.
    ablate
        What each optimisation is worth instead: plans with none of them to all, and all but each,
        of a layer (with a ReLU) or of a model, computed directly; on one thread.
    json
        Print JSON.
    """
    if (model is None) == (layer is None):
        raise ModelError("give either a MODEL or a --layer, such as conv2d:64x64x3x3@56x56")
    if layer is not None and shape:
        raise ModelError("--shape is for a MODEL; a --layer says its input's size after the @")
    if layer is not None and threads:
        raise ModelError("--threads is for a MODEL; a --layer is timed on one, as its peers are")
    if ablate:
        options = {"device": device, "target": target, "rounds": runs or 15}
        return _ablate(model, layer, scheme, keep, shape, threads, options, json)
    if layer is not None:
        return _layer(layer, scheme, keep, device, target, runs or 15, json)
    assert model is not None
    plan = plan_of(model, target, shape, threads)
    emulated = device.startswith("qemu")
    with working(f"running on {device}"), load_on(plan, device, counting=emulated) as network:
        inputs = random_inputs(plan)
        if emulated:
            counts = network.instructions(*inputs)
        else:
            profile = network.profile(*inputs, runs=runs or 50)
    if emulated:
        _show_counts(network, counts, json)
    elif json:
        show_json(asdict(profile))
    else:
        show_line(profile.summary)
        show_table(HEADINGS, profile.table, left=2)
    return 0


def _layer(
    layer: str, scheme: str, keep: float, device: str, target: str | None, runs: int, json: bool
) -> int:
    from bench.layer import bench_layer

    with working(f"timing {layer} on {device}"):
        report = bench_layer(layer, scheme, keep, device=device, target=target, rounds=runs)
    if json:
        show_json(report.json())
    else:
        print_out(report.table())
    return 0 if report.correct else 1


def _ablate(
    model: str | None,
    layer: str | None,
    scheme: str,
    keep: float,
    shape: list[str] | None,
    threads: int | None,
    options: dict[str, Any],
    json: bool,
) -> int:
    from bench.ablation import ablate, ablate_layer

    if threads not in (None, 1):
        raise ModelError("--ablate is timed on one thread; leave out --threads")
    if layer is not None:
        with working(f"timing {layer} on {options['device']}"):
            report = ablate_layer(layer, scheme, keep, **options)
    else:
        assert model is not None
        graph = graph_or_plan(model, shape)
        if isinstance(graph, Plan):
            raise ModelError(f"{model} is a plan, which is made already; --ablate takes its model")
        with working(f"timing {model} on {options['device']}"):
            report = ablate(graph, model, **options)
    if json:
        show_json(report.json())
    else:
        print_out(report.table())
    return 0 if report.correct else 1


def _show_counts(network: Network, counts: dict[str, int], json: bool) -> None:
    plan, total = network.plan, sum(counts.values())
    if json:
        show_json({"network": plan.name, "device": network.device, "instructions": counts})
        return
    show_line(f"{plan.name} on {network.device}: {total} instructions")
    rows = []
    for step in plan.steps:
        count = counts[step.name]
        each = f"{count / step.kept_macs:.3f}" if step.kept_macs else ""
        rows.append((step.label, str(count), f"{count / total:.0%}", each, ""))
    show_table(("layer", "instructions", "share", "per MAC", ""), rows)
