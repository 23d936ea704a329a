"""Time and memory of the corpus stage, from files to packed blocks, at 1, 4 and 16 times the size.

    python benchmarks/corpus.py --data ../shared/data --output build/corpus-speed --processes 2

A fifth of the letters of each copy is replaced, so that it is no duplicate. Each size runs in its own process with its
workers. Memory is the sum of their unshared memory, sampled ten times a second.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

SIZES = (1, 4, 16)
_LETTERS = re.compile(r"[a-z\u3041-\u3096\u4e00-\u9fff]")


def altered(text: str, copy: int) -> str:
    """The text with a fifth of its letters replaced: the same length, but not similar."""
    if copy == 0:
        return text
    draw = random.Random(f"{copy} {text[:100]} {len(text)}")
    letters = _LETTERS.findall(text) or ["x"]
    return "".join(draw.choice(letters) if sign.isalpha() and draw.random() < 0.2 else sign for sign in text)


def write_copies(corpus: Path, folder: Path, size: int) -> int:
    """Write `size` copies of all files; returns their bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    for copy in range(size):
        for file in sorted(path for path in corpus.rglob("*") if path.suffix in (".jsonl", ".md")):
            target = folder / str(copy) / file.relative_to(corpus)
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as output:
                if file.suffix == ".md":
                    output.write(altered(lines.read(), copy))
                    continue
                for line in lines:
                    row = json.loads(line)
                    output.write(json.dumps(row | {"text": altered(row["text"], copy)}, ensure_ascii=False) + "\n")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run_pipeline(raw: Path, data: Path, output: Path, processes: int) -> None:
    """Run the corpus stage of a recipe whose base model has the tokenizer of Qwen2."""
    from transformers import PreTrainedTokenizerFast

    from jmedllm.models.random_init import RandomInit, build_around
    from jmedllm.pipeline import run_pipeline as run_stages
    from jmedllm.precision import choose_precision
    from jmedllm.recipe import Recipe
    from jmedllm.stages import STAGES
    from jmedllm.stages.stage import Run

    tokenizer = PreTrainedTokenizerFast.from_pretrained(data / "tokenizers" / "qwen2", eos_token="<|endoftext|>")
    tokenizer.pad_token = tokenizer.eos_token
    shape = RandomInit(hidden_size=16, layers=1, feed_forward=16, heads=1, key_value_heads=1)
    build_around(tokenizer, shape, output / "base-model", seed=0)
    recipe = Recipe.model_validate(
        {
            "name": "speed",
            "data": str(data),
            "threads": processes,
            "base": {"path": str(output / "base-model")},
            "corpus": {"inputs": [str(raw)], "block_size": 2048},
        }
    )
    began, before = time.perf_counter(), cpu_seconds()
    run = Run(recipe, output / "run", choose_precision("auto", "cpu", processes), {})
    run_stages(STAGES.values(), run, "corpus", lambda stage, measured: None)
    outputs = run.outputs["corpus"].to_dict() | {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - before}
    print(json.dumps({name: outputs[name] for name in ("documents", "tokens", "seconds", "cpu")}))


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(arguments: list[str]) -> tuple[dict[str, float], float]:
    """Run this script in another process; returns its result and the peak memory in MiB of it and its workers."""
    with subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True) as process:
        watched, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            used = 0
            for each in [watched, *watched.children(recursive=True)]:
                try:
                    used += each.memory_full_info().uss
                except psutil.Error:
                    continue
            peak = max(peak, used)
            time.sleep(0.1)
        measured = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(measured.splitlines()[-1]), peak / 2**20


def main() -> None:
    """Measure all sizes, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("build/corpus-speed"))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run_pipeline(options.only, options.data, options.output, options.processes)
        return
    print("| size | megabytes | documents | tokens | seconds | CPU seconds | CPU s/MB | peak MiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for size in SIZES:
        raw, output = options.output / "raw", options.output / "made"
        megabytes = write_copies(options.data / "corpus", raw, size) / 1e6
        shutil.rmtree(output, ignore_errors=True)
        arguments = ["--only", raw, "--data", options.data, "--output", output, "--processes", options.processes]
        found, peak = measure(list(map(str, arguments)))
        print(
            f"| {size}x | {megabytes:.1f} | {found['documents']:,} | {found['tokens']:,} | {found['seconds']:.0f} "
            f"| {found['cpu']:.0f} | {found['cpu'] / megabytes:.2f} | {peak:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
