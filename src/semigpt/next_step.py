"""What to do next where a run ended above the 5-gram: one line, from what the run knows."""

from __future__ import annotations

from semigpt.config import Recipe
from semigpt.language import _
from semigpt.run_events import Finished

__all__ = ["what_next"]

# The best weights of a run that still learnt stand at its end; before this fraction of it they
# say that the rest was memorised.
MEMORISED = 0.8


def what_next(recipe: Recipe, finished: Finished) -> str:
    """What makes the next model better than counting; empty where this one is, or the run was
    stopped.
    """
    if not finished.complete:
        return ""
    best, baselines = finished.best.bits_per_character, finished.baselines
    if baselines is None or best <= baselines.kneser_ney_5:
        return ""
    above = _("{bits:.2f} bits above a 5-gram").format(bits=best - baselines.kneser_ney_5)
    run = finished.run.path
    if "size" not in recipe.rung.auto:
        return _("{above}: a `{rung}` sees too little of the text; --model gpt sees more").format(
            above=above, rung=recipe.kind
        )
    if recipe.start.folder is None and finished.best.step < MEMORISED * finished.step:
        cure = _(
            "it was best at step {best:,} of {steps:,} and has memorised the text since: more "
            "text helps"
        ).format(best=finished.best.step, steps=finished.step)
    else:
        minutes = max(round(finished.seconds / 60), 1)
        cure = _("it was still learning: semigpt train --resume {run} --minutes +{minutes}").format(
            run=run, minutes=minutes
        )
    if recipe.model.ngram_order is None and recipe.start.lora is None:
        return _(
            "{above}: --memory keeps such counts beside the net and is as a rule below them in the "
            "same time; without, {cure}"
        ).format(above=above, cure=cure)
    return f"{above}: {cure}"
