"""Data sets, the trainer, checkpoints, and evaluators that turn a trial into a score."""
