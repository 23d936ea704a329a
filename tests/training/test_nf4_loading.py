"""A 4-bit base is quantized tensor by tensor: the stored weights are never all in memory."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from jmedllm.models.folder import weight_files
from jmedllm.models.loading import load_network

CPU = torch.device("cpu")
MIB = 2**20


def build_in_shards(folder: Path, tokenizer: Path, **shape: int) -> Path:
    """A Llama of random bfloat16 weights, in several files, with the tokenizer of another model directory."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", num_attention_heads=4, num_key_value_heads=2, **shape)
    config.tie_word_embeddings = False
    network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.save_pretrained(folder, max_shard_size="12MB")
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def resident() -> int:
    """Bytes of this process's memory that is no file cache."""
    [kib] = re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kib) * 1024


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_stored_model_is_never_whole_in_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations.bitsandbytes import Bnb4bitQuantize

    size = {"vocab_size": 320, "hidden_size": 512, "num_hidden_layers": 12, "intermediate_size": 1792}
    folder = build_in_shards(tmp_path / "model", tiny_model, **size)
    stored = sum(file.stat().st_size for file in weight_files(folder))
    assert stored > 80 * MIB and len(weight_files(folder)) > 5
    load_network(folder, torch.bfloat16, CPU, quantization="nf4")  # whatever libraries load and keep at first use
    seen: list[int] = []
    convert = Bnb4bitQuantize.convert

    def note(self: Any, *arguments: Any, **named: Any) -> Any:
        made = convert(self, *arguments, **named)  # its argument, as stored, is still alive
        seen.append(resident())
        return made

    monkeypatch.setattr(Bnb4bitQuantize, "convert", note)
    before = resident()
    network = load_network(folder, torch.bfloat16, CPU, quantization="nf4")
    kept = sum(p.numel() * p.element_size() for p in network.parameters())
    assert len(seen) == 12 * 7
    assert kept < stored / 3
    assert max(seen) - before < kept + 16 * MIB  # the largest tensor is 1.75 MiB as stored, 3.5 in float32
