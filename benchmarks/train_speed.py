"""Training speed compared with a plain PyTorch loop, transformers' Trainer and TRL's SFTTrainer, as a table.

    python benchmarks/train_speed.py --data ../shared/data --output build/train_speed

All use the same untrained model, texts and settings, and all ratios are from one run: stage 1 on documents, stage 2
(LoRA) on questions with their answers, each in three lengths. On a GPU the model is larger. TRL is installed into an
environment of its own. Every measurement runs in a fresh process and leaves out start-up, loading and the first steps.
A trained token is one whose loss counts.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from train_speed_data import DOCUMENTS, SCALES, Job
from train_speed_loops import LOOPS, WARMUP

TRL = "trl==1.16.0"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def main() -> None:
    """Measure, print the table and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "train_speed")
    parser.add_argument("--steps", type=int, default=20, help=f"timed steps, after {WARMUP} that are not timed")
    parser.add_argument("--tiny", action="store_true", help="try the script: a tiny model, our loop and the plain one")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    # This process stays small: a child's peak memory includes the memory of its parent when it was started.
    machine = _worker(sys.executable, "machine")
    name = "tiny" if options.tiny else "1.5 B" if machine["gpu"] else "38 M"
    scale, folder = SCALES[name], options.output / name.replace(" ", "")
    folder.mkdir(parents=True, exist_ok=True)
    steps = WARMUP + options.steps
    pythons: dict[str, str | None] = {"ours": sys.executable, "bare": sys.executable}
    if not options.tiny:
        peer = _peer_environment(options.output)
        pythons = {loop: peer if loop.startswith("SFT") else sys.executable for loop in LOOPS}
    print(f"{name}, {machine}\n\n{HEAD}", flush=True)
    rows = []
    for stage in (1, 2):
        for texts in DOCUMENTS:
            common = Job("", stage, texts, str(folder), steps, scale.block, scale.rows)
            prepared = _worker(sys.executable, "prepare", name, str(options.data), json.dumps(asdict(common)))
            for loop, python in pythons.items():
                if python is None or (loop, stage) == ("Trainer by length", 1):  # all its rows have one length
                    continue
                job = asdict(common) | {"loop": loop, "examples": prepared["examples"]}
                rows.append({**job, **prepared, **_worker(python, loop, json.dumps(job))})
                print(_line(rows[-1], rows, machine), flush=True)
    unmeasured = [loop for loop, python in pythons.items() if python is None]
    for what in unmeasured if machine["gpu"] else [*unmeasured, "all, 1.5 B on a GPU"]:
        print(f"| | {what} | *not measured* | | | | | | |")
    result = {
        "date": date.today().isoformat(),
        "machine": machine,
        "model": name,
        "gpu": "measured" if machine["gpu"] else "not measured",
        "rows": rows,
    }
    (options.output / "train_speed.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


HEAD = """| stage, texts | loop | trained tokens/s | ours ÷ it | memory | ours ÷ it | waiting | FLOPs | loss |
|---|---|---|---|---|---|---|---|---|"""


def _line(row: dict[str, Any], rows: Sequence[dict[str, Any]], machine: dict[str, Any]) -> str:
    ours = next(r for r in rows if (r["stage"], r["texts"]) == (row["stage"], row["texts"]))
    waiting = f"{row['waiting']:.2%}" if "waiting" in row else ""
    flops = 6 * row["parameters"] * row["read"] / row["seconds"]
    used = f"{flops / machine['flops']:.0%}" if row["stage"] == 1 else ""
    return (
        f"| {row['stage']}, {row['texts']} ({row['mean']:.0f} tokens) | {row['loop']} | {_speed(row):,.0f} | "
        f"{_speed(ours) / _speed(row):.2f}x | {row['peak'] / 2**20:,.0f} MiB | {ours['peak'] / row['peak']:.2f} | "
        f"{waiting} | {used} | {row['loss']:.3f} |"
    )


def _speed(row: dict[str, Any]) -> float:
    """Trained tokens per second. In stage 2 they are the tokens read without padding, times the share of trained
    tokens in all examples: the lengths of a few hundred answers differ so much that they would decide the ratio."""
    trained = row["trained"] if row["stage"] == 1 else row["useful"] * row["share"]
    return float(trained / row["seconds"])


def _peer_environment(folder: Path) -> str | None:
    """Python with TRL; None, with a message, if pip cannot install it."""
    from jmedllm.bundle.constraints import CHECKOUT, read_constraints, write_versions

    programs = folder / "trl" / "bin"
    if not (programs / "trl").exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "trl"], check=True)
        versions = str(write_versions(read_constraints(CHECKOUT), folder / "versions.txt"))
        packages = [TRL, "peft", "torch==2.13.0", "-c", versions]
        if subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", *packages]).returncode:
            print(f"{TRL} could not be installed, so SFTTrainer is not measured", file=sys.stderr)
            return None
    return str(programs / "python")


def _worker(python: str, *arguments: str) -> Any:
    command = [python, str(HERE / "train_speed_loops.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
