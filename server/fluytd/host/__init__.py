"""What this host is and what it allows."""
