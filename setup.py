"""Says what pyproject.toml can't: the gin files at the top ship inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["pagap_jax*"]), "pagap_jax.gin_configs"],
    package_dir={"pagap_jax.gin_configs": "gin_configs"},
)
