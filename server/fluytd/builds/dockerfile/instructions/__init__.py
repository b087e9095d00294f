"""Each instruction's syntax: from the parts of a line to the typed value. A file a family."""
