"""The stages of a run, one file each: what the stage depends on, and how it is done."""

from jmedllm.pipeline import Step
from jmedllm.stages import corpus, eval, merge, mfpt, mpeft, report

STEPS: tuple[Step, ...] = (corpus.STEP, mfpt.STEP, mpeft.STEP, merge.STEP, eval.STEP, report.STEP)
"""In the order in which a run carries them out."""
