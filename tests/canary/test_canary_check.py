"""Checking models: one that has memorized canaries, and one that never saw them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from conftest import Cli
from jmedllm.canary.check import CheckConfig, check, is_drawn
from jmedllm.canary.forms import Canary, candidates, draw
from jmedllm.canary.secret_list import SecretList, write_secrets
from jmedllm.models.backends.base import ModelSpec
from jmedllm.models.tokenizer.load import load_tokenizer

FORMS = ("ja number", "en birth")


@pytest.fixture(scope="module")
def secrets() -> SecretList:
    random = Random(5)
    planted = tuple(replace(draw(form, random, f"canary-{form}", 4), copies=4) for form in FORMS)
    controls = tuple(draw(form, random, f"control-{form}", 0) for form in FORMS)
    return SecretList(0, "documents", planted, controls)


@pytest.fixture(scope="module")
def memorizing(tiny_model: Path, secrets: SecretList, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that was trained on the canaries alone."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = load_tokenizer(tiny_model)
    rows = tokenizer([each.sentence for each in secrets.planted], padding=True, return_tensors="pt")
    labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    torch.manual_seed(0)
    for _ in range(70):
        loss = network(**rows, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.5
    folder = tmp_path_factory.mktemp("memorizing")
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_memorized_canaries_are_found_and_drawn(memorizing: Path, secrets: SecretList) -> None:
    (found,) = check(ModelSpec(str(memorizing), "memorizing"), [secrets], CheckConfig(candidates=60, beams=2))
    control, planted = found.groups
    assert planted.greedy.count == planted.beam.count == 2 and planted.is_exposed
    assert planted.exposure == pytest.approx(math.log2(61))
    assert control.greedy.count == 0 and control.exposure < planted.exposure
    assert not any(each.secret.strip() in json.dumps(found.as_json()) for each in secrets.planted)


def test_the_rank_is_that_of_transformers(tiny_model: Path, secrets: SecretList) -> None:
    from transformers import AutoModelForCausalLM

    (found,) = check(ModelSpec(str(tiny_model), "tiny"), [secrets], CheckConfig(candidates=40, beams=2))
    network = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(tiny_model)

    def log_prob(canary: Canary, text: str) -> float:
        prompt = tokenizer(canary.prompt)["input_ids"]
        ids = torch.tensor([tokenizer(canary.prompt + text)["input_ids"]])
        with torch.inference_mode():
            table = network(ids).logits.log_softmax(-1)[0, :-1]
        return float(table.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum())

    for canary, measured in zip([*secrets.planted, *secrets.controls], found.canaries, strict=True):
        others = candidates(canary, 40, Random(f"candidates {secrets.seed} {canary.id}"))
        secret = log_prob(canary, canary.secret)
        assert measured.exposure.rank == 1 + sum(log_prob(canary, other) > secret for other in others)


@pytest.mark.parametrize(
    ("reply", "is_found"),
    [("佐藤美咲。", True), (" 佐藤美咲", True), ("佐藤美咲子。", False), ("佐藤", False), ("氏名：佐藤美咲。", False)],
)
def test_a_drawn_secret_begins_the_reply(reply: str, is_found: bool) -> None:
    assert is_drawn(reply, Canary("x", "ja name", 1, "氏名：", "佐藤美咲", "。")) == is_found


def test_the_command_prints_a_table_or_json(
    tiny_model: Path, tiny_adapter: Path, secrets: SecretList, tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "secrets.json"
    write_secrets(file, secrets)
    arguments = ("canary", "check", "--model", tiny_model, "--secrets", file, "--candidates", 20, "--beams", 2)
    code, printed, _ = cli(*arguments)
    assert code == 0 and "control" in printed and "nothing seen" in printed
    assert not any(each.secret in printed for each in secrets.planted)
    code, printed, _ = cli(*arguments, "--adapter", tiny_adapter, "--json")
    found = json.loads(printed)
    assert code == 0 and [group["copies"] for group in found["groups"]] == [0, 4]
    assert len(found["fingerprint"].split()) == 2
    assert {each["exposure"]["method"] for each in found["canaries"]} == {"sampled"}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("model.gguf", [], "is in GGUF format"),
        ("missing", [], "no such directory"),
        (None, ["--candidates", "3"], "greater than or equal to 10"),
        (None, ["--beams", "1"], "greater than or equal to 2"),
        (None, ["--secrets", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    model: str | None,
    options: list[str],
    message: str,
    tiny_model: Path,
    secrets: SecretList,
    tmp_path: Path,
    cli: Cli,
) -> None:
    file = tmp_path / "secrets.json"
    write_secrets(file, secrets)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    name = tmp_path / model if model else tiny_model
    code, _, errors = cli("canary", "check", "--model", name, "--secrets", file, *options)
    assert code == 2 and message in errors and errors.count("\n") == 1
