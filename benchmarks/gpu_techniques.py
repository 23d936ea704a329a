"""What each technique was expected to bring, written down before it was measured, and the parts that show it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique at 7B, by arithmetic for an H200 that reaches half of its rated products and 0.9 of its link.

    Attributes:
        used: the part that uses it.
        beside: the part that differs from it in this alone, or, of the prefetch, in the least.
        gib: expected change of the GPU's peak, in GiB of tensors.
        time: expected time of a token, as a multiple.
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
        "of 28.4 GiB that a row of 4,096 keeps (counted by tracing the step) 2.9 stay; the layers' 6.5 G weights "
        "are multiplied once more, beside three times all 7.1 G",
    ),
    Technique(
        "gradients streamed to the host and stepped there",
        "cpu-master",
        "full-recompute",
        -59.2,
        1.22,
        "7.6 G gradients of 4 bytes and moments of 4 leave the GPU, and 2.5 GiB of what a step takes beside; "
        "15 GB of gradients a pass take 0.26 s, hidden behind 0.5 s of products; the host reads and writes 198 GB "
        "a step, at 100 GB/s 2 s beside 9 s",
    ),
    Technique(
        "layers fetched one ahead",
        "streaming",
        "cpu-master",
        -10.9,
        1.0,
        "of 14.2 GiB embedding, head and three layers stay; 13 GB are fetched twice a pass, 0.45 s: fetched ahead "
        "they hide behind 0.5 s of products, fetched when needed they would make it 1.9 times as long",
    ),
    Technique(
        "NF4",
        "qlora",
        "lora",
        -9.0,
        1.07,
        "6.5 G weights take 0.516 bytes, not 2; each is unpacked three times a pass, 49 GB, at 0.8 of the rated "
        "bandwidth 13 ms beside 175 ms of products for 2,048 tokens",
    ),
    Technique(
        "moments in 8 bits",
        "full-8bit",
        "full",
        -10.9,
        1.0,
        "2.03 bytes a parameter, not 4, but for the embedding's 0.5 G with 8; a step is 2 % of the time in either",
    ),
)
