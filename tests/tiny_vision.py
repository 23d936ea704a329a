"""Tiny random vision-language models of real classes, with their real processors and a tiny tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tiny_classes import MROPE, QWEN_VISION, TEXT, VISION

TEXTS = [
    "ビタミンCの欠乏で壊血病になる。胸部エックス線写真を示す。",
    "Lack of vitamin C leads to scurvy. What is shown?",
]
MARKERS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
GEMMA_MARKERS = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]

QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message.role == 'assistant' else 'user' }}\n"
    "{% if message.content is string %}{{ message.content | trim }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<start_of_image>{% else %}{{ part.text | trim }}{% endif %}{% endfor %}{% endif %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def tokenizer_with(markers: list[str], template: str, **named: str) -> Any:
    """A byte-level tokenizer with these special tokens, some of which also have a name."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<bos>", *markers],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named,
        chat_template=template,
    )


def with_visible_weights(network: Any) -> Any:
    """Weights with which every input changes every output."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 1.2 / weight[0].numel() ** 0.5)
    return network


def qwen3_vl(folder: Path) -> Path:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = tokenizer_with(MARKERS, QWEN_TEMPLATE)
    ids = dict(zip(MARKERS, tokenizer.convert_tokens_to_ids(MARKERS), strict=True))
    vision = QWEN_VISION | {"patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2}
    config = Qwen3VLConfig(
        text_config=TEXT | MROPE | {"vocab_size": len(tokenizer), "eos_token_id": ids["<|im_end|>"]},
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    sizes = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    images = Qwen2VLImageProcessorPil(**sizes, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96})
    images.save_pretrained(folder)  # the class of its processor saves only with a video processor, for torchvision
    tokenizer.save_pretrained(folder)
    with_visible_weights(Qwen3VLForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def gemma3(folder: Path) -> Path:
    from tokenizers.processors import TemplateProcessing
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokens = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = tokenizer_with(GEMMA_MARKERS, GEMMA_TEMPLATE, **tokens)
    begin = ("<bos>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[begin])
    ids = dict(zip(GEMMA_MARKERS, tokenizer.convert_tokens_to_ids(GEMMA_MARKERS), strict=True))
    config = Gemma3Config(
        text_config=TEXT
        | {
            "vocab_size": len(tokenizer),
            "sliding_window": 64,
            "query_pre_attn_scalar": 8,
            "eos_token_id": ids["<end_of_turn>"],
            "layer_types": ["sliding_attention", "full_attention"],
        },
        vision_config=VISION | {"model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        image_token_index=ids["<image_soft_token>"],
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
    )
    images = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    config.vision_config.image_size = 56
    Gemma3Processor(images, tokenizer, chat_template=GEMMA_TEMPLATE, image_seq_length=4).save_pretrained(folder)
    with_visible_weights(Gemma3ForConditionalGeneration(config)).save_pretrained(folder)
    return folder


VISION_MODELS: dict[str, Callable[[Path], Path]] = {"qwen3_vl": qwen3_vl, "gemma3": gemma3}


def picture(path: Path, seed: int, size: tuple[int, int] = (80, 48)) -> Path:
    """A picture of random blocks."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (6, 10, 3), generator=generator, dtype=torch.uint8).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)
    return path
