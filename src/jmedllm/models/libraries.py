"""Configure the Hugging Face libraries: no output on the terminal."""

import warnings
from logging import ERROR, getLogger


def be_quiet() -> None:
    """Silence the libraries, so that the terminal shows only our own progress and errors."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    getLogger("bitsandbytes").setLevel(ERROR)
    getLogger("accelerate.big_modeling").setLevel(ERROR)
    logging.disable_progress_bar()
    # peft still calls a method that transformers has renamed; users cannot change that.
    warnings.filterwarnings("ignore", message=r"`is_gradient_checkpointing`", category=FutureWarning)
    # peft matches the layers of a pattern with modules only and misses the experts, to which it does apply the
    # pattern. It detects by itself that GPT-2's layers are transposed.
    warnings.filterwarnings("ignore", message=r"The following (rank|alpha)_pattern keys", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message=r"fan_in_fan_out is set to False", category=UserWarning)
