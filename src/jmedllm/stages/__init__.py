"""The stages of a run, one file each: what the stage depends on, and how it is done."""

from jmedllm.pipeline import Stage
from jmedllm.stages import corpus, eval, merge, mfpt, mpeft, report

STAGES: tuple[Stage, ...] = (corpus.STAGE, mfpt.STAGE, mpeft.STAGE, merge.STAGE, eval.STAGE, report.STAGE)
"""In the order in which a run carries them out."""
