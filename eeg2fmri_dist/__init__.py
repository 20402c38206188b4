"""Distributed training suite that learns fMRI volumes from simultaneously recorded EEG."""

__version__ = "0.2.0"
