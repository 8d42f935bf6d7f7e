"""Fixtures of the read models' tests."""

from tests.projections.stores import each_store, place

__all__ = ["each_store", "place"]
