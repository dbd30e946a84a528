"""Command lines of what isn't a gin job: argparse, whose errors end as ours do."""

import argparse
from typing import NoReturn

from pagap_jax.errors import ConfigError


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, but bad arguments raise ConfigError, which is exit code 2 without a traceback."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (`{self.prog} --help`)")
