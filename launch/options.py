"""What all engines share: a job's environment, which ends are restarted, and checked options.

Every value is checked while the command line is read, so a bad one ends the command with exit code
2 and a sentence that says what was found and what was expected, before anything is sent.
"""

import argparse
import re
from collections.abc import Callable, Sequence

from pagap_jax.accelerators import Slice, parse_slice
from pagap_jax.errors import ConfigError, RetryError

# JAX's own port isn't among those that every network lets through between TPU hosts; this one is.
ENVIRONMENT = {"PAGAP_PROCESSES": "auto", "JAX_COORDINATOR_PORT": "8476"}
# Asked to come back; aborted (a process that lost its peers), killed, terminated.
RESTART_CODES = (RetryError.exit_code, 134, 137, 143)
# Of Cloud Storage FUSE: a checkpoint is moved into place as a folder, which it refuses unless told.
MOUNT_OPTIONS = ("implicit-dirs", "rename-dir-limit=200000")
LONGEST_NAME = 28  # what each engine's own prefixes and suffixes leave of a DNS label's 63

LABEL = r"[a-z]([-a-z0-9]*[a-z0-9])?"
IMAGE = r"[a-z0-9][\w./-]*(:\d+/[\w./-]+)?(:\w[\w.-]*|@sha256:[0-9a-f]{64})"


def matching(pattern: str, expected: str, longest: int = 63) -> Callable[[str], str]:
    """An argparse type: text that matches a pattern as a whole."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text) or len(text) > longest:
            raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
        return text

    return check


name = matching(
    LABEL,
    f"at most {LONGEST_NAME} lower-case letters, digits and hyphens, a letter first and no hyphen"
    " last",
    LONGEST_NAME,
)
kubernetes_name = matching(LABEL, "a Kubernetes name: lower-case letters, digits and hyphens")
project = matching(r"([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]", "a project's id", 93)
zone = matching(r"[a-z]+-[a-z]+\d+-[a-z0-9]+", "a zone as in us-east5-a")
resource = matching(r"[A-Za-z0-9][-\w./:@]*", "a name or path without spaces", 256)
bucket = matching(r"[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9]", "a bucket's name without gs://", 63)
image = matching(IMAGE, "an image with its tag or digest, as in REGION/PROJECT/pagap:1", 512)


def at_least(lowest: int) -> Callable[[str], int]:
    """An argparse type: a whole number."""

    def check(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or int(text) < lowest:
            raise argparse.ArgumentTypeError(
                f"found {text!r}, expected a whole number of at least {lowest}"
            )
        return int(text)

    return check


def slice_of_chips(text: str) -> Slice:
    """An argparse type: 'v5p:4x4x4' or 'v5p-128'."""
    try:
        return parse_slice(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def variable(text: str) -> tuple[str, str]:
    """An argparse type: NAME=VALUE of the environment."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", key):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=VALUE")
    return key, value


def environment(given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What a job's processes see: ours, and what the user gives on top."""
    return {**ENVIRONMENT, **dict(given)}


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Options of whatever starts a job."""
    parser.add_argument(
        "--env", type=variable, action="append", default=[], metavar="NAME=VALUE",
        help="for the job, e.g. JAX_COMPILATION_CACHE_DIR=gs://BUCKET/compiled",
    )  # fmt: skip
    parser.add_argument(
        "arguments", nargs="+", help="after --: what follows `pagap`, JOB --gin_file=... and so on"
    )
