"""One part of gpu.py in a process of its own: python gpu_parts.py PART real|small FILE

Appends lines of JSON to FILE, which together are the results of the part: measured figures, the estimate of
`jmedllm plan`, or one line with the reason why there are none.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gpu_ceilings import measure_ceilings
from gpu_eval import evaluate_task
from gpu_peers import train_by_trl, train_with_paged_moments
from gpu_sizes import REAL, SMALL, TRAININGS, Sizes
from gpu_training import train

from jmedllm.errors import InputError, is_out_of_memory

WORKERS: Mapping[str, Callable[[str, Sizes], Iterator[dict[str, Any]]]] = {
    "ceilings": measure_ceilings,
    **dict.fromkeys(TRAININGS, train),
    "eval": evaluate_task,
    "peer-trl": train_by_trl,
    "peer-paged": train_with_paged_moments,
}


def work(name: str, size: str) -> Iterator[dict[str, Any]]:
    """Run a part; a missing package or too little memory is recorded as `failed`."""
    try:
        yield from WORKERS[name](name, {"real": REAL, "small": SMALL}[size])
    except (InputError, ImportError) as error:
        yield {"failed": str(error).splitlines()[0]}
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        yield {"failed": (str(error) or "out of host memory").splitlines()[0]}


if __name__ == "__main__":
    part, size, file = sys.argv[1:]
    with Path(file).open("a", encoding="utf-8") as handle:
        for found in work(part, size):
            print(json.dumps(found), file=handle, flush=True)
