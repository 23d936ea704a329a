"""Settings of canaries in a recipe."""

from typing import Literal

from pydantic import Field

from jmedllm.canary.check import CheckConfig
from jmedllm.canary.plant import PlantConfig


class CanaryConfig(PlantConfig, CheckConfig):
    """Canaries in the training data, which the trained models are checked for. Such models are not for delivery."""

    into: Literal["corpus", "instructions"] = Field(
        "corpus", description="corpus: medical text, before it is de-identified; instructions: files of mpeft"
    )
