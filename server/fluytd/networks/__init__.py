"""Networks of containers: which there are, who has which address on them, and which ports of the host lead where."""
