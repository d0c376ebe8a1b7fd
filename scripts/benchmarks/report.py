"""Rows as people read them: lines on the terminal, tables in Markdown."""

from collections.abc import Iterable, Sequence

from benchmarks.rows import Row

NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
HEAPS = {"stock": "", "keep": ", heap kept"}
WIDTH = 20  # of a column


def heading(row: Row) -> str:
    """Return the lines above the rows of a mode."""
    columns = [f"{row.ours}, {row.unit}", *(f"/ {name}" for name in row.others)]
    left = f"\n{row.mode}{HEAPS[row.heap]}"
    return f"{left:{38}}" + "".join(f"{text:>{WIDTH + 1}}" for text in columns)


def line(row: Row) -> str:
    """Return one row: what ours took, and what that is over what each of the others took."""
    shape = ",".join(map(str, row.shape))
    left = f"{row.cell:4} {shape:16} {threads(row.threads)}"
    columns = [f"{row.median(row.ours):.1f}"]
    for name in row.others:
        found = row.ratio(row.ours, name)
        columns.append(f"{found.median:.2f} [{found.low:.2f} {found.high:.2f}]")
    note = f"  ({row.note})" if row.note else ""
    return f"{left:{37}}" + "".join(f"{text:>{WIDTH + 1}}" for text in columns) + note


def threads(count: int) -> str:
    """Return a number of threads in words."""
    return "1 thread" if count == 1 else f"{count} threads"


def markdown(rows: Iterable[Row]) -> str:
    """Return a table a mode, of medians, rows that differ in their threads in one field.

    Rows that were measured twice stand as they were measured last.
    """
    modes: dict[str, list[Row]] = {}
    for row in rows:
        modes.setdefault(row.mode, []).append(row)
    return "\n\n".join(_table(mode, found) for mode, found in modes.items())


def _table(mode: str, rows: Sequence[Row]) -> str:
    counts = sorted({row.threads for row in rows})
    shapes = sorted({row.shape for row in rows}, key=lambda shape: (shape[-1], shape))
    fields = {}
    for row in rows:
        for name in row.others:
            key = (row.cell, row.ours, name, row.heap)
            median = row.ratio(row.ours, name).median
            fields.setdefault(key, {})[row.shape, row.threads] = f"{median:.2f}"
    many = f", {' / '.join(map(str, counts))} {'thread' if counts == [1] else 'threads'}"
    lines = [_joined([mode + many, *(f"({', '.join(map(str, s))})" for s in shapes)])]
    lines.append(_joined(["---"] * (1 + len(shapes))))
    # In the order of measurement, but for the heaps: they stand below one another.
    order = {key[:3]: place for place, key in reversed(list(enumerate(fields)))}
    for key in sorted(fields, key=lambda key: (order[key[:3]], list(HEAPS).index(key[3]))):
        cell, ours, name, heap = key
        found = fields[key]
        texts = [" / ".join(found.get((s, count), "-") for count in counts) for s in shapes]
        lines.append(_joined([f"{NAMES[cell]}: {ours} / {name}{HEAPS[heap]}", *texts]))
    return "\n".join(lines)


def _joined(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"
