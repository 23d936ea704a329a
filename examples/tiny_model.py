r"""Build a tiny model with a real tokenizer, to try a recipe end-to-end before the real base model is available.

python examples/tiny_model.py --tokenizer data/tokenizers/qwen2 --end "<|endoftext|>" --output models/tiny-qwen2
python examples/tiny_model.py --tokenizer data/tokenizers/llm-jp-v2.2 --architecture llama \
    --output models/tiny-llama
"""

import argparse
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from jmedllm.models.random_configs import CONFIGS
from jmedllm.models.random_init import RandomInit, build_around


def main() -> None:
    """Build the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory with a tokenizer.json")
    parser.add_argument("--end", help="end-of-sequence token, if the directory does not name it")
    parser.add_argument("--architecture", choices=list(CONFIGS), default="qwen2")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    given = {"eos_token": options.end} if options.end else {}
    tokenizer = PreTrainedTokenizerFast.from_pretrained(options.tokenizer, **given)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # 128 wide: the narrowest layers that bitsandbytes packs into 4 bits.
    shape = RandomInit(architecture=options.architecture, hidden_size=128, layers=2, feed_forward=384)
    build_around(tokenizer, shape, options.output, seed=0)
    print(f"{options.architecture} model with {len(tokenizer):,} tokens in {options.output}")


if __name__ == "__main__":
    main()
