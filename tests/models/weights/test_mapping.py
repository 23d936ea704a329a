"""Files become parameters, and parameters become files again, by transformers' rules."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jmedllm.models.loading import load_network, load_structure
from jmedllm.models.weights.mapping import conversions
from tiny_classes import CLASSES


@pytest.mark.parametrize("name", CLASSES)
def test_files_become_parameters_and_parameters_files(name: str, model_of: Callable[[str], Path]) -> None:
    folder = model_of(name)
    stored = load_file(folder / "model.safetensors")
    parameters = load_network(folder, torch.float32, torch.device("cpu")).state_dict()
    found = conversions(load_structure(folder), stored)
    for conversion in found:
        made = conversion.to_parameters({key: stored[key] for key in conversion.names})
        for key, value in made.items():
            assert torch.equal(value, parameters[key]), key
        for key, value in conversion.to_stored(made).items():
            assert torch.equal(value, stored[key]), key
    left_out = stored.keys() - {key for conversion in found for key in conversion.names}
    assert all("vision" in key or "visual" in key or "multi_modal" in key for key in left_out)
