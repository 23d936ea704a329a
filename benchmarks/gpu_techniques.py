"""The expected effect of each technique, written down before it was measured, and the parts that show it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique at 7B. The arithmetic assumes an H200 at half its rated FLOP/s and 0.9 of its rated link speed.

    Attributes:
        used: the part that uses it.
        beside: the part that differs in this technique only; for the prefetch, the most similar part.
        gib: expected change of peak GPU memory, in GiB of tensors.
        time: expected time per token, as a factor.
        because: the arithmetic.
    """

    name: str
    used: str
    beside: str
    gib: float
    time: float
    because: str


TECHNIQUES = (
    Technique(
        "activation_checkpointing: recompute",
        "full-recompute",
        "full",
        -25.5,
        1.31,
        "a row of 4,096 tokens keeps 28.4 GiB (counted by tracing the step), of which 2.9 remain; the layers' 6.5 G "
        "weights are multiplied once more, in addition to three times all 7.1 G",
    ),
    Technique(
        "cpu_offload: optimizer",
        "cpu-master",
        "full-recompute",
        -59.2,
        1.22,
        "7.6 G gradients of 4 bytes and moments of 4 bytes leave the GPU, and 2.5 GiB of other memory of a step; "
        "15 GB of gradients per pass take 0.26 s, hidden behind 0.5 s of products; the host reads and writes 198 GB "
        "per step, which takes 2 s at 100 GB/s in addition to 9 s",
    ),
    Technique(
        "cpu_offload: layers, fetched one ahead",
        "layer-offload",
        "cpu-master",
        -10.9,
        1.0,
        "of 14.2 GiB, embedding, head and three layers remain on the GPU; 13 GB are fetched twice per pass, 0.45 s: "
        "fetched ahead, this is hidden behind 0.5 s of products; fetched on demand, a pass takes 1.9 times as long",
    ),
    Technique(
        "NF4",
        "qlora",
        "lora",
        -9.0,
        1.07,
        "6.5 G weights take 0.516 bytes each instead of 2; each is unpacked three times per pass, 49 GB, which takes "
        "13 ms at 0.8 of the rated bandwidth in addition to 175 ms of products for 2,048 tokens",
    ),
    Technique(
        "8-bit moments",
        "full-8bit",
        "full",
        -10.9,
        1.0,
        "2.03 bytes per parameter instead of 4, except the 0.5 G of the embedding with 8; the optimizer step takes "
        "2 % of the time in either case",
    ),
)
