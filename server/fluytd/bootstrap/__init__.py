"""The composition root: the only package that names concrete backends. It wires the engine, starts it, takes it apart.

A file a part of the house: `base` (roots, records, workers), `images`, `containers`, `upkeep` (collection and repair),
`facts` (what the engine tells of itself), and `engine`, which puts them together. A new noun gets a file here with a
`..._of(base, ...)` that makes its service, and a line in `engine` for its servicer.
"""

from fluytd.bootstrap.engine import Engine

__all__ = ["Engine"]
