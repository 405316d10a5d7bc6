"""A model's name → something that predicts. What serves or judges models builds on this package:

    from quickdraw_core.inference.ensemble import load_models

    models = load_models(["models:/quickdraw@champion"])     # or a run folder, checkpoint, run id
    log_probabilities = models.predict(drawings)             # DrawingBatch → float32 [N, K]
    words = models.label_map.words                           # what the K columns mean

`references.py` finds the checkpoint, `model.py` is one model on its device, `ensemble.py` one or
several as one. Predictions of a store's held-out drawings: `held_out.py` chooses the drawings,
`partial.py` takes their first strokes, `predict.py` predicts them, `predictions.py` is their
table, `cached_predictions.py` finds those of an earlier evaluation.
"""
