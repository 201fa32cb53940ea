"""Tiny random models that the tests make for themselves."""
