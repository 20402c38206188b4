"""launch/sweep.py, but its trials only pretend to train."""

import runpy
from pathlib import Path

from eeg2fmri_dist.sweep import search

FAKE = str(Path(__file__).with_name("fake_train.py"))

if __name__ == "__main__":
    search.launch_script = lambda verb: FAKE
    runpy.run_path(str(Path(__file__).parents[2] / "launch" / "sweep.py"), run_name="__main__")
