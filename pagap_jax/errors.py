"""Errors that end a job with one clear message, and the exit code that says what to do next."""

LONGEST_MESSAGE = 4000  # characters


class PagapError(Exception):
    """Base of every error that is shown to the user as one message, without a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        """The message, its middle cut out where it quotes a whole file: both ends say most."""
        text = super().__str__()
        if len(text) <= LONGEST_MESSAGE:
            return text
        half = LONGEST_MESSAGE // 2
        return f"{text[:half]} [...] {text[-half:]}"


class ConfigError(PagapError):
    """A gin file, binding, path or checkpoint doesn't fit; names the file and line or key."""

    exit_code = 2


class DataError(PagapError):
    """A data file doesn't hold what was expected; names the file, line and field."""

    exit_code = 2


class GateError(PagapError):
    """A stage of a study missed a bar that everything after it needs."""

    exit_code = 2


class NotANumberError(PagapError):
    """A loss or a gradient stopped being a number; names the step and the examples."""

    exit_code = 3


class RetryError(PagapError):
    """Preempted, or a resource was away for a moment: the same command may succeed."""

    exit_code = 42


class NoRoomError(RetryError):
    """A disk is full, or a quota used up: nothing half-written counts, and room may be made."""


class StoppedError(RetryError):
    """Asked to stop (SIGTERM): the machine is about to be taken away."""


class InterruptError(StoppedError):
    """Asked to stop by Ctrl-C (SIGINT): nobody is to start it again unasked."""

    exit_code = 130
