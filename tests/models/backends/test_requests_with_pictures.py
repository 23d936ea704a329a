"""Requests with pictures give what transformers itself gives: its processor and its network on the same input."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from jmedllm.errors import InputError
from jmedllm.models.backends.base import GenerationConfig, Request, Response
from jmedllm.models.backends.transformers.model import TransformersModel, load_model
from jmedllm.models.chat import ChatTemplate, with_pictures
from jmedllm.models.processor import image_marker, load_processor
from jmedllm.precision import choose_precision
from tiny_vision import VISION_MODELS, paligemma, picture

CPU = choose_precision("float32", "cpu")
CHOICES = ("壊血病", "脚気", "Lack of vitamin C")
QUESTION = "胸部エックス線写真を示す。What is shown?\n答え:"


USUAL = ("qwen3_vl", "gemma3")
MODELS = [pytest.param(name, marks=() if name in USUAL else (pytest.mark.exhaustive,)) for name in VISION_MODELS]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersModel:
    return load_model(VISION_MODELS[request.param](tmp_path_factory.mktemp(request.param)), CPU)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return [picture(folder / f"{seed}.png", seed, size) for seed, size in enumerate([(80, 48), (48, 64), (33, 90)])]


def processor_of(model: TransformersModel) -> Any:
    assert model.folder is not None
    return load_processor(model.folder)


def text_prompt(model: TransformersModel, count: int) -> str:
    return image_marker(processor_of(model), ChatTemplate(model.tokenizer)) * count + "\n" + QUESTION


def chat_prompt(model: TransformersModel, count: int) -> str:
    return ChatTemplate(model.tokenizer).prompt([{"role": "user", "content": with_pictures(QUESTION, count)}])


PROMPTS: dict[str, Callable[[TransformersModel, int], str]] = {"text": text_prompt, "chat": chat_prompt}


def answer(model: TransformersModel, *requests: Request, new_tokens: int = 6) -> list[Response]:
    found = dict(model.answer(requests, GenerationConfig(new_tokens)))
    return [found[index] for index in range(len(requests))]


def inputs_of(model: TransformersModel, files: list[Path], *, chat: bool) -> Any:
    """The inputs of the network as transformers prepares them, by its documented calls."""
    processor, images = processor_of(model), [Image.open(file).convert("RGB") for file in files]
    if chat:
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": QUESTION}]
        return processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    return processor(text=text_prompt(model, len(files)), images=images, return_tensors="pt")


def log_prob(model: TransformersModel, inputs: Any, continuation: str) -> float:
    """Log-probability of a continuation, one token after the other."""
    total = 0.0
    ids = inputs["input_ids"]
    more = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        for token in model.tokenizer(continuation, add_special_tokens=False)["input_ids"]:
            padded = {
                name: torch.cat([value, *[value[:, -1:]] * (ids.shape[1] - value.shape[1])], 1)
                if value.shape[:2] == inputs["input_ids"].shape
                else value
                for name, value in more.items()
            }
            logits = model.network(input_ids=ids, attention_mask=torch.ones_like(ids), **padded).logits[0, -1]
            total += torch.log_softmax(logits, -1)[token].item()
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return total


FULL = pytest.mark.exhaustive
FORMS = [("text", 1), ("chat", 2), pytest.param("text", 2, marks=FULL), pytest.param("chat", 1, marks=FULL)]


@pytest.mark.parametrize(("form", "count"), FORMS)
def test_answers_are_those_of_transformers(
    model: TransformersModel, pictures: list[Path], form: str, count: int
) -> None:
    files = pictures[:count]
    prompt = PROMPTS[form](model, count)
    scores, labels = answer(
        model,
        Request("1", prompt, "1", choices=CHOICES, generate=True, images=tuple(files)),
        Request("2", prompt, "2", labels=("a", "b"), images=tuple(files)),
    )
    inputs = inputs_of(model, files, chat=form == "chat")
    assert scores.log_probs == pytest.approx([log_prob(model, inputs, choice) for choice in CHOICES], abs=1e-4)
    with torch.inference_mode():
        last = torch.log_softmax(model.network(**inputs).logits[0, -1], -1)
        written = model.network.generate(**inputs, max_new_tokens=6, do_sample=False)
    spelled = [
        {model.tokenizer(space + name, add_special_tokens=False)["input_ids"][0] for space in ("", " ")}
        for name in ("a", "b")
    ]
    assert labels.log_probs is not None
    for found, tokens in zip(labels.log_probs, spelled, strict=True):
        alone = [last[token].item() for token in tokens]
        assert min(abs(found - value) for value in (*alone, torch.tensor(alone).logsumexp(0).item())) < 1e-4
    assert scores.completion is not None
    new = written[0, inputs["input_ids"].shape[1] :]
    plain = scores.completion.text if scores.completion.plain is None else scores.completion.plain
    assert plain == model.tokenizer.decode(new, skip_special_tokens=True)


def test_the_answer_depends_on_the_picture_and_on_its_order(model: TransformersModel, pictures: list[Path]) -> None:
    def scored(*files: Path) -> tuple[float, ...]:
        [found] = answer(model, Request("1", chat_prompt(model, len(files)), choices=CHOICES, images=files))
        assert found.log_probs is not None
        return found.log_probs

    first, second, _ = pictures
    assert scored(first) == scored(first)
    assert scored(first) != pytest.approx(scored(second), abs=1e-2)
    assert scored(first, second) != pytest.approx(scored(second, first), abs=1e-2)


def test_answers_do_not_depend_on_the_others_or_on_the_batch(model: TransformersModel, pictures: list[Path]) -> None:
    requests = [
        Request("1", QUESTION, "1", choices=CHOICES, generate=True),
        Request("2", chat_prompt(model, 1), "2", choices=CHOICES, generate=True, images=(pictures[0],)),
        Request("3", text_prompt(model, 2), "3", labels=("a", "b"), generate=True, images=(pictures[1], pictures[2])),
        Request("4", "脚気は", "4", choices=CHOICES, generate=True),
    ]
    alone = [answer(model, each)[0] for each in requests]
    for batch_size in (1, 8):
        together = answer(replace(model, batch_size=batch_size), *requests)
        for one, other in zip(alone, together, strict=True):
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)
            assert one.completion == other.completion


def test_a_prompt_that_does_not_fit_is_reported_before_the_first_answer(
    model: TransformersModel, pictures: list[Path]
) -> None:
    [length] = [inputs_of(model, pictures[:1], chat=True)["input_ids"].shape[1]]
    small = replace(model, context=length + 5)
    request = Request("7", chat_prompt(model, 1), generate=True, images=(pictures[0],))
    with pytest.raises(InputError, match=f"question 7: prompt and 6 new tokens need {length + 6} tokens"):
        answer(small, Request("6", "脚気", "6", generate=True), request)
    assert answer(replace(model, context=length + 6), request)[0].completion is not None


def test_a_model_without_a_template_has_the_same_marker(model: TransformersModel) -> None:
    written = image_marker(processor_of(model), ChatTemplate(model.tokenizer))
    assert image_marker(processor_of(model), None, model.network.config) == written.strip()


def test_a_marker_without_a_picture_is_one_line(model: TransformersModel, pictures: list[Path]) -> None:
    for prompt, files in ((text_prompt(model, 2), pictures[:1]), (QUESTION, pictures[:1])):
        with pytest.raises(InputError, match="question 1: its pictures"):
            answer(model, Request("1", prompt, generate=True, images=tuple(files)))


def test_a_model_whose_prompt_sees_the_answer_scores_letters_only(tmp_path: Path, pictures: list[Path]) -> None:
    model = load_model(paligemma(tmp_path), CPU)
    asked = Request("1", text_prompt(model, 1), "1", images=tuple(pictures[:1]))
    with pytest.raises(
        InputError, match=r"question 1: PaliGemma.* lets its prompt see the answer, .* ask for letters"
    ):
        answer(model, replace(asked, choices=CHOICES))
    [found] = answer(model, replace(asked, labels=("a", "b"), generate=True), new_tokens=3)
    inputs = inputs_of(model, pictures[:1], chat=False)
    del inputs["labels"]
    written = model.network.generate(**inputs, max_new_tokens=3, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert found.completion is not None and found.completion.text == model.tokenizer.decode(written)
