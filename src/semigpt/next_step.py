"""What to do next where a run ended above the 5-gram: one line, from what the run knows."""

from __future__ import annotations

from semigpt.config import Recipe
from semigpt.run import Finished

__all__ = ["what_next"]

# The best weights of a run that still learnt stand at its end; before this fraction of it they
# say that the rest was memorised.
MEMORISED = 0.8


def what_next(recipe: Recipe, finished: Finished) -> str:
    """What makes the next model better than counting; empty where this one is, or was stopped."""
    best, baselines = finished.best.bits_per_character, finished.baselines
    if baselines is None or not finished.complete or best <= baselines.kneser_ney_5:
        return ""
    above = f"{best - baselines.kneser_ney_5:.2f} bits above a 5-gram"
    run = finished.run.path
    if "size" not in recipe.rung.auto:
        return f"{above}: a `{recipe.kind}` sees too little of the text; --model gpt sees more"
    if recipe.start.folder is None and finished.best.step < MEMORISED * finished.step:
        cure = (
            f"it was best at step {finished.best.step:,} of {finished.step:,} and has memorised "
            "the text since: more text helps"
        )
    else:
        minutes = max(round(finished.seconds / 60), 1)
        cure = f"it was still learning: semigpt train --resume {run} --minutes +{minutes}"
    if recipe.model.ngram_order is None:
        return (
            f"{above}: --memory keeps such counts beside the net and is as a rule below them in "
            f"the same time; without, {cure}"
        )
    return f"{above}: {cure}"
