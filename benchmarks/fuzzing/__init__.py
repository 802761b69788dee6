"""Damaged and hostile files for every reader, and what became of reading them: see `benchmarks/fuzz.py`."""
