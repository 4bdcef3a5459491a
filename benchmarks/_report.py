"""What every benchmark leaves: a table for people, a CSV for the record, one JSON line for scripts."""

from __future__ import annotations

import csv
import datetime
import io
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import transformers
from rich.console import Console
from rich.table import Table

from fgclip2.commandline import parse
from fgclip2.console import exit_code
from fgclip2.cpu import has_amx, has_bf16
from fgclip2.files import write_atomically

RESULTS = Path(__file__).parent / "results"
_Arguments = TypeVar("_Arguments")


def command(main: Callable[[_Arguments], None], arguments: type[_Arguments]) -> None:
    """Run a benchmark from the command line; an error that the user can mend is one line, and code 2."""
    sys.exit(exit_code(lambda: main(parse(arguments))))


def machine() -> str:
    """The device a figure belongs to, such as ``Intel Xeon, AVX512 with bf16, 2 threads`` or a GPU's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    # Processors of one name differ by a factor in this, and virtual ones often have no more of a name.
    half = " with AMX" if has_amx() else " with bf16" if has_bf16() else ""
    instructions = torch.backends.cpu.get_cpu_capability() + half
    return f"{name}, {instructions}, {torch.get_num_threads()} threads"


def report(
    name: str, rows: Sequence[Mapping[str, object]], figures: Mapping[str, float], case: Sequence[str] = ()
) -> None:
    """Print ``rows`` as a table, write them to ``results/NAME.csv``, and print ``figures`` as the last line, in JSON.

    Args:
        name: of the benchmark.
        rows: at least one; all with the same keys, which are the columns.
        figures: name -> number, the ones a script may watch.
        case: columns that tell cases apart. Rows of the file whose case was not measured this time, or on another
            machine, stay in it, so that cases can be measured one by one; without, the file is written anew.
    """
    where = machine()
    table = Table(title=f"{name} ({where}, torch {torch.__version__})")
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=120).print(table)
    measured = {"machine": where, "torch": torch.__version__, "transformers": transformers.__version__}
    measured["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    found = [{**row, **measured} for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_with_others(RESULTS / f"{name}.csv", found, (*case, "machine") if case else ()))
    write_atomically(RESULTS / f"{name}.csv", text.getvalue().encode())
    print(RESULTS / f"{name}.csv")
    print(json.dumps({"name": name, "figures": dict(figures)}))


def _with_others(file: Path, rows: Sequence[Mapping[str, object]], case: Sequence[str]) -> list[Mapping[str, object]]:
    """``rows``, among the file's rows of other cases; a file with other columns is of another version."""
    cases: dict[tuple[str, ...], Mapping[str, object]] = {}
    if case and file.exists():
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            if reader.fieldnames == list(rows[0]):
                cases = {tuple(row[column] for column in case): row for row in reader}
    if not case:
        return list(rows)
    cases |= {tuple(str(row[column]) for column in case): row for row in rows}
    return list(cases.values())
