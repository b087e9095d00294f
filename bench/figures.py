"""Figures of a run: medians, ratios and the table that is printed. It measures nothing itself."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured series: `value` is its median in `unit`."""

    section: str
    subject: str
    unit: str
    values: tuple[float, ...]
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.values)


def table(figures: list[Figure], ours: str = "fluyt") -> str:
    """A table a section: median, minimum, maximum, count, and each subject as a ratio to the best of ours."""
    lines: list[str] = []
    for section in dict.fromkeys(figure.section for figure in figures):
        rows = [figure for figure in figures if figure.section == section]
        base = next((row.value for row in rows if row.subject.startswith(ours)), None)
        lines.append(f"\n{section} [{rows[0].unit}]")
        lines.append(f"  {'subject':44} {'median':>10} {'min':>10} {'max':>10} {'n':>4} {'/ ours':>8}")
        for row in rows:
            ratio = f"{row.value / base:8.2f}" if base else "       -"
            lines.append(
                f"  {row.subject:44} {row.value:10.3f} {min(row.values):10.3f} {max(row.values):10.3f}"
                f" {len(row.values):4d} {ratio}{'  ' + row.note if row.note else ''}"
            )
    return "\n".join(lines)


def write(figures: list[Figure], path: Path) -> None:
    """One JSON object a line, every single value kept."""
    with path.open("w", encoding="utf-8") as out:
        for figure in figures:
            record = {
                "section": figure.section,
                "subject": figure.subject,
                "unit": figure.unit,
                "median": figure.value,
                "values": figure.values,
                "note": figure.note,
            }
            out.write(json.dumps(record) + "\n")
