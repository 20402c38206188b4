"""Temporary TLS credentials by which the processes of one Dask job know each other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from eeg2fmri_dist.errors import LaunchError

# Longer than any job; a key whose scheduler has gone opens nothing.
_LIFETIME_DAYS = 60


def make_credentials(path: Path) -> None:
    """Write a new key and its self-signed certificate, in one PEM file that only the user reads.

    Whoever presents this certificate is let in; nobody else can have signed it.

    Parameters
    ----------
    path : Path
        New file.

    Raises
    ------
    LaunchError
        If the program ``openssl`` is missing or fails.
    """
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-batch", "-subj", "/CN=eeg2fmri_dist", "-days", str(_LIFETIME_DAYS)),
        *("-keyout", "/dev/stdout", "-out", "/dev/stdout"),
    ]
    try:
        pem = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        raise LaunchError(
            "the program openssl, which makes the keys of the Dask job, is not there",
            remedy="load or install OpenSSL, or set cluster.name to local",
        ) from None
    except subprocess.SubprocessError as error:
        raise LaunchError(f"openssl made no keys for the Dask job: {error}") from error
    # Never readable by others, not for a moment.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
