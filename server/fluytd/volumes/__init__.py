"""Volumes: data that outlives containers."""
