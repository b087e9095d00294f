"""Message <-> model, pure, one noun a file.

A value that breaks a rule is FIELD_INVALID with its path in the request.
"""
