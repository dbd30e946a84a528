"""Raw files of comparisons, read to pairs: one file a format, and one registry of their names.

Readers only read: pairs that can't teach anything (empty, identical) are dropped for all sources
alike, after tokenising, in `data/preprocessors.py`.
"""
