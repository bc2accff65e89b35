"""How the demo's numbers are written, in the terminal and on the page alike."""

from __future__ import annotations

import re

from gossamer.demo.results import DENSE, GOSSAMER, PRUNED, DemoReport, Row

NONE = "–"


def headline(report: DemoReport) -> str:
    """What came out, in one sentence."""
    dense, pruned = (report.row(network, GOSSAMER) for network in (DENSE, PRUNED))
    fewer = f"{dense.macs / pruned.macs:.1f} times fewer multiply-accumulates"
    if report.faults:
        return f"Some layers are wrong; no other number counts. The pruned network has {fewer}."
    names = (
        f"names the motion in {pruned.accuracy:.1%} of unseen clips (dense: {dense.accuracy:.1%})"
    )
    if report.speedup is None:
        return f"With {fewer}, the pruned network {names}."
    return f"With {fewer}, the pruned network runs {report.speedup:.1f} times faster and {names}."


def network_name(report: DemoReport, network: str) -> str:
    """Such as `pruned KGS(32,4)`."""
    if network == DENSE:
        return network
    family, _, numbers = report.scheme.partition("(")
    return f"{PRUNED} {family.upper()}({re.sub('[a-z]+=', '', numbers)}"


def place(row: Row) -> str:
    """Who runs it, where."""
    where = "aarch64 (QEMU)" if row.device.startswith("qemu") else row.device
    return f"{row.engine}, {where}"


def accuracy(row: Row) -> str:
    """The share that is right; of few clips, how many of them."""
    return f"{row.accuracy:.1%}" if row.clips >= 100 else f"{row.right} of {row.clips}"


def mega(count: int) -> str:
    """Millions."""
    return f"{count / 1e6:.1f} M"


def weights(row: Row) -> str:
    """Megabytes, of 10^6 bytes."""
    return f"{row.weight_bytes / 1e6:.2f}"


def latency(row: Row) -> str:
    """Median and spread, in milliseconds."""
    if row.latency_ms is None:
        return NONE
    low, middle, high = row.latency_ms
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def instructions(row: Row) -> str:
    """Guest instructions."""
    return NONE if row.instructions is None else mega(row.instructions)


def share(row: Row) -> str:
    """Of the error bound."""
    return NONE if row.bound_share is None else f"{row.bound_share:.1%}"
