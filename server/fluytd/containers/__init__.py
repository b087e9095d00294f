"""Containers: what was asked of them, where they stand, and the verbs that change that."""
