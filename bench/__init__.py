"""Benchmarks: this engine beside every peer that is installed, in one run. Figures are never tests."""
