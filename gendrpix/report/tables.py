"""Tables as text and Markdown, and figures as readers see them."""

from __future__ import annotations

from dataclasses import dataclass

DASH = "–"
"""What stands where there is no figure; the notes say why."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts, and notes in sentences to be read below it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """A Markdown table, the first column to the left and the others to the right, without the notes."""
        rule = ("---",) + ("---:",) * (len(self.header) - 1)
        lines = (self.header, rule, *self.rows)
        return "\n".join(f"| {' | '.join(cell.replace('*', chr(92) + '*') for cell in line)} |" for line in lines)

    def to_text(self) -> str:
        """Columns aligned with spaces, for a terminal, the notes below."""
        lines = (self.header, *self.rows)
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        text = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*text, *(["", *self.notes] if self.notes else [])])


def format_seconds(seconds: float) -> str:
    """About three significant digits: "8.71 ms", "1.23 s", "45.6 s"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"


def format_bytes(count: int) -> str:
    """Decimal megabytes or gigabytes."""
    return f"{count / 1e9:.2f} GB" if count >= 999.5e6 else f"{count / 1e6:.0f} MB"
