"""The stages of a run, one file each: what the stage depends on, and how it is done."""

from jmedllm.run import Step
from jmedllm.stages import corpus, exam, merge, mfpt, mpeft, report

STEPS: tuple[Step, ...] = (corpus.STEP, mfpt.STEP, mpeft.STEP, merge.STEP, exam.STEP, report.STEP)
"""In the order in which a run carries them out."""
