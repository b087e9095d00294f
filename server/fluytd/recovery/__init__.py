"""What the daemon does before it serves: looks at what the last one left, decides, and puts it in order."""
