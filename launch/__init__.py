"""How each job starts on Cloud TPU pods. README.md says which way to choose."""
