"""Divergence of a merged model from the trained model."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import temporary_folder_beside
from jmedllm.models.adapters import quantization_of
from jmedllm.models.folder import require_unambiguous, weight_files
from jmedllm.models.loading import load_adapter, load_from_disk, load_network
from jmedllm.models.memory import free_memory
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.models.weights.quantization import quantization_of as stored_quantization_of
from jmedllm.precision import Precision
from jmedllm.training.batches import without_dropout

TEXTS = (
    "68歳の男性。3日前からの発熱と咳嗽を主訴に来院した。体温38.6℃、脈拍104/分、呼吸数24/分。右下肺野に"
    "coarse cracklesを聴取し、胸部エックス線写真で同部位に浸潤影を認める。市中肺炎と診断し、喀痰のGram染色と"
    "血液培養を行ったうえで抗菌薬の投与を開始した。",
    "A 54-year-old woman comes to the clinic because of increasing thirst and frequent urination for two months. "
    "Her fasting plasma glucose is 162 mg/dL and her hemoglobin A1c is 7.9 %. Metformin is started, and she is "
    "advised to have her eyes and feet examined every year.",
    "利尿薬のうちスピロノラクトンはアルドステロン受容体に拮抗し、カリウムの排泄を抑える。腎機能が低下した患者では"
    "高カリウム血症に注意し、血清カリウム値と心電図を定期的に確認する。",
    "The rotator cuff consists of four muscles that hold the head of the humerus in its socket. A tear of the "
    "supraspinatus tendon is felt as pain when the arm is lifted sideways, and is best seen by ultrasound or MRI.",
)
"""Medical text in both languages, written for this package and part of no corpus."""

_TOKENS = 512
"""Maximum number of tokens compared; their predictions over a vocabulary of 152k take 0.3 GB."""

_LENGTH = 256
"""Maximum number of tokens per text."""

_ROWS = 64


@dataclass(frozen=True, slots=True)
class Divergence:
    """Mean over `tokens` positions of KL(trained || merged) of the next token, in nats."""

    nats: float
    tokens: int

    def record(self) -> dict[str, Any]:
        """Return the values for the model's record file."""
        return asdict(self)


def read_texts(path: Path) -> list[str]:
    """Read the paragraphs of a text file, which blank lines separate.

    Raises:
        InputError: the file is missing, or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}; give a text file in UTF-8") from error
    return [part.strip() for part in text.split("\n\n") if part.strip()]


@torch.no_grad()
def divergence(base: Path, adapter: Path, merged: Path, texts: Sequence[str], precision: Precision) -> Divergence:
    """Compare a merged model with its base and adapter as trained; both compute in `precision`.

    Only one model is in memory at a time. After a 4-bit base, the merged model, which is four times as large, is read
    from disk layer by layer if it does not fit in memory. The merged model is loaded from its directory alone and the
    trained one by peft from base and adapter, so the comparison is independent of the merge.

    Raises:
        InputError: the texts are empty, a model cannot be loaded or its outputs are not finite, or the folder of the
            merged weights contains adapter files, which transformers would apply again.
    """
    require_unambiguous(merged)
    tokenizer = load_tokenizer(base, adapter)
    sequences = _cut(encode(tokenizer, texts))
    if not sequences:
        raise InputError("merge: the text to compare the models on is empty; give another --text")
    quantization = quantization_of(adapter)
    stored = stored_quantization_of(base)
    # An adapter trained on weights that cannot be trained as they are stored was trained on their values.
    is_decoded = stored is not None and not (stored.method and stored.method.trains)
    network = load_network(base, precision.dtype, precision.device, quantization=quantization, dequantize=is_decoded)
    trained = list(_logits(load_adapter(network, adapter, base), sequences, precision.device))
    del network
    gc.collect()
    with temporary_folder_beside(merged.parent / "offload") as offload:
        # Without 4 bits it needs as much memory as its base did; after 4 bits four times as much, which may not be
        # available. Not every architecture can be read from disk, because some layers use weights of others.
        if (quantization == "none" and stored is None) or _fits(merged, precision.device):
            network = load_network(merged, precision.dtype, precision.device)
        else:
            network = load_from_disk(merged, precision.dtype, precision.device, offload)
        total = sum(
            _kl(expected, found)
            for expected, found in zip(trained, _logits(network, sequences, precision.device), strict=True)
        )
    if not isfinite(total):
        is_trained = all(each.isfinite().all() for each in trained)
        whose = "the merged model" if is_trained else f"{base} with {adapter}"
        raise InputError(f"merge: {whose} returns NaN or infinity; check its weights")
    tokens = sum(map(len, sequences))
    return Divergence(round(max(0.0, total / tokens), 9), tokens)  # smaller values are rounding errors


def _fits(folder: Path, device: torch.device) -> bool:
    """Return whether a model fits in memory, even in a dtype twice as wide as in its files."""
    return free_memory(device) > 2 * sum(file.stat().st_size for file in weight_files(folder))


def _cut(encoded: Sequence[Sequence[int]]) -> list[list[int]]:
    room, kept = _TOKENS, []
    for ids in encoded:
        if taken := list(ids[: min(room, _LENGTH)]):
            kept.append(taken)
            room -= len(taken)
    return kept


def _logits(network: Any, sequences: Sequence[Sequence[int]], device: torch.device) -> Iterator[torch.Tensor]:
    without_dropout(network)
    for ids in sequences:
        yield network(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0].float().cpu()


def _kl(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Sum the KL divergence over the rows of two [T, V] logits, in double precision, a few rows at a time."""
    total = 0.0
    for start in range(0, len(expected), _ROWS):
        p = expected[start : start + _ROWS].double().log_softmax(-1)
        q = found[start : start + _ROWS].double().log_softmax(-1)
        total += (p.exp() * (p - q)).sum().item()
    return total
