"""The choice of device and number format."""

import pytest
import torch

from jmedllm.errors import InputError
from jmedllm.precision import DeviceName, PrecisionName, choose_precision


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float32"])
def test_cuda_that_is_not_there(no_gpu: None, precision: PrecisionName):
    with pytest.raises(InputError) as error:
        choose_precision(precision, "cuda")
    # No option is named: `run`, `pretrain` and `tune` take the device from the recipe alone.
    assert str(error.value) == ("device cuda: no CUDA device is visible; use device cpu or a CUDA build of torch")


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="process 3 has no GPU: 2 visible; start at most 2 processes"):
        choose_precision("bfloat16", "cuda")


def test_mps_where_there_is_nothing_better(no_gpu: None, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="device mps: no MPS device is visible; use device cpu"):
        choose_precision("auto", "mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for device in ("auto", "mps"):
        chosen = choose_precision("auto", device)
        assert (chosen.device.type, chosen.name) == ("mps", "float32")
    assert choose_precision("auto", "cpu").device.type == "cpu"


@pytest.mark.parametrize(
    ("amx", "precision", "device", "expected"),
    [
        (True, "auto", "auto", ("cpu", "bfloat16", "this CPU multiplies in bfloat16 (AMX)")),
        (False, "auto", "auto", ("cpu", "float32", "this CPU has no fast bfloat16 (AMX)")),
        (False, "auto", "cpu", ("cpu", "float32", "this CPU has no fast bfloat16 (AMX)")),
        (True, "float32", "cpu", ("cpu", "float32", "asked for")),
        (False, "bfloat16", "cpu", ("cpu", "bfloat16", "asked for")),
    ],
)
def test_choice_without_a_gpu(
    no_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    amx: bool,
    precision: PrecisionName,
    device: DeviceName,
    expected: tuple[str, str, str],
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    chosen = choose_precision(precision, device)
    assert (chosen.device.type, chosen.name, chosen.reason) == expected
