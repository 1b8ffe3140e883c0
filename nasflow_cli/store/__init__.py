"""The run directory: the journal is the only truth, everything else in it can be made again."""
