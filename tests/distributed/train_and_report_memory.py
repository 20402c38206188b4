"""Train as `launch/train.py` does; print the highest memory of the process."""

import json
import sys
from pathlib import Path

from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.training.distributed.preemption import StopRequest
from eeg2fmri_dist.training.run import train

train(TrainConfig.model_validate(json.loads(sys.argv[1])), StopRequest())
# Unlike ru_maxrss this does not begin with the memory of the process that started this one.
status = Path("/proc/self/status").read_text()
peak_kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
print(f"PEAK {1024 * int(peak_kib)}")
