"""Replies of 50 to 2,000 tokens: continuous batching compared with `generate` in batches of the same width.

    python benchmarks/long_replies.py --data ../shared/data --output build/long_replies

All use the same untrained Qwen2 shape of 37.7 M parameters in float32, the same 64 prompts and one thread. An
untrained model does not end its replies, so each item has a given length, from 50 to 2,000 tokens on a logarithmic
scale.
`generate` gets the items in the same order, and a batch ends with its longest reply. Every measurement runs in a fresh
process; loading is left out. transformers' own continuous batching (`--continuous`) gets the lengths as limits.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from eval_speed import _model, _prompts

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
ITEMS, SHORTEST, LONGEST = 64, 50, 2000


def main() -> None:
    """Measure, print the figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "long_replies")
    parser.add_argument("--width", default="16", help="number of rows in a batch")
    parser.add_argument("--part", default="1", help="divide all lengths by this number")
    parser.add_argument("--continuous", action="store_true", help="measure transformers' continuous batching, too")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    model = _model(options.output, options.data)
    names = [*WORKERS] if options.continuous else ["jmedllm", "generate"]
    rows = {}
    for name in names:
        given = [name, str(model), str(options.data), options.width, options.part]
        done = subprocess.run(
            [sys.executable, HERE, "--worker", *given], check=True, stdout=subprocess.PIPE, text=True
        )
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        identical = sum(a == b for a, b in zip(rows[name]["replies"], rows["jmedllm"]["replies"], strict=True))
        rows[name]["identical"] = identical
        ratio = rows[name]["cpu_s"] / rows["jmedllm"]["cpu_s"]
        print(
            f"{name}: {rows[name]['cpu_s']:.0f} s of CPU time ({ratio:.2f}x), {rows[name]['seconds']:.0f} s, "
            f"{rows[name]['peak_mib']:.0f} MiB, {identical} of {ITEMS} replies as jmedllm's",
            flush=True,
        )
    figures = {name: {key: value for key, value in row.items() if key != "replies"} for name, row in rows.items()}
    result = {"date": date.today().isoformat(), "width": options.width, "part": options.part, **figures}
    (options.output / "long_replies.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def lengths(part: int) -> list[int]:
    """Return the number of tokens of each reply."""
    draw = random.Random(0)
    return [round(SHORTEST * (LONGEST / SHORTEST) ** draw.random()) // part for _ in range(ITEMS)]


def work_jmedllm(model: str, data: str, width: str, part: str) -> Iterator[list[list[int]]]:
    """Continuous batching of jmedllm."""
    from jmedllm.models.backends.base import GenerationConfig, Request
    from jmedllm.models.backends.transformers.model import load_model
    from jmedllm.models.backends.transformers.replies import Decoder, Reply
    from jmedllm.precision import choose_precision

    prompts = _prompts(data, str(ITEMS))
    loaded = load_model(Path(model), choose_precision("float32", "cpu"), batch_size=int(width))
    given = dict(zip(map(tuple, _encoded(loaded.tokenizer, prompts)), lengths(int(part)), strict=True))
    written: dict[tuple[int, ...], list[int]] = {}

    def ends(_: Decoder, reply: Reply) -> bool:
        written[tuple(reply.prompt)] = reply.written
        return len(reply.written) == given[tuple(reply.prompt)]

    Decoder._is_over = ends  # type: ignore[method-assign]
    requests = [Request(str(i), prompt, str(i), generate=True) for i, prompt in enumerate(prompts)]
    yield []
    for _ in loaded.answer(requests, GenerationConfig(LONGEST + 1)):
        pass
    yield [written[prompt] for prompt in given]


def _encoded(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    from jmedllm.models.tokenizer.encoding import encode

    return encode(tokenizer, [prompt.rstrip(" ") for prompt in prompts])


def _network(model: str, data: str) -> tuple[Any, Any, list[list[int]]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    return network, tokenizer, _encoded(tokenizer, _prompts(data, str(ITEMS)))


def work_generate(model: str, data: str, width: str, part: str) -> Iterator[list[list[int]]]:
    """Run `generate` on batches of `width` items, which are sorted by the length of their prompts, as jmedllm does."""
    import torch
    from transformers import StoppingCriteriaList

    network, tokenizer, prompts = _network(model, data)
    wanted, rows = lengths(int(part)), int(width)
    order = sorted(range(ITEMS), key=lambda i: -len(prompts[i]))
    replies: dict[int, list[int]] = {}
    yield []
    for start in range(0, ITEMS, rows):
        batch = order[start : start + rows]
        longest, most = max(len(prompts[i]) for i in batch), [wanted[i] for i in batch]
        ids = [[tokenizer.pad_token_id] * (longest - len(prompts[i])) + prompts[i] for i in batch]
        mask = [[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in batch]

        def are_done(all_ids: Any, _: Any, *, longest: int = longest, most: list[int] = most) -> Any:
            return torch.tensor([all_ids.shape[1] - longest >= length for length in most])

        output = network.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            do_sample=False,
            max_new_tokens=max(most),
            eos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList([are_done]),
        )
        for i, row in zip(batch, output[:, longest:].tolist(), strict=True):
            replies[i] = row[: wanted[i]]
    yield [replies[i] for i in range(ITEMS)]


def work_continuous(model: str, data: str, width: str, part: str) -> Iterator[list[list[int]]]:
    """Continuous batching of transformers, with the length of each item as its limit."""
    import torch
    from transformers import ContinuousBatchingConfig, GenerationConfig

    network, tokenizer, prompts = _network(model, data)
    wanted = lengths(int(part))
    config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=tokenizer.pad_token_id)
    # By itself it takes most of the machine's memory for its cache; this is what the items need.
    pages = int(width) * (LONGEST // int(part) + 1024) // 256
    batching = ContinuousBatchingConfig(max_requests_per_batch=int(width), num_blocks=pages, max_batch_tokens=512)
    replies: dict[str, list[int]] = {}
    yield []
    with (
        torch.no_grad(),  # the manager writes its tensors from a thread of its own
        network.continuous_batching_context_manager(
            generation_config=config, continuous_batching_config=batching
        ) as manager,
    ):
        for i, (prompt, length) in enumerate(zip(prompts, wanted, strict=True)):
            manager.add_request(input_ids=prompt, request_id=str(i), max_new_tokens=length)
        while len(replies) < ITEMS:
            found = manager.get_result(timeout=1)
            if found is not None and found.is_finished():
                replies[found.request_id] = list(found.generated_tokens)
    yield [replies[str(i)] for i in range(ITEMS)]


WORKERS: dict[str, Callable[[str, str, str, str], Iterator[list[list[int]]]]] = {
    "jmedllm": work_jmedllm,
    "generate": work_generate,
    "continuous": work_continuous,
}


def work(name: str, *given: str) -> None:
    """Print the time and the replies of one method, without its start-up."""
    import torch

    torch.set_num_threads(1)
    steps = WORKERS[name](*given)
    next(steps)
    began, cpu = time.perf_counter(), time.process_time()
    replies = next(steps)
    figures = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures | {"peak_mib": peak, "replies": replies}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
