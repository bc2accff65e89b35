"""The command line: one file per verb, imported only when that verb is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (sys.argv's by default); the exit code."""
    try:
        # Importing takes long enough for a Ctrl-C to fall into it.
        from gossamer.cli.app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("gossamer: interrupted", file=sys.stderr)
        return 130
