"""Decoding settings: greedy, recommended by the model's makers, or given; and the length of responses."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jmedllm.errors import InputError
from jmedllm.evaluation.decoding import DecodingConfig, described, parse_decoding, recommended_for
from jmedllm.evaluation.evaluate import EvalConfig
from jmedllm.models.backends.base import GREEDY, Decoding
from jmedllm.settings import from_options


@pytest.mark.parametrize(
    ("given", "values", "recorded"),
    [
        ("greedy", GREEDY, {"decoding": "greedy"}),
        ({}, GREEDY, {"decoding": "greedy"}),
        ({"temperature": 0}, GREEDY, {"decoding": "greedy"}),
        (
            {"temperature": 0.6, "top_p": 0.95, "samples": 4},
            Decoding(0.6, 0.95),
            {
                "decoding": {
                    "temperature": 0.6, "top_p": 0.95, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 0
                },
                "samples": 4,
            },
        ),
        (
            {"repetition_penalty": 1.1},
            Decoding(repetition_penalty=1.1),
            {"decoding": {"temperature": 0.0, "repetition_penalty": 1.1}},
        ),
    ],
)  # fmt: skip
def test_settings(given: Any, values: Decoding, recorded: dict[str, Any]) -> None:
    decoding = EvalConfig(benchmarks=["demo"], decoding=given).decoding
    assert decoding.values == values
    assert decoding.settings() == recorded


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samples": 4}, "4 samples of greedy decoding are the same response"),
        ({"temperature": 0.0, "samples": 2}, "2 samples of greedy decoding are the same response"),
        ({"top_p": 0.9}, "top_p has no effect on greedy decoding"),
        ({"temperature": 0, "top_k": 20}, "top_k has no effect on greedy decoding"),
        ({"seed": 3}, "seed has no effect on greedy decoding"),
        ({"temperature": -1}, "greater than or equal to 0"),
        ({"temperature": 0.6, "top_p": 1.5}, "less than or equal to 1"),
        ({"temperature": 0.6, "samples": 0}, "greater than or equal to 1"),
        ("hot", "give greedy, recommended, or values"),
        ({"temprature": 0.6}, "Extra inputs"),
    ],
)
def test_settings_that_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvalConfig(benchmarks=["demo"], decoding=given)
    with pytest.raises(InputError, match=r"^--decoding "):
        from_options(EvalConfig, benchmarks=["demo"], decoding=given)


def test_options() -> None:
    assert parse_decoding("greedy") == {}
    assert parse_decoding("recommended", samples=8, seed=3) == {"recommended": True, "samples": 8, "seed": 3}
    assert parse_decoding("temperature=0.6, top_k=20,samples=2") == {"temperature": 0.6, "top_k": 20, "samples": 2}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("temprature=0.6", {}, "did you mean temperature"),
        ("temperature", {}, "unknown setting 'temperature'|did you mean"),
        ("temperature=warm", {}, "temperature must be a number"),
        ("temperature=1,top_k=2.5", {}, "top_k must be an integer"),
        ("greedy,temperature=1", {}, "greedy takes no other values"),
        ("temperature=1,samples=2", {"samples": 4}, "--samples 4 contradicts"),
    ],
)
def test_options_that_are_refused(text: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_decoding(text, **options)


# Generation configs as models publish them: what is used, and what a note says is ignored.
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "Qwen3": (
        {
            "bos_token_id": 151643, "do_sample": True, "eos_token_id": [151645, 151643], "pad_token_id": 151643,
            "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "4.51.0",
        },
        {"temperature": 0.6, "top_k": 20, "top_p": 0.95}, "recommends.",
    ),
    "Qwen2": (
        {"do_sample": True, "repetition_penalty": 1.1, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1}, "repetition penalty 1.1",
    ),
    "DeepSeek-R1": (
        {"_from_model_config": True, "do_sample": True, "temperature": 0.6, "top_p": 0.95},
        {"temperature": 0.6, "top_p": 0.95}, "recommends.",
    ),
    "SmolLM2": ({"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 0}, {}, "greedy, as"),
    "a temperature without do_sample": (
        {"temperature": 0.6, "top_p": 0.9}, {}, "Ignored of it: temperature 0.6, top p 0.9 (do_sample is not true)",
    ),
    "beams": (
        {"num_beams": 4, "max_new_tokens": 2048, "repetition_penalty": 1.05},
        {"repetition_penalty": 1.05}, "Ignored of it: num beams 4, max new tokens 2048",
    ),
    "sampling at temperature 1": ({"do_sample": True}, {"temperature": 1.0}, "temperature 1.0, seed 0, as"),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_recommended_values_are_those_of_the_generation_config(name: str, tmp_path: Path) -> None:
    stored, expected, said = PUBLISHED[name]
    (tmp_path / "generation_config.json").write_text(json.dumps(stored), encoding="utf-8")
    found, note = recommended_for(DecodingConfig(recommended=True), tmp_path, "m")
    assert found.model_dump(exclude_none=True, exclude_defaults=True) == expected
    assert said in note


def test_given_values_replace_recommended_ones(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_k": 20}')
    config = DecodingConfig(recommended=True, temperature=0.9, seed=5, samples=3)
    found, note = recommended_for(config, tmp_path, "m")
    assert found == DecodingConfig(temperature=0.9, top_k=20, seed=5, samples=3)
    assert "with temperature 0.9 given" in note


@pytest.mark.parametrize(
    ("stored", "samples", "message"),
    [
        (None, 1, "m has no generation_config.json; give values"),
        ("{}", 4, "4 samples of greedy decoding are the same response"),
        ('{"do_sample": true, "temperature": "warm"}', 1, "temperature input should be a valid number"),
        ("[]", 1, "is not a JSON object"),
    ],
)
def test_recommendations_that_cannot_be_followed(
    stored: str | None, samples: int, message: str, tmp_path: Path
) -> None:
    if stored is not None:
        (tmp_path / "generation_config.json").write_text(stored)
    with pytest.raises(InputError, match=message):
        recommended_for(DecodingConfig(recommended=True, samples=samples), tmp_path, "m")


def test_described() -> None:
    assert described("greedy") == "greedy"
    sampled = DecodingConfig(temperature=0.6, top_p=0.95, seed=1).settings()["decoding"]
    assert described(sampled) == "temperature 0.6, top p 0.95, seed 1"
    assert described(DecodingConfig(repetition_penalty=1.1).settings()["decoding"]) == "greedy, repetition penalty 1.1"
