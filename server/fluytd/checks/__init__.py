"""Stored content read again and compared with its digests."""
