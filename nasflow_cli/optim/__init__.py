"""Brackets, densities, BOHB and the turns. NumPy, ConfigSpace and hpbandster; no torch."""
