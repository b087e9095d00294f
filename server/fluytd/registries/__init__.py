"""Registries as callers and settings speak of them."""
