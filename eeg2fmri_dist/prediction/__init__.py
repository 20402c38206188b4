"""BOLD runs predicted from EEG: the job, its files, its pages. Called by `launch/predict.py`."""
