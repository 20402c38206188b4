"""A session joins the other ranks once, and leaves them once, however a training ends."""

import dataclasses
import signal

import pytest
import torch

from eeg2fmri_dist.errors import LaunchError, StoppedError
from eeg2fmri_dist.training.distributed import session
from eeg2fmri_dist.training.distributed.preemption import StopAskedError, StopRequest
from eeg2fmri_dist.training.distributed.ranks import Ranks

ALONE = Ranks(0, 1, 0, 1, "alone")


class Heartbeat:
    """Notes when it ends; knows of a rank that is gone."""

    def __init__(self, seen):
        self.seen = seen

    def look_around(self):
        return "  rank 1: then silent: frozen or dead"

    def close(self):
        self.seen.append("heartbeat closed")


@pytest.fixture
def seen(monkeypatch):
    """What a session does to the world, in order; it starts no processes and threads."""
    seen = []

    def join(_ranks, _stop):
        seen.append("joined")
        return torch.device("cpu")

    monkeypatch.setattr(session, "start_process_group", join)
    monkeypatch.setattr(session, "leave_process_group", lambda: seen.append("left"))
    monkeypatch.setattr(session, "Heartbeat", lambda _ranks, _timeout_s: Heartbeat(seen))
    return seen


@pytest.fixture
def stop():
    stop = StopRequest()
    yield stop
    stop.close()


def test_what_was_joined_is_left_after_the_heartbeat_has_ended(seen, stop):
    with session.open_session(ALONE, stop, 60.0) as opened:
        assert (opened.ranks, opened.device, opened.stop) == (ALONE, torch.device("cpu"), stop)
        assert seen == ["joined"]
        with pytest.raises(dataclasses.FrozenInstanceError):
            opened.ranks = None
    assert seen == ["joined", "heartbeat closed", "left"]


def test_a_stop_before_the_first_step_is_exit_code_75(seen, stop):
    signal.raise_signal(signal.SIGTERM)
    with (
        pytest.raises(StoppedError, match="SIGTERM") as stopped,
        session.open_session(ALONE, stop, 60.0),
    ):
        stop.note_agreed(signal.SIGTERM)
    assert stopped.value.exit_code == 75
    assert seen[1:] == ["heartbeat closed", "left"]


def test_a_stop_while_ranks_join_leaves_nothing_to_close(seen, stop, monkeypatch):
    def stopped(_ranks, _stop):
        raise StopAskedError

    monkeypatch.setattr(session, "start_process_group", stopped)
    with pytest.raises(StoppedError), session.open_session(ALONE, stop, 60.0):
        pytest.fail("there is no session")
    assert seen == []


def test_a_rank_that_went_away_is_named(seen, stop):
    with (
        pytest.raises(LaunchError, match="rank 1: then silent"),
        session.open_session(ALONE, stop, 60.0),
    ):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:20000")
    assert seen[1:] == ["heartbeat closed", "left"]


def test_another_error_is_not_taken_for_a_lost_rank(seen, stop):
    with (
        pytest.raises(RuntimeError, match="shapes do not match"),
        session.open_session(ALONE, stop, 60.0),
    ):
        raise RuntimeError("shapes do not match")
    assert seen[1:] == ["heartbeat closed", "left"]
