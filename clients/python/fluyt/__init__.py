"""Client library of Fluyt. One module a noun; `fluyt.v1` holds the generated messages.

Importing this package imports nothing else: each module brings in only what it needs.
"""
