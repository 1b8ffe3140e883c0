"""What learns from finished trials to rank candidates: graph encoding and a DGL graph network."""
