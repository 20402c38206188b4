"""How every command starts, answers signals and ends. Called by `launch/` and `python -m` doors."""
