"""Dispatch: which waiting job runs where, and when."""
