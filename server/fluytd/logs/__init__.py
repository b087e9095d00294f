"""Logs: reading what containers wrote, from any place, live or later."""
