"""A trial as a job: its command, whether it fits into memory, submission through submitit."""
