"""Signals of a batch system before there is anything to save."""

import signal
import subprocess
import sys

import pytest

from eeg2fmri_dist.cli.signals import BATCH_SIGNALS

WAITING = """
import signal, threading
from eeg2fmri_dist.cli.signals import leave_on_signals
leave_on_signals()
threading.Thread(target=threading.Event().wait).start()  # would keep an exiting process alive
print("ready", flush=True)
try:
    signal.pause()
except BaseException:
    print("caught", flush=True)
"""


@pytest.mark.parametrize("number", BATCH_SIGNALS)
def test_a_batch_signal_asks_to_be_started_again(number):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 75
    assert output == ""
    assert f"stopped by {signal.Signals(number).name}" in errors
