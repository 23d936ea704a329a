"""Prompt packs: the prompt of a question, the same in training, evaluation and serving."""

from jmedllm.evaluation.prompts.pack import PromptPack, load_pack, pack_names
from jmedllm.evaluation.prompts.render import Prompt, answer_text, messages, prompt_hash, prompt_text, render
from jmedllm.evaluation.prompts.template import AnswerForm, PromptTemplate

__all__ = [
    "AnswerForm",
    "Prompt",
    "PromptPack",
    "PromptTemplate",
    "answer_text",
    "load_pack",
    "messages",
    "pack_names",
    "prompt_hash",
    "prompt_text",
    "render",
]
