"""Settings of llama.cpp's server that differ from its defaults for a reason."""

import sys
from types import SimpleNamespace

import pytest

from jmedllm.deploy.llama_cpp_child import main


def test_no_prompt_is_kept_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())

    def started(_: object) -> None:
        raise StopIteration

    monkeypatch.setitem(sys.modules, "xllamacpp", SimpleNamespace(CommonParams=lambda: params, Server=started))
    with pytest.raises(StopIteration):
        main({"file": "model.gguf", "key": "k", "slots": 4, "context": 100})
    assert params.cache_ram_mib == 0 and params.n_ctx == 400 and params.hostnames == ["127.0.0.1"]
