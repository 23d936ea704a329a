"""Measure training and evaluation on a GPU, compared with the aims and with the estimates of `jmedllm plan`.

    python benchmarks/gpu.py run                    # all parts, in one call of less than 10 minutes
    python benchmarks/gpu.py run full cpu-master    # some parts; `ceilings` always runs first
    python benchmarks/gpu.py run --small            # dry run: every part in seconds, also on a CPU
    python benchmarks/gpu.py table                  # update the tables in benchmarks/README.md

The models have 7B and 70B shapes and random weights, so nothing is downloaded. Each part runs in a process of its own.
If a part fails, the failure is recorded and the other parts run. Results are written to DATE-DEVICE.json after each
part; a second call on the same day and device adds to the file.
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
"""No part starts with fewer seconds left, because starting its process takes about as long."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure")
    running.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; default: all")
    running.add_argument("--small", action="store_true", help="dry run on tiny models")
    running.add_argument("--output", type=Path, help=f"default: {RESULTS}; with --small: {DRY}")
    commands.add_parser("table", help="update the tables")
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
    """Measure parts one after another; returns the file of the results.

    Raises:
        InputError: a part is unknown, or the real sizes are measured without a GPU.
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
            found: dict[str, Any] = {"failed": f"not run: the {sizes.seconds} s of this call are used up"}
        else:
            longest = TRAININGS[name].seconds if name in TRAININGS else SECONDS[name]
            found = measure(name, size, min(longest, left))
        found |= derived(found, ceilings["measured"], machine["rated"])
        result["parts"][name] = found | {"commit": commit()}
        print(f"{name}: {found.get('failed') or 'measured'}, {found.get('took', 0):.0f} s", flush=True)
        write_atomic(file, to_json(result, indent=2) + "\n")
    write_atomic(file, to_json(result, indent=2) + "\n")
    print(file)
    return file


def measure(name: str, size: str, seconds: float) -> dict[str, Any]:
    """The results of one part, with `failed` if it ended early, and `took`: its total seconds."""
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "results.jsonl"
        file.touch()
        reason = start(name, size, file, seconds)
        found: dict[str, Any] = {}
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # the last line may be incomplete
                found |= json.loads(line)
    return found | ({"failed": reason} if reason else {}) | {"took": time.monotonic() - began}


def start(name: str, size: str, file: Path, seconds: float) -> str | None:
    """Run a part in a process of its own; returns one line with the reason if it ended early, else None."""
    command = [sys.executable, str(HERE / "gpu_parts.py"), name, size, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}; host memory may have run out"
    if done.returncode:
        return (done.stderr.strip() or "no message").splitlines()[-1]
    return None


def commit() -> str | None:
    """The measured commit, with a + if files differ from it; None outside a repository."""
    answers = [_output("git", "-C", str(HERE), *words) for words in (("rev-parse", "HEAD"), ("status", "-s", "-uno"))]
    return None if answers[0] is None else answers[0][:12] + ("+" if answers[1] else "")


def _driver() -> str | None:
    versions = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return versions.splitlines()[0] if versions else None


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    main()
