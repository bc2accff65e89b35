"""The main job: a network trained on real data, pruned, compiled, checked and measured."""

from gossamer.demo.results import DemoReport, Goal, Row
from gossamer.demo.run import Effort, run_demo

__all__ = ["DemoReport", "Effort", "Goal", "Row", "run_demo"]
