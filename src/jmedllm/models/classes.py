"""Choose the transformers class of a model from its configuration."""

from typing import Any


def class_for(config: Any) -> Any:
    """Return the transformers class of a model: with its vision tower, if it has one.

    Some kinds of vision-language models also have a class for the language model alone. It is used if the
    configuration names it, because then the files contain no vision tower.

    Args:
        config: a transformers configuration.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    text = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    is_another = text != MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)
    names_text = is_another and text in (config.architectures or ())
    return (None if names_text else whole_class_for(config)) or AutoModelForCausalLM


def whole_class_for(config: Any) -> Any | None:
    """Return the class with the vision tower for this kind of model; None if it is a kind of language model."""
    from transformers import AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return AutoModelForImageTextToText if config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES else None


def sees(config: Any) -> bool:
    """Return whether a configuration is that of a vision-language model with its vision tower."""
    from transformers import AutoModelForImageTextToText

    has_tower = getattr(config, "vision_config", None) is not None
    return has_tower and class_for(config) is AutoModelForImageTextToText
