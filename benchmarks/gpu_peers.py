"""Other tools that train the same models on the same rows, if their packages are installed.

The packages may be in a folder on PYTHONPATH that is called site-packages (datasets pickles everything else).
Missing packages are named, and the part is recorded as not installed.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gpu_meter import cap, device, now, peaks, reset_peaks
from gpu_models import config, random_network, random_nf4_network, word_tokenizer
from gpu_sizes import TRAININGS, Sizes
from gpu_training import RATE, WARMUP, packed, speed

from jmedllm.errors import InputError
from jmedllm.training.batches import micro_batches
from jmedllm.training.memory import apply_activation_checkpointing


def require(*packages: str) -> None:
    """Require that packages are installed.

    Raises:
        InputError: some are missing; they are named.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"not installed: {' and '.join(missing)}")


def train_by_trl(name: str, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The part "qlora" with TRL's SFTTrainer, and with liger-kernel on a GPU.

    Raises:
        InputError: the packages are not installed.
    """
    on_gpu = torch.cuda.is_available()
    require("trl", "datasets", "bitsandbytes", *(["liger_kernel"] if on_gpu else []))
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    part = TRAININGS["qlora"]
    cap(part.cap)
    network = random_nf4_network(config(sizes.models[part.model]), device())
    rows, block, lora = sizes.rows_of(part), sizes.block[part.stage], part.settings["adapter"]
    blocks = packed(sizes, part.stage, rows, network.config.vocab_size)
    marks: list[float] = []

    class Ends(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(now())

    trainer = SFTTrainer(
        network,
        SFTConfig(
            output_dir="build/peer",
            max_steps=1 + sizes.steps,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=rows,
            learning_rate=RATE,
            max_length=block,
            packing=True,
            packing_strategy="bfd_split",
            gradient_checkpointing=True,
            bf16=True,
            use_cpu=not on_gpu,
            use_liger_kernel=on_gpu,
            dataloader_pin_memory=on_gpu,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in _documents(blocks, 2 + sizes.steps)]),
        processing_class=word_tokenizer(network.config.vocab_size),
        peft_config=LoraConfig(
            r=lora["r"], lora_alpha=lora["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.add_callback(Ends())
    reset_peaks()
    trainer.train()
    seconds = [end - start for start, end in pairwise(marks)]
    yield {"measured": {**peaks(), **speed(blocks, seconds)}}


def _documents(blocks: Any, times: int) -> Iterator[list[int]]:
    """The documents of the rows, repeated `times` times, as lists of ids."""
    for _ in range(times):
        for ids, positions in zip(blocks.ids, blocks.positions, strict=True):
            starts = [int(i) for i in (positions == 0).nonzero()[0]]
            for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
                yield ids[start:end].tolist()


def train_with_paged_moments(name: str, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The part "cpu-master" with bitsandbytes' paged 8-bit AdamW, and with weights and gradients in bfloat16.

    Its steps round to nearest and lose most small updates. Weights and gradients alone take more than 24 GiB, so
    memory is not limited. The moments are in memory that CUDA may move to the host. A larger GPU need not move them,
    which favours this peer.

    Raises:
        InputError: bitsandbytes is not installed, or the moments are more than the GPU has free.
    """
    require("bitsandbytes")
    import bitsandbytes

    part = TRAININGS["cpu-master"]
    cap(None)
    network = random_network(config(sizes.models[part.model]), device(), device())
    _require_room(2.1 * sum(p.numel() for p in network.parameters()))
    blocks = packed(sizes, part.stage, sizes.rows_of(part), network.config.vocab_size)
    apply_activation_checkpointing(network, "recompute")
    network.train()
    reset_peaks()
    optimizer = bitsandbytes.optim.PagedAdamW8bit(network.parameters(), lr=RATE)

    def step(rows: int) -> None:
        for ids, positions, _ in micro_batches(blocks, np.arange(rows), 1, device()):
            output = network(input_ids=ids, position_ids=positions, labels=ids, use_cache=False)
            (output.loss / rows).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step(min(WARMUP, len(blocks)))
    seconds = []
    for _ in range(sizes.steps):
        began = now()
        step(len(blocks))
        seconds.append(now() - began)
    moments = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    yield {"measured": {**peaks(), **speed(blocks, seconds), "paged": sum(value.nbytes for value in moments)}}


def _require_room(wanted: float) -> None:
    """More managed memory than the free memory of a GPU can hang it."""
    if torch.cuda.is_available() and wanted > torch.cuda.mem_get_info()[0]:
        raise InputError("not run: the paged moments are more than this GPU has free")
