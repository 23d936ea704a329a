"""Model directories: finding them, fingerprints, and whether adapter and base belong together."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jmedllm.errors import InputError
from jmedllm.models.adapters import require_adapter
from jmedllm.models.folder import ORIGIN, fingerprint, require_model, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"

FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "generation_config.json": b'{"eos_token_id": 0}',
    "model-00001-of-00002.safetensors": b"first weights",
    "model-00002-of-00002.safetensors": b"second weights",
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b'{"eos_token": "<|endoftext|>"}',
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"# A model",
}
GOLDEN = "a6725108be67c34a"
"""From the shell: sha256sum of the lines "name sha256" of all that counts, in the order of their names."""


def message(action: Callable[[], object]) -> str:
    """The one line of the `InputError` that `action` ends in."""
    with pytest.raises(InputError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return fill(tmp_path / "model", FILES)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache; the library has read its environment long ago."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache: Path, revision: str = "main") -> Path:
    """A model as the Hugging Face library lays it down."""
    repository = cache / "models--org--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT)
    return fill(repository / "snapshots" / COMMIT, FILES)


def test_a_directory_is_itself(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(model)) == model
    monkeypatch.chdir(model.parent.parent)
    nested = f"{model.parent.name}/model"
    assert resolve(nested) == Path(nested)  # though it looks like an id


@pytest.mark.parametrize(("revision", "asked"), [("main", None), ("main", "main"), ("v2", "v2"), ("main", COMMIT)])
def test_an_id_in_the_cache_is_found_without_the_network(cache: Path, revision: str, asked: str | None) -> None:
    snapshot = cached(cache, revision)
    assert resolve("org/model", revision=asked) == snapshot


FIX = "give a directory or allow one download with --download"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/other", f"no such directory, and not in the local Hugging Face cache; {FIX}"),
        ("a b/c", f"no such directory, and not in the local Hugging Face cache; {FIX}"),
        ("none", "no such directory"),
        ("./none", "no such directory"),
        ("../none", "no such directory"),
        ("/none/such", "no such directory"),
        ("~/none", "no such directory; ~ is not expanded here, write the whole path"),
        ("a/b/c", "no such directory"),
        ("", "no such directory"),
    ],
)
def test_a_missing_model_is_named(cache: Path, name: str, expected: str) -> None:
    cached(cache)
    assert message(lambda: resolve(name)) == f"model {name!r}: {expected}"


def test_a_revision_that_is_not_there_is_no_other_one(cache: Path) -> None:
    cached(cache)
    assert FIX in message(lambda: resolve("org/model", revision="v2"))


def test_a_failed_download_is_reported(cache: Path) -> None:
    assert message(lambda: resolve("org/model", download=True)).startswith("model 'org/model': download failed: ")


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (["config.json"], "no config.json; is this a Hugging Face model directory?"),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            "no *.safetensors weights; convert the model to safetensors first",
        ),
        (
            ["model.safetensors.index.json"],
            "no model.safetensors and no model.safetensors.index.json; copy model.safetensors.index.json too",
        ),
        (["tokenizer.json"], "no tokenizer (tokenizer.json); copy the base model's tokenizer files"),
        (list(FILES), "no config.json; is this a Hugging Face model directory?"),
    ],
    ids=["config", "weights", "index", "tokenizer", "all"],
)
def test_an_incomplete_model_is_refused_with_the_missing_file(model: Path, missing: list[str], expected: str) -> None:
    require_model(model)
    for name in missing:
        (model / name).unlink()
    assert message(lambda: require_model(model)) == f"model {model}: {expected}"


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json"])
def test_other_kinds_of_tokenizer_will_do(model: Path, name: str) -> None:
    (model / "tokenizer.json").rename(model / name)
    require_model(model)


def test_a_fingerprint_is_that_of_the_content(model: Path, tmp_path: Path) -> None:
    assert fingerprint(model) == GOLDEN
    assert fingerprint(shutil.copytree(model, tmp_path / "elsewhere")) == GOLDEN


@pytest.mark.parametrize("name", sorted(FILES))
def test_one_byte_makes_another_model_if_it_can_change_an_answer(model: Path, name: str) -> None:
    content = FILES[name]
    (model / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (fingerprint(model) == GOLDEN) is (name in ("README.md", "model.safetensors.index.json"))


def test_weights_that_change_places_make_another_model(model: Path) -> None:
    first, second = (model / f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    first.rename(model / "kept")
    second.rename(first)
    (model / "kept").rename(second)
    assert fingerprint(model) != GOLDEN


def test_our_notes_in_a_model_directory_are_not_part_of_it(model: Path) -> None:
    (model / ORIGIN).write_text('{"base": "/somewhere"}')
    assert fingerprint(model) == GOLDEN


ADAPTER = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


@pytest.mark.parametrize(
    "origin",
    [None, {"base": "/a", "base_fingerprint": GOLDEN}, {"base_fingerprint": GOLDEN, "quantization": "nf4"}],
    ids=["of others", "of ours", "quantised"],
)
def test_an_adapter_of_this_base_will_do(model: Path, tmp_path: Path, origin: dict[str, str] | None) -> None:
    adapter = fill(tmp_path / "adapter", ADAPTER)
    if origin is not None:
        (adapter / ORIGIN).write_text(json.dumps(origin))
    require_adapter(adapter, model)


def test_an_adapter_of_another_base_names_both(model: Path, tmp_path: Path) -> None:
    adapter = fill(tmp_path / "adapter", ADAPTER)
    (adapter / ORIGIN).write_text(json.dumps({"base": "/old", "base_fingerprint": GOLDEN}))
    (model / "config.json").write_text('{"model_type": "llama"}')
    assert message(lambda: require_adapter(adapter, model)) == (
        f"adapter {adapter}: trained on base {GOLDEN} (/old), but {model} is {fingerprint(model)}; "
        "give the base it was trained on"
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "adapter ADAPTER: no adapter_config.json; is this a PEFT adapter directory?"),
        ({"adapter/adapter_config.json": b"{}"}, "adapter ADAPTER: no adapter_config.json; give ADAPTER/adapter"),
        ({"adapter_config.json": b"{}"}, "adapter ADAPTER: no adapter_model.safetensors"),
        (
            ADAPTER | {"adapter_model.safetensors": b"", ORIGIN: b"{"},
            f"ADAPTER/{ORIGIN}:1: broken JSON: Expecting property name enclosed in double quotes; "
            "fix or remove the line",
        ),
        (ADAPTER | {ORIGIN: b"{}"}, "adapter ADAPTER: trained on base None (None), but BASE is "),
    ],
    ids=["empty", "one level down", "no weights", "broken origin", "origin without base"],
)
def test_a_directory_without_an_adapter_is_named(
    model: Path, tmp_path: Path, files: dict[str, bytes], expected: str
) -> None:
    adapter = fill(tmp_path / "adapter", files)
    line = message(lambda: require_adapter(adapter, model))
    assert line.replace(str(adapter), "ADAPTER").replace(str(model), "BASE").startswith(expected)
