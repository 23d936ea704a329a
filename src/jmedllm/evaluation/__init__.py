"""Evaluation: benchmarks, prompts, scorers, and the evaluation of a model on tasks.

The modules, from the questions to the results:

* Questions: `question`, `gold` (right answers), `benchmarks`, `selection` (which items), `scorable` (which of them the
  scorers can score), `order` (of the choices).
* Prompts: `prompts`, `task` (questions of one benchmark with prompts and scorers).
* Samples: `model` (checked, not loaded), `decoding` (how tokens are chosen),
  `response_config` (decoding and thoughts of one model), `generate`, `records` (samples and scores
  on disk), `resume` (files and settings of a stored evaluation), `responses` (recorded by other tools),
  `thought_evidence` (which of them begin inside a thought).
* Scores: `reading` (answers in free text), `scorers`, `judge`, `score`, `rescore` (stored evaluations),
  `stored_questions` (their questions), `offline` (responses of other tools).
* Results: `result`, `statistics`, `proportions` (intervals of shares), `lengths` (of responses), `votes` (of several
  samples), `calibration`, `rotations`, `human_baseline`, `pictures` (items with them apart),
  `exam_years` (beside the release of the model).
* Everything together: `evaluate` (settings, benchmarks), `evaluate_task` (one model, one task), `sharding` (several
  processes), `export` (to lm-eval).
"""
