"""The engine's records on disk: one SQLite file, one connection, one thread."""
