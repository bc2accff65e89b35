"""An Explanation as plain data, and as a folder of numbered files."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from gossamer.explain.explanation import ExplainError, Explanation, changes
from gossamer.explain.wording import Verdicts, decision_lines, same, stage_order

_OURS = re.compile(r"\d\d_[a-z0-9_.-]+\.(txt|ll|s)|plan\.txt|trace\.json")


def as_data(found: Sequence[Explanation], verdicts: Verdicts) -> dict[str, Any]:
    """Everything but the code itself, for JSON."""
    return {
        "plan": found[0].plan.name,
        "layer": found[0].step.name,
        "targets": [_target(e, verdicts) for e in found],
    }


def _target(e: Explanation, verdicts: Verdicts) -> dict[str, Any]:
    shown = {v.stage: v for v in verdicts.get(e.target.name, ())}
    stages = []
    for entry, delta in changes(e.trace):
        stages.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "seconds": entry.seconds,
                "changed": entry.changed,
                "added": sum(c.mark == "+" for c in delta),
                "removed": sum(c.mark == "-" for c in delta),
            }
        )
    return {
        "target": e.target.name,
        "schedule": asdict(e.schedule),
        "reason": e.choice.reason,
        "candidates": dict(e.choice.candidates),
        "macs": {"dense": e.step.dense_macs, "kept": e.step.kept_macs, "done": e.stored_macs},
        "kernels": {part.kernel.name: part.share for part in e.parts},
        "stages": stages,
        "emit_seconds": e.seconds[0],
        "codegen_seconds": e.seconds[1],
        "inner_loop": {**asdict(e.loop_counts), "columns": e.columns_per_iteration},
        "verdicts": {
            name: {
                "agrees": v.agrees if v.was_run else None,
                "says": str(v),
                "share_of_bound": v.share if isfinite(v.share) else None,
            }
            for name, v in shown.items()
        },
    }


def dump(found: Sequence[Explanation], verdicts: Verdicts, folder: Path) -> list[Path]:
    """Write every form to `folder`, numbered in order; the files written.

    An earlier dump there is replaced.  The files appear all at once, or not at all.

    Raises:
        ExplainError: the folder holds something else.
    """
    _check_ours(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        new.mkdir()
        for name, text in _files(found, verdicts).items():
            (new / name).write_text(text, encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return sorted(folder.iterdir())


def _check_ours(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ExplainError(f"{folder} is not a folder; name one to dump to, or one to be made")
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file() or not _OURS.fullmatch(path.name):
            raise ExplainError(
                f"{folder} holds {path.name}, which no dump wrote; name an empty or a new folder"
            )


def _files(found: Sequence[Explanation], verdicts: Verdicts) -> dict[str, str]:
    files = {}
    for number, stage in enumerate(stage_order(found)):
        groups = same(found, stage)
        for group in groups:
            targets = "" if len(groups) == 1 else "_" + "_".join(e.target.name for e in group)
            files[f"{number:02}_{stage}{targets}.txt"] = str(group[0].stage(stage).program)
    for e in found:
        files[f"80_llvm_{e.target.name}.ll"] = e.ir
        files[f"90_asm_{e.target.name}.s"] = e.assembly
    files["plan.txt"] = "\n\n".join(_report(e) for e in found) + "\n"
    files["trace.json"] = json.dumps(as_data(found, verdicts), indent=1) + "\n"
    return files


def _report(e: Explanation) -> str:
    lines = [f"{what:<10} {value}" for what, value in decision_lines(e)]
    return "\n".join([str(e.plan).rstrip(), "", *lines])
