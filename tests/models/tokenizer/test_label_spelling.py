"""Labels are spelled as after the prompt, not as alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jmedllm.models.backends.base import Request
from jmedllm.models.backends.transformers.model import TransformersModel, load_model
from jmedllm.models.tokenizer.encoding import Spelled, encode, spell_labels
from jmedllm.precision import choose_precision
from plain_generation import score, score_alone
from small_tokenizers import byte_level, sentencepiece

LABELS = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def tokenizers(shared: Path) -> dict[str, Any]:
    qwen2 = shared / "tokenizers" / "qwen2" / "tokenizer.json"
    return {
        "llm-jp": AutoTokenizer.from_pretrained(shared / "tokenizers" / "llm-jp-v2.2"),
        "qwen2": PreTrainedTokenizerFast(tokenizer_file=str(qwen2), eos_token="<|endoftext|>"),
        "llama 2": sentencepiece(dummy_prefix=True),
        "gemma": sentencepiece(dummy_prefix=False),
        "byte level": byte_level(),
        "joins '(' and 'b'": byte_level(merges=(("(", "b"),)),
        "joins ':' and all": sentencepiece(dummy_prefix=True, merges=tuple((":", each) for each in LABELS)),
    }


# tokenizer, prompt, spellings of "b" behind it, whether one token decides all labels
SPELLED = [
    ("llm-jp", "### 応答：\n", [["b"], ["▁b"]], True),
    ("llm-jp", "Answer: ", [["b"], ["▁b"]], True),
    ("qwen2", "### 応答：\n", [["b"], ["Ġb"]], True),
    ("qwen2", "### Response:\n", [["b"], ["Ġb"]], True),
    ("qwen2", "Answer: ", [[":", "Ġb"], [":b"]], False),  # ":b" is one token: nothing is written behind ":" alone
    ("llama 2", "Answer:\n", [["b"], ["▁b"]], True),
    ("llama 2", "Answer: ", [["b"], ["▁b"]], True),
    ("llama 2", "a<turn>", [["▁b"]], True),  # a marker begins a text anew, so a space is two
    ("llama 2", "a<turn>s\n", [["b"], ["▁b"]], True),
    ("gemma", "Answer:\n", [["b"], ["▁b"]], True),
    ("gemma", "a<turn>", [["b"], ["▁b"]], True),
    ("byte level", "Answer:\n", [["b"], ["Ġb"]], True),
    ("byte level", "Answer: (", [["b"], ["Ġb"]], True),
    ("joins '(' and 'b'", "A(", [["(", "Ġb"], ["(b"]], False),
    ("joins ':' and all", "A: ", [[":", "▁b"], [":b"]], False),
]


def behind(tokenizer: Any, prompt: str) -> Spelled:
    [found] = spell_labels(tokenizer, [(prompt, LABELS)])
    return found


@pytest.mark.parametrize(("name", "prompt", "expected", "is_next"), SPELLED)
def test_a_label_is_spelled_in_context(
    tokenizers: dict[str, Any], name: str, prompt: str, expected: list[list[str]], is_next: bool
) -> None:
    tokenizer = tokenizers[name]
    found = behind(tokenizer, prompt)
    tokens = [tokenizer.convert_ids_to_tokens(list(ids)) for ids in found.labels[1]]
    assert (sorted(tokens), found.is_next_token) == (sorted(expected), is_next)
    [alone, *whole] = encode(tokenizer, [prompt.rstrip(" ") + end for end in ("", "b", " b")])
    assert all(found.prompt + list(ids) in whole for ids in found.labels[1])
    assert is_next == (found.prompt == alone)


@pytest.mark.parametrize("prompt", ["### 応答：\n", "Answer: (", "答え：", "Q"])
@pytest.mark.parametrize("name", ["llm-jp", "qwen2", "llama 2", "gemma", "byte level"])
def test_no_spelling_is_counted_twice(tokenizers: dict[str, Any], name: str, prompt: str) -> None:
    every = [ids for each in behind(tokenizers[name], prompt).labels for ids in each]
    assert len(set(every)) == len(every) >= len(LABELS)
    assert not any(a != b and b[: len(a)] == a for a in every for b in every)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> TransformersModel:
    return load_model(tiny_model, choose_precision("float32", "cpu"))


class Writes:
    """A network behind whose every token the same ones are likely."""

    def __init__(self, network: Any, likely: int) -> None:
        self.network, self.likely = network, likely

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, **inputs: Any) -> Any:
        output = self.network(**inputs)
        output.logits = torch.zeros_like(output.logits)
        output.logits[..., self.likely] = 9.0
        return output


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_a_model_that_writes_a_letter_is_right_by_its_likelihood(model: TransformersModel, dummy_prefix: bool) -> None:
    tokenizer = sentencepiece(dummy_prefix=dummy_prefix)
    written = tokenizer.convert_tokens_to_ids("b")
    says_b = replace(model, network=Writes(model.network, written), tokenizer=tokenizer)
    [found] = score(says_b, [Request("1", "Answer:\n", "1", labels=LABELS)])
    assert max(zip(found, LABELS, strict=True))[1] == "b"


def test_labels_that_are_no_single_token_are_read_as_texts(model: TransformersModel) -> None:
    prompt, labels = "Which is it?\n", ("膵", "a", "脾")
    request = Request("1", prompt, "1", labels=labels)
    [found] = score(model, [request])
    expected = [
        torch.tensor([score_alone(model, prompt, f"{space}{label}") for space in ("", " ")]).logsumexp(0).item()
        for label in labels
    ]
    assert found == pytest.approx(expected, abs=1e-4)
