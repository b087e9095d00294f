"""Generated from proto/fluyt/v1 by clients/python/generate.py; not to be edited."""
