"""Further processes in running containers."""
