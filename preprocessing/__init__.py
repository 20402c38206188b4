"""Recordings of simultaneous EEG and fMRI -> one HDF5 store; and simulated recordings to try it on.

A recording's way: `layouts` finds it as a `recordings.Recording`, `job` decides whether its shard
is up to date, `eeg` and `bold` (with `artifacts` and `template`) compute the shard on the workers
of `cluster`, `quality` draws its page, and `job` merges the shards. `simulation` stands beside:
nothing here imports it.

Called from outside: `job.pipeline.preprocess` and `job.planning.plan`; `simulation.simulate` and
`simulation.plan`; for predictions from new EEG `eeg.new_recording`, `quality.eeg_alone`,
`bold.scan_on_grid` and `template.atlas`; by layouts of your own `recordings`. Never imports torch
or deepspeed.
"""
