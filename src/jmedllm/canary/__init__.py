"""Canaries: made-up identifiers in copies of documents, which show whether a name can be drawn from the weights.

    forms ─► plant ─► secret list ─► check: rank and extract ─► groups

`plant` writes a copy of training data with canaries and the secret list. After training, `check` measures how likely
the model finds each secret among others of the same form, and whether it writes it by itself (Carlini et al. 2019).
"""
