"""The one look of this package's tables."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table


def plain_table(title: str, *headings: str, left: int = 1) -> Table:
    """A table without rows: the first `left` columns hold words, the others figures."""
    table = Table(
        title=title or None,
        box=SIMPLE,
        title_justify="left",
        caption_justify="left",
        padding=(0, 1, 0, 0),
        min_width=78,
    )
    for place, heading in enumerate(headings):
        justify = "left" if place < left else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    return table
