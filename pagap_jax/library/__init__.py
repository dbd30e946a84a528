"""Trained models as objects that take and give texts: `load_policy`, `load_preference_model`."""
