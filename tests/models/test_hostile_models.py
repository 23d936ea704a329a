"""Model directories from anywhere: one line for what is broken, and nothing in them runs."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jmedllm.errors import InputError
from jmedllm.models.folder import weight_files
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.load import load_tokenizer

DEEP = "[" * 100_000 + "]" * 100_000
CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass C: pass\nM = T = P = C\n"
Change = Callable[[Path], object]


def write(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def header(text: str, length: int | None = None) -> Change:
    """Weights with this header, and perhaps another length than its own."""
    return write("model.safetensors", struct.pack("<Q", length or len(text)) + text.encode() + b"abcd")


def index(*names: object) -> Change:
    def change(folder: Path) -> None:
        shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        weights = {str(number): name for number, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))

    return change


def settings(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))

    return change


DOUBLES = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
INSERTS = {"type": "Replace", "pattern": {"Regex": "\\b"}, "content": "x" * 2000}

REFUSED: dict[str, tuple[Change, str]] = {
    "text that doubles 40 times": (
        settings("tokenizer.json", normalizer={"type": "Sequence", "normalizers": [DOUBLES] * 40}),
        "its normalizer can make a text more than 1,000 times as long",
    ),
    "long insertion": (
        settings("tokenizer.json", decoder={"type": "Sequence", "decoders": [{"type": "Fuse"}, INSERTS]}),
        "its decoder can make a text more than 1,000 times as long",
    ),
    "deep config": (write("config.json", f'{{"a": {DEEP}}}'), "config.json:1: broken JSON: nested too deeply"),
    "config that is a list": (write("config.json", "[]"), "cannot be loaded"),
    "half a character": (settings("config.json", model_type="\ud800"), r"config.json:1: \ud800 is half a character"),
    "long number": (write("config.json", '{"a": ' + "9" * 5000 + "}"), "a number of thousands of digits"),
    "key twice": (write("config.json", '{"a": 1, "a": 2}'), 'key "a" is given twice'),
    "text instead of a section": (settings("config.json", text_config=5), "cannot be loaded"),
    "negative size": (settings("config.json", hidden_size=-5), "cannot be loaded"),
    "deep tokenizer": (write("tokenizer.json", DEEP), "cannot be loaded"),
    "deep settings of the tokenizer": (write("tokenizer_config.json", DEEP), "cannot be loaded"),
    "deep generation config": (write("generation_config.json", DEEP), "cannot be loaded"),
    "template that is no text": (write("chat_template.jinja", b"\xff\xfe\0"), "cannot be loaded"),
    "header of an exabyte": (header("{}", 1 << 60), "its header is longer than the file"),
    "deep header": (header(DEEP), "is not a safetensors file"),
    "header that is a list": (header("[]"), "its header is not a list of tensors"),
    "header of numbers": (header('{"a": 5}'), "its header is not a list of tensors"),
    "tensor beyond the file": (
        header('{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4000000000]}}'),
        "cannot be loaded",
    ),
    "overlapping tensors": (
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
               '"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'),
        "cannot be loaded",
    ),
    "weights outside": (
        index("../outside.safetensors"),
        "'../outside.safetensors' is not the name of a file beside it",
    ),
    "weights by a whole path": (index("/etc/passwd"), "'/etc/passwd' is not the name of a file beside it"),
    "weights in numbers": (index(5), "5 is not the name of a file beside it"),
    "class in the directory": (
        settings("config.json", model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}),
        "contains custom code",
    ),
    "weights in a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "no *.safetensors weights",
    ),
}  # fmt: skip


class Runs:
    """A pickle that runs code when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_model_is_refused_in_one_line(folder: Path, name: str) -> None:
    change, message = REFUSED[name]
    (folder / "own.py").write_text(CODE)
    change(folder)
    with pytest.raises(InputError) as error:
        load_tokenizer(folder)
        load_network(folder, torch.float32, torch.device("cpu"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder / "ran").exists()


def test_code_and_pickles_beside_a_good_model_do_not_run(folder: Path) -> None:
    (folder / "own.py").write_text(CODE)
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "AutoImageProcessor", "AutoProcessor")
    code = dict.fromkeys(names, "own.C")
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"):
        settings(file, auto_map=code)(folder)
    for file in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        (folder / file).write_bytes(pickle.dumps(Runs(folder / "ran")))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE)
    assert load_tokenizer(folder)
    assert load_network(folder, torch.float32, torch.device("cpu"))
    assert not (folder / "ran").exists()
    assert not (folder / "custom_generate" / "ran").exists()


def test_a_model_of_links_is_read(folder: Path, tmp_path: Path) -> None:
    """The cache of Hugging Face has links to files of other names."""
    (tmp_path / "links").mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        (tmp_path / "links" / file.name).symlink_to(file.rename(tmp_path / f"blob{number}"))
    assert load_tokenizer(tmp_path / "links")
    assert [file.name for file in weight_files(tmp_path / "links")] == ["model.safetensors"]
