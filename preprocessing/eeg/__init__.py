"""An EEG file of any format -> power of each channel and frequency per TR.

Call `features.eeg_features` for a recording with BOLD, `new_recording.model_eeg` for one without.
"""
