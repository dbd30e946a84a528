"""Who of a launch has come, before JAX waits for all of them.

JAX ends a process that waits in vain without saying for whom. So the processes meet once before
that, at the coordinator's port, which is free again afterwards: the first of them tells the others
who is missing after the time limit, and who runs other code.
"""

import contextlib
import hashlib
import os
import re
import socket
import time
from pathlib import Path

from pagap_jax.errors import ConfigError, PagapError, RetryError

RETRY_EVERY = 0.2  # seconds, until the first process listens
ANSWER_WITHIN = 10.0  # seconds beyond the time limit, for the answer to arrive
LINE = 4096  # bytes of a message, at most
GO = "go"
VERDICTS = (GO, "missing", "code")  # first words of what the first process answers
GREETING = re.compile(r"(\d{1,6}) (\w{1,64})")  # which process, and its code


def code_digest() -> str:
    """Digest of the package's source files: two installations of one version may differ."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def port_of(address: str) -> int | None:
    """The port of 'host:port'; None where there is none from 1 to 65535."""
    found = re.fullmatch(r".+:(\d{1,5})", address)
    return int(found[1]) if found and 0 < int(found[1]) < 2**16 else None


def meet(address: str, count: int, index: int, within: float, code: str | None = None) -> None:
    """Returns when all `count` processes have come to the address, or none of them goes on.

    Args:
        address: 'host:port', of process 0.
        within: seconds from now.
        code: digest of this process's code.

    Raises:
        RetryError: not all came in time; names those that didn't. Or the port is taken.
        ConfigError: some run other code than the first; names them.
    """
    code = code or code_digest()
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + within
    if index == 0:
        verdict = _call(int(port), count, code, deadline, within)
    else:
        verdict = _answer(host, int(port), f"{index} {code}", deadline)
    kind, _, message = verdict.partition(" ")
    if kind != GO:
        where = f"process {index} of {count} at {address}: "
        errors: dict[str, type[PagapError]] = {"code": ConfigError}
        raise errors.get(kind, RetryError)(where + (message or _nobody(within)))


def _call(port: int, count: int, code: str, deadline: float, within: float) -> str:
    """As the first process: waits for the others, tells all of them the same."""
    codes = {0: code}
    guests: list[socket.socket] = []
    try:
        server = socket.create_server(("", port), backlog=count)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return (
            f"taken port {port} can't be listened on ({reason}): another program of this host has"
            " it, an earlier launch that is about to end, say. Run the same command again, or"
            " choose another port on all hosts (JAX_COORDINATOR_PORT, or that of"
            " JAX_COORDINATOR_ADDRESS)"
        )
    with server:
        while len(codes) < count and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                guest, _ = server.accept()
            except OSError:  # nobody came
                continue
            guests.append(guest)
            guest.settimeout(min(1.0, left))
            with contextlib.suppress(OSError, ValueError):  # someone who has lost his way
                if said := GREETING.fullmatch(guest.recv(LINE).decode()):
                    codes |= {int(said[1]): said[2]} if 0 < int(said[1]) < count else {}
            guest.settimeout(ANSWER_WITHIN)
        verdict = _verdict(codes, count, code, within)
        for guest in guests:
            with guest, contextlib.suppress(OSError):
                guest.sendall(verdict.encode())
    return verdict


def _verdict(codes: dict[int, str], count: int, code: str, within: float) -> str:
    missing = sorted({*range(count)} - {*codes})
    if missing:
        names = ", ".join(map(str, missing))
        return (
            f"missing started on {len(codes)} of {count} hosts: nothing was heard of process"
            f" {names} within {within:.0f} s. Run the same command on all of them"
            " (--worker=all), and let the port of the coordinator through (JAX_COORDINATOR_PORT)"
        )
    if different := [index for index in sorted(codes) if codes[index] != code]:
        return (
            f"code process {', '.join(map(str, different))} runs other code than the first: install"
            " the same on all"
        )
    return GO


def _answer(host: str, port: int, message: str, deadline: float) -> str:
    """As one of the others: says who this is, and waits for what the first process says."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=left) as line:
                line.settimeout(left + ANSWER_WITHIN)
                line.sendall(message.encode())
                verdict = line.recv(LINE).decode()
                if verdict.partition(" ")[0] in VERDICTS:  # else another program has the port
                    return verdict
        except (OSError, ValueError):
            pass
        time.sleep(RETRY_EVERY)
    return ""


def _nobody(within: float) -> str:
    return (
        f"nothing was heard of the first process within {within:.0f} s: is it started, and is its"
        " port let through (JAX_COORDINATOR_PORT)?"
    )
