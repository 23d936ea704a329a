"""Sizes of memory and GPUs as people write them."""

from pathlib import Path

import psutil
import pytest
import torch

from jmedllm.errors import InputError
from jmedllm.planning import machine
from jmedllm.planning.machine import GIB, Rates, host_memory, read_gpu, read_gpus, read_size, this_machine


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24), ("24 GB", 24), ("24G", 24), ("24g", 24), ("0.5TiB", 512), ("1.5 gib", 1.5), ("512M", 0.5)],
)
def test_a_size_is_understood(text: str, size: float) -> None:
    assert read_size(text, "--ram") == size * GIB


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("24", "--ram '24' is not a memory size; write 24GiB"),
        ("much", "--ram 'much' is not a memory size; write it as 24GiB"),
        ("-3G", "--ram '-3G' is not a memory size; write it as 24GiB"),
        ("0GiB", "--ram '0GiB' is not a memory size; write it as 24GiB"),
        ("0", "--ram '0' is not a memory size; write it as 24GiB"),
        ("", "--ram '' is not a memory size; write it as 24GiB"),
    ],
)
def test_an_invalid_size_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_size(text, "--ram")
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["rtx4090", "RTX 4090", "rtx-4090", "NVIDIA GeForce RTX 4090"])
def test_a_gpu_is_known_however_it_is_written(text: str) -> None:
    gpu = read_gpu(text)
    assert gpu.name == "rtx4090"
    assert 23.9 < gpu.memory / GIB < 24
    assert gpu.rates is not None and gpu.rates.flops == 165e12


def test_a_gpu_may_be_given_by_its_memory() -> None:
    gpu = read_gpu("24GiB")
    assert (gpu.name, gpu.memory, gpu.rates) == ("a GPU of 24 GiB", 24 * GIB, None)


def test_the_rates_of_an_unknown_gpu_may_be_given_too() -> None:
    gpu, count = read_gpus("2x24GiB,165,1008,32")
    assert (gpu.memory, gpu.rates, count) == (24 * GIB, Rates(165e12, 1008e9, 32e9), 2)


@pytest.mark.parametrize(
    "text",
    ["24GiB,165", "24GiB,165,1008,fast", "24GiB,165,1008,0", "24GiB,1,2,3,4", "24GiB,nan,1,1", "24GiB,1,inf,1"],
)
def test_rates_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="after the memory give three numbers or none"):
        read_gpu(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtx409", "unknown GPU in --gpu 'rtx409': did you mean rtx4090"),
        ("4090", "--gpu '4090': did you mean rtx4090?"),
        ("24", "--gpu '24' is not a memory size; write 24GiB"),
    ],
)
def test_an_unknown_gpu_is_answered_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_gpu(text)
    assert str(error.value).startswith(message)


def test_several_gpus() -> None:
    gpu, count = read_gpus("8xh100")
    assert (gpu.name, count) == ("h100", 8)
    gpu, count = read_gpus("2 x 24GiB")
    assert (gpu.memory, count) == (24 * GIB, 2)
    for text in ("h100", "0xh100", "x8"):
        with pytest.raises(InputError, match=r"should be a number and a GPU, such as 8xh100 or 2x24GiB"):
            read_gpus(text)


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({"v2": "1048576\n"}, 2**20),
        ({"v1": "2097152\n"}, 2**21),
        ({"v2": "max\n"}, None),
        ({"v1": str(2**63 - 4096)}, None),
        ({}, None),
    ],
    ids=["version 2", "version 1", "max", "no limit", "no control groups"],
)
def test_a_container_has_the_memory_that_it_may_have(
    files: dict[str, str], size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "LIMITS", (tmp_path / "v2", tmp_path / "v1"))
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    wanted = psutil.virtual_memory().total if size is None else size
    assert host_memory() == this_machine(torch.device("cpu")).ram == wanted
