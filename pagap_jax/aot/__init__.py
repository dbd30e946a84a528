"""Ahead of time: what a job's programs are on a TPU slice, from their shapes and the compiler."""
