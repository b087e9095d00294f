"""Metrics: what the engine and its containers do, in figures that a monitoring system collects."""
