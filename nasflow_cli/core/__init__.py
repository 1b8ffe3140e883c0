"""Plain values that everything else speaks in. No torch, no files being written, no clocks."""
