"""An EEG file -> features per TR."""
