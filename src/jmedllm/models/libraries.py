"""How the Hugging Face libraries are to behave: no calls to the outside, no talk on the terminal."""

import os
import warnings
from logging import ERROR, getLogger


def go_offline() -> None:
    """Forbid any call to the hub, and telemetry; works only before the libraries are first imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def be_quiet() -> None:
    """Leave the terminal to our own progress lines and errors."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    getLogger("bitsandbytes").setLevel(ERROR)
    getLogger("accelerate.big_modeling").setLevel(ERROR)
    logging.disable_progress_bar()
    # peft still calls what transformers has renamed; nothing a user could do about it.
    warnings.filterwarnings("ignore", message=r"`is_gradient_checkpointing`", category=FutureWarning)
    # peft looks for the layers of a pattern among modules alone, and misses the experts that it does apply it to;
    # that GPT-2's layers are transposed it finds out by itself.
    warnings.filterwarnings("ignore", message=r"The following (rank|alpha)_pattern keys", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message=r"fan_in_fan_out is set to False", category=UserWarning)
