"""Long work that lives apart from the connection that began it."""
