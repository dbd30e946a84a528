"""Online and offline preference optimisation of T5 in JAX, after Tang et al. 2024."""

__version__ = "0.1.0"
