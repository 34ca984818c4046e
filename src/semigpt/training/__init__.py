"""Training: steps, optimizers, the schedule, and what a run will take."""
