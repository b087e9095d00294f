"""What happened, numbered, kept and watched."""
