"""Rows of results in, table, figures and one report out; reads rows only, never imports jax."""
