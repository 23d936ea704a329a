"""What training and the exam take on a GPU, beside what was aimed for and what the plan had said.

    python benchmarks/gpu.py run                    # all parts, in one call of under 10 minutes
    python benchmarks/gpu.py run full cpu-master    # some; `ceilings` always comes first
    python benchmarks/gpu.py run --small            # the dry mode: every part in seconds, on a CPU too
    python benchmarks/gpu.py table                  # draw the tables in benchmarks/README.md anew

Models of 7B and 70B shapes with random weights, so that nothing is downloaded. Each part is a process of its own
with an allocator of its own; one that fails is told as such, and the others go on. Results are written after each
part to DATE-DEVICE.json; a second call on the same day and device adds to it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gpu_derived import derived
from gpu_sizes import PARTS, REAL, SECONDS, SMALL, TRAININGS
from gpu_table import draw, newest

from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
README = HERE / "README.md"
DRY = HERE.parent / "build" / "gpu"

SHORTEST = 15
"""Seconds under which no part is begun: its process would hardly have started."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure")
    running.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    running.add_argument("--small", action="store_true", help="tiny models: does every line run?")
    running.add_argument("--output", type=Path, help=f"default: {RESULTS}; with --small: {DRY}")
    commands.add_parser("table", help="draw the tables")
    options = parser.parse_args(arguments)
    try:
        if options.command == "table":
            write_atomic(README, draw(README.read_text(encoding="utf-8"), newest(RESULTS)))
        else:
            size = "small" if options.small else "real"
            run(options.parts or PARTS, size, options.output or (DRY if options.small else RESULTS))
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def run(parts: Sequence[str], size: str, output: Path) -> Path:
    """Measure parts one after another; returns the file with the results.

    Raises:
        InputError: a part is not known, or the machine has no GPU for the real sizes.
    """
    if unknown := [name for name in parts if name not in PARTS]:
        raise InputError(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    sizes = {"real": REAL, "small": SMALL}[size]
    ends = time.monotonic() + sizes.seconds
    ceilings = measure("ceilings", size, SECONDS["ceilings"])
    if "measured" not in ceilings:
        raise InputError(ceilings["failed"])
    machine = ceilings.pop("machine")
    day, device = date.today().isoformat(), "-".join(machine["device"].lower().split())
    file = output / f"{day}-{device}{'-small' if sizes is SMALL else ''}.json"
    result = read_json(file) if file.exists() else {"parts": {}}
    result |= {"date": day, "size": size, "driver": _driver(), "commit": commit(), **machine}
    result["parts"]["ceilings"] = ceilings | {"commit": commit()}
    for name in [name for name in PARTS if name in parts and name != "ceilings"]:
        left = ends - time.monotonic()
        if left < SHORTEST:
            told: dict[str, Any] = {"failed": f"not run: the {sizes.seconds} s of this call were used up"}
        else:
            longest = TRAININGS[name].seconds if name in TRAININGS else SECONDS[name]
            told = measure(name, size, min(longest, left))
        told |= derived(told, ceilings["measured"], machine["rated"])
        result["parts"][name] = told | {"commit": commit()}
        print(f"{name}: {told.get('failed') or 'measured'}, {told.get('took', 0):.0f} s", flush=True)
        write_atomic(file, to_json(result, indent=2) + "\n")
    write_atomic(file, to_json(result, indent=2) + "\n")
    print(file)
    return file


def measure(name: str, size: str, seconds: float) -> dict[str, Any]:
    """What a process tells of a part, with `failed` where it ended early, and `took`: its seconds in all."""
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "told.jsonl"
        file.touch()
        reason = start(name, size, file, seconds)
        told: dict[str, Any] = {}
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be cut off
                told |= json.loads(line)
    return told | ({"failed": reason} if reason else {}) | {"took": time.monotonic() - began}


def start(name: str, size: str, file: Path, seconds: float) -> str | None:
    """Do a part in a process of its own; returns in one line why it ended early, None where it did not."""
    command = [sys.executable, str(HERE / "gpu_parts.py"), name, size, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}; did host memory run out?"
    if done.returncode:
        return (done.stderr.strip() or "no message").splitlines()[-1]
    return None


def commit() -> str | None:
    """The commit that is measured, with a + where files differ from it; None outside a repository."""
    told = [_output("git", "-C", str(HERE), *words) for words in (("rev-parse", "HEAD"), ("status", "-s", "-uno"))]
    return None if told[0] is None else told[0][:12] + ("+" if told[1] else "")


def _driver() -> str | None:
    told = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return told.splitlines()[0] if told else None


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    main()
