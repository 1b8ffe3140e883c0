"""What `bench_train.py` compares: one network trained by the usual loop, by a hand-written loop, and by ours."""
