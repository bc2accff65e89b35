"""`python -m gossamer` is the command `gossamer`."""

from gossamer.cli import main

raise SystemExit(main())
