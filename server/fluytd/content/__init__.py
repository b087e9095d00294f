"""Blobs: an OCI image layout that any tool can read."""
