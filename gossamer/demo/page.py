"""The demo's report: one self-contained HTML page, light and dark, without scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from gossamer.demo import words
from gossamer.demo.pictures import clip_picture, mask_pictures
from gossamer.demo.results import DENSE, GOSSAMER, PRUNED, DemoReport, Layer


@dataclass(frozen=True)
class Bar:
    """One bar: which network, how long it is (percent of the longest), what is written at it."""

    network: str
    percent: float
    text: str


@dataclass(frozen=True)
class Bars:
    """The bars of one layer, and its MACs in words."""

    layer: str
    macs: str
    bars: tuple[Bar, ...]


def html_page(report: DemoReport, command: str) -> str:
    """The page.

    Args:
        report: what was measured.
        command: the line that was typed; the page shows it.
    """
    source = (resources.files("gossamer.demo") / "report.html.j2").read_text()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    rows = {
        network: [row for row in report.rows if row.network == network]
        for network in (DENSE, PRUNED)
    }
    pictures = mask_pictures(report.masks)
    return environment.from_string(source).render(
        report=report,
        command=command,
        words=words,
        figures=_figures(report),
        rows=rows,
        times=_chart(report.layers, lambda layer: layer.microseconds, _microseconds),
        counts=_chart(report.layers, lambda layer: layer.instructions, _count),
        pictures=pictures,
        widest=max((picture.width for picture in pictures), default=1),
        guesses=[(guess, clip_picture(guess.frames)) for guess in report.guesses],
    )


def _figures(report: DemoReport) -> list[tuple[str, str]]:
    """The few numbers that stand out: (number, what it is)."""
    dense, pruned = (report.row(network, GOSSAMER) for network in (DENSE, PRUNED))
    points = 100 * (pruned.accuracy - dense.accuracy)
    figures = [
        (f"{dense.macs / pruned.macs:.2f}×", "fewer multiply-accumulates"),
        (f"{dense.weight_bytes / pruned.weight_bytes:.2f}×", "fewer bytes of weights"),
        (f"{points:+.1f}".replace("-", "−"), "points of accuracy"),
    ]
    if report.speedup is not None:
        figures.insert(0, (f"{report.speedup:.2f}×", "faster on this machine"))
    counted = {row.network: row.instructions for row in report.rows if row.instructions}
    if len(counted) == 2:
        fewer = f"{counted[DENSE] / counted[PRUNED]:.2f}×"
        figures.insert(1, (fewer, "fewer guest instructions on aarch64"))
    return figures


def _chart(
    layers: tuple[Layer, ...],
    cost: Callable[[Layer], Mapping[str, float]],
    written: Callable[[float], str],
) -> list[Bars]:
    """Bars for every layer that has costs; all bars are relative to the longest one."""
    longest = max((value for layer in layers for value in cost(layer).values()), default=0) or 1
    return [
        Bars(
            layer.name,
            _macs(layer),
            tuple(
                Bar(network, 100 * value / longest, written(value))
                for network, value in cost(layer).items()
            ),
        )
        for layer in layers
        if cost(layer)
    ]


def _macs(layer: Layer) -> str:
    if not layer.dense_macs:
        return ""
    if layer.kept_macs == layer.dense_macs:
        return f"{_count(layer.dense_macs)} MACs in both"
    return f"{_count(layer.kept_macs)} of {_count(layer.dense_macs)} MACs"


def _microseconds(time: float) -> str:
    return f"{time:,.0f} µs" if time >= 10 else f"{time:.1f} µs"


def _count(number: float) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number:,.0f}"
