"""What a model is measured against: reference baselines, ridge, controls, the noise ceiling."""
