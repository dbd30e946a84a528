"""From gin files and command-line overrides to a running job, or to one clear message."""

from pagap_jax.configuration.command_line import job_usage, parse_command_line, usage
from pagap_jax.configuration.effective import Configuration, parse
from pagap_jax.configuration.gin_files import find_gin_file, packaged_directory
from pagap_jax.configuration.running import load_job, run_job

__all__ = [
    "Configuration",
    "find_gin_file",
    "job_usage",
    "load_job",
    "packaged_directory",
    "parse",
    "parse_command_line",
    "run_job",
    "usage",
]
