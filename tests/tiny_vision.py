"""Tiny random vision-language models of real classes, with their real processors and a tiny tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tiny_classes import DELTA, EXPERTS, GEMMA4, MROPE, QWEN_VISION, SHARED, TEXT, VISION

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


def family(kind: str, patch_size: int, text: dict[str, Any]) -> Callable[[Path], Path]:
    """A model of a class of the Qwen-VL family with the processor files of its repository."""

    def build(folder: Path) -> Path:
        import transformers
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        network = getattr(transformers, kind)
        tokenizer = tokenizer_with(MARKERS, QWEN_TEMPLATE)
        ids = dict(zip(MARKERS, tokenizer.convert_tokens_to_ids(MARKERS), strict=True))
        sizes = {"patch_size": patch_size, "temporal_patch_size": 2}
        own = {"vocab_size": len(tokenizer), "eos_token_id": ids["<|im_end|>"], "bos_token_id": 1, "pad_token_id": 0}
        config = network.config_class(
            text_config=TEXT | text | own,
            vision_config=QWEN_VISION | sizes | {"spatial_merge_size": 2},
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
        # The class of its processor saves only with a video processor, which needs torchvision.
        limits = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
        Qwen2VLImageProcessorPil(**sizes, merge_size=2, size=limits).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with_visible_weights(network(config)).save_pretrained(folder)
        return folder

    return build


def llava(folder: Path) -> Path:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    template = QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")
    tokenizer = tokenizer_with([*MARKERS[:2], "<image>"], template, image_token="<image>")
    config = LlavaConfig(
        vision_config=VISION | {"model_type": "clip_vision_model", "num_hidden_layers": 2},
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokenizer), "eos_token_id": 0},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    strategy: dict[str, Any] = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    LlavaProcessor(images, tokenizer, patch_size=14, chat_template=template, **strategy).save_pretrained(folder)
    with_visible_weights(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def gemma4(folder: Path) -> Path:
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    named = {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "video_token": "<|video|>",
        "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
    }  # fmt: skip
    template = GEMMA_TEMPLATE.replace("<start_of_image>", "<|image|>")
    tokenizer = tokenizer_with([*GEMMA_MARKERS[:2], *named.values()], template, **named)
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    vision = {"model_type": "gemma4_vision", "head_dim": 16, "num_key_value_heads": 2, "global_head_dim": 16}
    words = {"vocab_size": len(tokenizer), "vocab_size_per_layer_input": len(tokenizer)}
    layers = {"layer_types": ["sliding_attention", "full_attention"], "eos_token_id": 0}
    config = Gemma4Config(
        text_config=TEXT | GEMMA4 | words | layers,
        vision_config=VISION | vision,
        audio_config=None,
        **{name: ids[name] for name in ids if name not in ("boa_token_id", "eoa_token_id")},
    )
    Gemma4ImageProcessorPil(patch_size=14, max_soft_tokens=70).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"processor_class": "Gemma4Processor", "image_seq_length": 70}')
    with_visible_weights(Gemma4ForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def internvl(folder: Path) -> Path:
    from transformers import InternVLConfig, InternVLForConditionalGeneration
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    named = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    template = QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
    tokenizer = tokenizer_with([*MARKERS[:2], *named.values()], template, **named)
    tower = {"model_type": "internvl_vision", "image_size": [28, 28], "patch_size": [14, 14]}
    config = InternVLConfig(
        vision_config=VISION | tower,
        text_config=TEXT | {"model_type": "qwen2", "vocab_size": len(tokenizer), "eos_token_id": 0},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        downsample_ratio=0.5,
    )
    patches: dict[str, Any] = {"crop_to_patches": True, "min_patches": 1, "max_patches": 2}
    GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, **patches).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"processor_class": "InternVLProcessor", "image_seq_length": 1}')
    with_visible_weights(InternVLForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def idefics3(folder: Path) -> Path:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    template = QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")
    named = {
        "image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
    }  # fmt: skip
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = tokenizer_with([*MARKERS[:2], *named.values(), *places], template, **named)
    config = Idefics3Config(
        vision_config=VISION | {"image_size": 56},
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokenizer), "eos_token_id": 0, "pad_token_id": 0},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template).save_pretrained(folder)
    with_visible_weights(Idefics3ForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def mllama(folder: Path) -> Path:
    from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    template = QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image|>")
    tokenizer = tokenizer_with([*MARKERS[:2], "<|image|>"], template, image_token="<|image|>")
    words = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    layers = {"num_hidden_layers": 2, "num_global_layers": 1, "intermediate_layers_indices": [0]}
    tiles = {"max_num_tiles": 2, "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]], "vision_output_dim": 64}
    config = MllamaConfig(
        vision_config=VISION | {"attention_heads": 2} | layers | tiles,
        text_config=TEXT | {"cross_attention_layers": [0]} | words,
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    images = MllamaImageProcessorPil(size={"height": 28, "width": 28}, max_image_tiles=2)
    MllamaProcessor(images, tokenizer, chat_template=template).save_pretrained(folder)
    network = with_visible_weights(MllamaForConditionalGeneration(config))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "gate" in name and weight.dim() == 1:  # zero at first: the pictures would change nothing
                weight.fill_(0.7)
    network.save_pretrained(folder)
    return folder


def paligemma(folder: Path) -> Path:
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = tokenizer_with(["<image>"], "", image_token="<image>")
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    PaliGemmaProcessor(images, tokenizer).save_pretrained(folder)  # adds tokens to the tokenizer
    config = PaliGemmaConfig(
        vision_config=VISION | {"model_type": "siglip_vision_model", "projection_dim": 32},
        text_config=TEXT | {"model_type": "gemma", "vocab_size": len(tokenizer), "eos_token_id": 0},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    with_visible_weights(PaliGemmaForConditionalGeneration(config)).save_pretrained(folder)
    return folder


VISION_MODELS: dict[str, Callable[[Path], Path]] = {
    "qwen3_vl": family("Qwen3VLForConditionalGeneration", 16, MROPE),
    "gemma3": gemma3,
    "gemma4": gemma4,
    "llava": llava,
    "idefics3": idefics3,
    "internvl": internvl,
    "mllama": mllama,
    "qwen2_5_vl": family("Qwen2_5_VLForConditionalGeneration", 14, MROPE),
    "qwen3_vl_moe": family("Qwen3VLMoeForConditionalGeneration", 16, EXPERTS | MROPE),
    "qwen3_5": family("Qwen3_5ForConditionalGeneration", 16, DELTA),
    "qwen3_5_moe": family("Qwen3_5MoeForConditionalGeneration", 16, EXPERTS | DELTA | SHARED),
}


def picture(path: Path, seed: int, size: tuple[int, int] = (80, 48)) -> Path:
    """A picture of random blocks."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (6, 10, 3), generator=generator, dtype=torch.uint8).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)
    return path
