"""Fluyt's daemon. It decides; `fluytd._core` does what touches bytes and the kernel."""

__version__ = "0.1.0"
