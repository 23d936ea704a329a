"""Decoded completions: markers of thoughts are kept, the end of the turn is removed, `legacy` reads the plain text."""

from pathlib import Path

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from jmedllm.evaluation.reading.clean import clean
from jmedllm.models.backends.completion import Ends, completion

SPECIAL = ["<|channel>", "<channel|>", "<turn|>", "<pad0>"]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in SPECIAL], special_tokens=True)
    return tokenizer


def test_a_channel_of_special_tokens_is_read_as_one(tokenizer) -> None:
    ids = tokenizer("<|channel>thought\n答え：a<channel|>b<turn|>", add_special_tokens=False)["input_ids"]
    ends = Ends(frozenset({tokenizer.convert_tokens_to_ids("<turn|>")}))
    prompt = tokenizer("Q", add_special_tokens=False)["input_ids"]
    written = completion(tokenizer, ends, prompt, ids)
    assert written.text == "<|channel>thought\n答え：a<channel|>b"
    assert (written.plain, written.decoded) == ("thought\n答え：ab", "Qthought\n答え：ab")
    assert clean(written.text).text == "b"


def test_a_text_without_special_tokens_is_as_it_was(tokenizer) -> None:
    ids = tokenizer(" 答えは b です。\n", add_special_tokens=False)["input_ids"]
    written = completion(tokenizer, Ends(), [], [*ids, tokenizer.eos_token_id])
    assert written.plain is None
    assert written.text == written.decoded == tokenizer.decode(ids, skip_special_tokens=True)
