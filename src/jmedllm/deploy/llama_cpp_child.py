"""Child process of `llama_cpp`: serves a GGUF file with llama.cpp until its standard input closes."""

import json
import os
import sys
from typing import Any

from jmedllm.signals import ignore_signals


def main(settings: dict[str, Any]) -> None:
    """Serve on a free port of 127.0.0.1 and print the address.

    Args:
        settings: `file`; `key`, the API key; `slots`, the number of answers at the same time; `context`, the number of
            tokens of each; `exact`, to keep the KV cache in float32 without flash attention; `threads`.
    """
    import xllamacpp as llama

    params = llama.CommonParams()
    params.model.path = settings["file"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.n_parallel = settings.get("slots", 1)  # answers of parallel slots can differ
    params.n_ctx = params.n_parallel * settings.get("context", 4096)  # slots share it
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.get("threads", 1)
    params.n_gpu_layers = 0
    params.warmup = False
    params.fit_params = False
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of earlier prompts
    params.ui = False
    params.verbosity = 1  # errors only
    params.use_jinja = True
    if settings.get("exact"):
        params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    server = llama.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # at once, even while it computes


if __name__ == "__main__":
    # systemd sends SIGTERM to all processes of a service, and answers that are being written must end first.
    ignore_signals()
    main(json.loads(sys.stdin.readline()))  # not an argument, which other users could read
