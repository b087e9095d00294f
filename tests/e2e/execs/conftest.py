"""The engine of the container tests, for further processes in them."""

from tests.e2e.containers.conftest import container_engine, engine

__all__ = ["container_engine", "engine"]
