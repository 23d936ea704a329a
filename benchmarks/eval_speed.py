"""Speed of evaluation compared with lm-eval and with the published code. All ratios are from one run.

    python benchmarks/eval_speed.py --data ../shared/data --output build/eval_speed

All use the same items, prompts and model: an untrained Qwen2 shape of 37.7 M parameters. lm-eval is installed into
an environment of its own. Every measurement runs in a fresh process; "in process" leaves out start-up and loading.
The floor is the time that the arithmetic of the tokens takes at the rate of a matrix product measured here.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

LM_EVAL = "lm-eval[hf]==0.4.13"
HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
SHAPE = {
    "architecture": "qwen2",
    "vocabulary": 8000,
    "hidden_size": 512,
    "layers": 8,
    "feed_forward": 2048,
    "heads": 8,
    "key_value_heads": 8,
    "context": 8192,
}
MODES = {"choice texts": [], "choice texts, three shots": ["--shots"], "labels": ["--answer-as", "letter"]}


def main() -> None:
    """Measure, print the table and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "eval_speed")
    parser.add_argument("--items", type=int, default=190, help="number of items; about 155 have one right answer")
    parser.add_argument("--written", type=int, default=32, help="number of items for the comparison of generation")
    parser.add_argument("--batches", default="1,8,16", help="batch sizes to try lm-eval with")
    options = parser.parse_args()
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    peer = _peer_environment(folder)
    model = _model(folder, options.data)
    shots = _shots(folder, options.data)
    rate = _worker(sys.executable, "rate")["flops"]
    rows = []
    for mode, more in MODES.items():
        arguments = [*more, *([str(shots)] if "--shots" in more else [])]
        tasks = folder / mode.replace(" ", "-").replace(",", "")
        common = ["--benchmark", "igakuqa:ja", "--data", str(options.data), *arguments]
        _jmedllm("export", "lm-eval", *common, "--output", str(tasks), "--limit", str(options.items))
        ours = _ours(model, tasks, "labels" if mode == "labels" else "texts")
        peers = {size: _worker(peer, "lm-eval", str(model), str(tasks), size) for size in options.batches.split(",")}
        best = min(peers, key=lambda size: peers[size]["seconds"])
        floor = ours["tokens"] * 2 * ours["parameters"] / rate
        rows.append(
            {
                "what": mode,
                "items": ours["items"],
                "ours_s": ours["seconds"],
                "lm_eval_s": peers[best]["seconds"],
                "lm_eval_batch": best,
                "in_process": peers[best]["seconds"] / ours["seconds"],
                "whole_process": peers[best]["whole_s"] / ours["whole_s"],
                "over_floor": ours["seconds"] / floor,
                "memory": ours["peak_mib"] / peers[best]["peak_mib"],
                "largest_difference": _difference(ours["log_probs"], peers[best]["log_probs"]),
            }
        )
        print(_line(rows[-1]), flush=True)
    others = [_in_bfloat16(model, folder), _growth(model, options.data, folder)]
    written = _written(model, options.data, options.written)
    for row in [*others, *written]:
        print(row, flush=True)
    result = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {_cores()} cores",
        "gflops": rate / 1e9,
        "scoring": rows,
        "others": others,
        "writing": written,
    }
    (folder / "eval_speed.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _ours(model: Path, tasks: Path, kind: str, precision: str = "float32") -> Any:
    return _worker(sys.executable, "ours", str(model), str(tasks / "jmedllm_igakuqa_ja.jsonl"), kind, precision)


def _in_bfloat16(model: Path, folder: Path) -> dict[str, Any]:
    """Choice texts in bfloat16 compared with float32."""
    plain, brief = (_ours(model, folder / "choice-texts", "texts", name) for name in ("float32", "bfloat16"))
    return {
        "what": "bfloat16",
        "ratio": plain["seconds"] / brief["seconds"],
        "largest_difference": _difference(plain["log_probs"], brief["log_probs"]),
    }


def _growth(model: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Seconds per token on the choice texts of the whole benchmark, compared with the few items above."""
    _jmedllm("export", "lm-eval", "--benchmark", "igakuqa:ja", "--data", str(data), "--output", str(folder / "all"))
    few, many = (_ours(model, folder / name, "texts") for name in ("choice-texts", "all"))
    return {
        "what": "growth",
        "items": [few["items"], many["items"]],
        "seconds": [few["seconds"], many["seconds"]],
        "per_token": many["seconds"] / many["tokens"] / (few["seconds"] / few["tokens"]),
        "peak_mib": [few["peak_mib"], many["peak_mib"]],
    }


def _line(row: dict[str, Any]) -> str:
    return (
        f"| {row['what']} | {row['items']} | {row['ours_s']:.1f} s | {row['lm_eval_s']:.1f} s (batch "
        f"{row['lm_eval_batch']}) | {row['in_process']:.1f}x | {row['whole_process']:.1f}x | "
        f"{row['over_floor']:.2f} | {row['memory']:.2f} | {row['largest_difference']:.1e} |"
    )


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _peer_environment(folder: Path) -> str:
    from jmedllm.bundle.constraints import CHECKOUT, read_constraints, write_versions

    python = folder / "lm-eval" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "lm-eval"], check=True)
        versions = str(write_versions(read_constraints(CHECKOUT), folder / "versions.txt"))
        packages = [LM_EVAL, "torch==2.13.0", "-c", versions]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def _model(folder: Path, data: Path) -> Path:
    from jmedllm.evaluation.benchmarks import load
    from jmedllm.models.random_init import RandomInit, build

    model = folder / "model"
    if not model.exists():
        questions = load("igakuqa", "ja", data)
        texts = ("\n".join((question.stem, *question.choices)) for question in questions)
        build(RandomInit.model_validate(SHAPE), texts, model, seed=0)
    return model


def _shots(folder: Path, data: Path) -> Path:
    """Three solved examples, from the end of the benchmark."""
    from jmedllm.evaluation.benchmarks import load
    from jmedllm.evaluation.question import label
    from jmedllm.evaluation.selection import select

    chosen = [q for q in select(load("igakuqa", "ja", data), "legacy") if len(q.gold) == 1][-3:]
    rows = [
        {
            "id": f"shot {q.id}",
            "language": "ja",
            "question": q.stem,
            "choices": list(q.choices),
            "answer": [label(i) for i in q.gold],
        }
        for q in chosen
    ]
    file = folder / "shots.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def _jmedllm(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "jmedllm", *arguments], check=True, stdout=subprocess.DEVNULL)


def _worker(python: str, *arguments: str) -> Any:
    began = time.perf_counter()
    done = subprocess.run(
        [python, HERE, "--worker", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    whole = time.perf_counter() - began
    measured = json.loads(done.stdout.splitlines()[-1])
    return measured | {"whole_s": whole - measured.get("aside_s", 0.0)}


def _difference(ours: list[list[float]], theirs: list[list[float]]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return max(abs(a - b) for mine, other in pairs for a, b in zip(mine, other, strict=True))


def _written(model: Path, data: Path, items: int) -> list[dict[str, Any]]:
    """Generation compared with one `generate` call per item. The model is untrained, so no answer ends by itself."""
    found = []
    for what, tokens in (("256 tokens each", "256"), ("first lines of at most 16 tokens", "16")):
        ours = _worker(sys.executable, "write", str(model), str(data), str(items), tokens)
        theirs = _worker(sys.executable, "published", str(model), str(data), str(items), "256")
        lines = [text[: len(mine)] == mine for mine, text in zip(ours["texts"], theirs["texts"], strict=True)]
        found.append(
            {
                "what": what,
                "items": items,
                "ours_s": ours["seconds"],
                "published_s": theirs["seconds"],
                "ratio": theirs["seconds"] / ours["seconds"],
                "identical": sum(lines),
            }
        )
    return found


def _print_json(**values: Any) -> None:
    print(json.dumps(values | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def work_rate() -> None:
    """FLOP/s of a matrix product of the model's size."""
    import torch

    left, right = torch.randn(2048, 512), torch.randn(512, 2048)
    for _ in range(20):
        left @ right
    began = time.perf_counter()
    for _ in range(200):
        left @ right
    _print_json(flops=200 * 2 * 2048 * 512 * 2048 / (time.perf_counter() - began))


def work_ours(model: str, file: str, kind: str, precision: str) -> None:
    """Score the exported items."""
    from jmedllm.models.backends.base import ContextLimit, GenerationConfig, Request
    from jmedllm.models.backends.transformers.model import load_model
    from jmedllm.models.backends.transformers.sequences import encode_requests
    from jmedllm.models.backends.transformers.token_tree import Tree
    from jmedllm.precision import choose_precision

    loaded = load_model(Path(model), choose_precision("bfloat16" if precision == "bfloat16" else "float32", "cpu"))
    rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    requests = [
        Request(
            row["id"],
            row["prompt"],
            row["id"],
            choices=() if kind == "labels" else tuple(row["choices"]),
            labels=tuple(row["choices"]) if kind == "labels" else (),
        )
        for row in rows
    ]
    began = time.perf_counter()
    found = dict(loaded.answer(requests, GenerationConfig(1)))
    seconds = time.perf_counter() - began
    began = time.perf_counter()  # the rest is for the comparison, not part of the evaluation
    parameters = sum(p.numel() for p in loaded.network.parameters())
    tree = Tree()
    limits = ContextLimit(loaded.name, loaded.tokenizer, loaded.context)
    for path in encode_requests(requests, GenerationConfig(1), limits)[0]:
        tree.add(path.ids)
    log_probs = _split_as_lm_eval(loaded, requests) if kind == "texts" else _values(found)
    _print_json(
        aside_s=time.perf_counter() - began,
        seconds=seconds,
        items=len(rows),
        tokens=len(tree),
        parameters=parameters,
        log_probs=log_probs,
    )


def _values(found: Any) -> list[list[float]]:
    return [list(found[index].log_probs) for index in range(len(found))]


def _split_as_lm_eval(loaded: Any, requests: Any) -> list[list[float]]:
    """Log-probabilities with the space at the end of a prompt moved to the choice, as lm-eval does."""
    from dataclasses import replace

    from jmedllm.models.backends.base import GenerationConfig

    moved = []
    for request in requests:
        stem = request.prompt.rstrip()
        tail = request.prompt[len(stem) :]
        moved.append(replace(request, prompt=stem, choices=tuple(tail + choice for choice in request.choices)))
    return _values(dict(loaded.answer(moved, GenerationConfig(1))))


def work_lm_eval(model: str, tasks: str, batch: str) -> None:
    """Score the same items with lm-eval's HF backend."""
    import logging

    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.disable(logging.WARNING)
    loaded = HFLM(pretrained=model, batch_size=int(batch), device="cpu", dtype="float32")
    manager = TaskManager(include_path=tasks)
    spent = 0.0
    plain = loaded.loglikelihood

    def timed(requests: Any, **more: Any) -> Any:
        nonlocal spent
        began = time.perf_counter()
        answers = plain(requests, **more)
        spent += time.perf_counter() - began
        return answers

    loaded.loglikelihood = timed
    result = simple_evaluate(
        loaded, tasks=["jmedllm_igakuqa_ja"], task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    samples = sorted(result["samples"]["jmedllm_igakuqa_ja"], key=lambda sample: sample["doc_id"])
    _print_json(seconds=spent, log_probs=[[answer[0] for answer in sample["filtered_resps"]] for sample in samples])


def _prompts(data: str, items: str) -> list[str]:
    from jmedllm.evaluation.evaluate import EvalConfig, tasks
    from jmedllm.evaluation.prompts.format import PromptConfig, ask

    settings = EvalConfig(benchmarks=["igakuqa"], languages=["ja"], scorers=["legacy"], limit=int(items))
    [task] = tasks(settings, PromptConfig(), Path(data))
    return [ask(task.prompt_format, question, str) for question in task.questions]


def work_write(model: str, data: str, items: str, tokens: str) -> None:
    """Generate our completions in batches."""
    from jmedllm.models.backends.base import GenerationConfig, Request
    from jmedllm.models.backends.transformers.model import load_model
    from jmedllm.precision import choose_precision

    loaded = load_model(Path(model), choose_precision("float32", "cpu"))
    requests = [Request(str(i), prompt, str(i), generate=True) for i, prompt in enumerate(_prompts(data, items))]
    began = time.perf_counter()
    found = dict(loaded.answer(requests, GenerationConfig(int(tokens))))
    _print_json(seconds=time.perf_counter() - began, texts=[found[i].completion.text for i in range(len(requests))])


def work_published(model: str, data: str, items: str, tokens: str) -> None:
    """One `generate` call per item, as the published evaluation does."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts = _prompts(data, items)
    began = time.perf_counter()
    texts = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = network.generate(**inputs, do_sample=False, max_new_tokens=int(tokens))
        texts.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    _print_json(seconds=time.perf_counter() - began, texts=texts)


WORKERS = {
    "rate": work_rate,
    "ours": work_ours,
    "lm-eval": work_lm_eval,
    "write": work_write,
    "published": work_published,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        WORKERS[sys.argv[2]](*sys.argv[3:])
    else:
        main()
