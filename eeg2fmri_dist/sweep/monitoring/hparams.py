"""TensorBoard's HPARAMS tab: one session a trial, beside the curves of its run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from eeg2fmri_dist.sweep.folder import SweepFolder

_SUFFIX = ".hparams"
_STATUS = {
    TrialState.COMPLETE: api_pb2.Status.STATUS_SUCCESS,
    TrialState.PRUNED: api_pb2.Status.STATUS_SUCCESS,
    TrialState.FAIL: api_pb2.Status.STATUS_FAILURE,
}


def write_hparams(
    folder: SweepFolder, trials: list[FrozenTrial], metric: str, examples: Mapping[str, Any]
) -> None:
    """Write the values and the objective of every trial that has ended, once.

    Parameters
    ----------
    folder : SweepFolder
        Of the sweep.
    trials : list of FrozenTrial
        All of them; those that run are passed over.
    metric : str
        Name of the objective.
    examples : mapping
        A value of every key; a trial need not have them all.

    Notes
    -----
    torch's ``SummaryWriter.add_hparams`` writes the same records; these need no torch, whose import
    takes longer than all the rest of a sweep's start.
    """
    tag = f"sweep/{metric.replace('/', '_')}"
    for trial in trials:
        run = folder.run(trial.number)
        if trial.state in _STATUS and run.is_dir() and not any(run.glob(f"*{_SUFFIX}")):
            _write(trial, str(run), tag, examples)


def _write(trial: FrozenTrial, run: str, tag: str, examples: Mapping[str, Any]) -> None:
    writer = EventFileWriter(run, filename_suffix=_SUFFIX)
    for name, content in (
        (metadata.EXPERIMENT_TAG, {"experiment": _experiment(tag, examples)}),
        (metadata.SESSION_START_INFO_TAG, {"session_start_info": _start(trial)}),
        (metadata.SESSION_END_INFO_TAG, {"session_end_info": _end(trial)}),
    ):
        writer.add_event(Event(summary=_plugin_summary(name, content)))
    value = trial.value
    if value is not None:
        scalar = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(summary=scalar, step=0))
    writer.close()


def _experiment(tag: str, examples: Mapping[str, Any]) -> Any:
    return api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(name=name, type=_kind(value)) for name, value in examples.items()
        ],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag))],
    )


def _start(trial: FrozenTrial) -> Any:
    start = plugin_data_pb2.SessionStartInfo(group_name=f"trial {trial.number:04d}")
    for name, value in trial.params.items():
        kind = _kind(value)
        if kind == api_pb2.DataType.DATA_TYPE_BOOL:
            start.hparams[name].bool_value = value
        elif kind == api_pb2.DataType.DATA_TYPE_FLOAT64:
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    if trial.datetime_start is not None:
        start.start_time_secs = trial.datetime_start.timestamp()
    return start


def _end(trial: FrozenTrial) -> Any:
    end = plugin_data_pb2.SessionEndInfo(status=_STATUS[trial.state])
    if trial.datetime_complete is not None:
        end.end_time_secs = trial.datetime_complete.timestamp()
    return end


def _kind(value: Any) -> Any:
    if isinstance(value, bool):
        return api_pb2.DataType.DATA_TYPE_BOOL
    if isinstance(value, int | float):
        return api_pb2.DataType.DATA_TYPE_FLOAT64
    return api_pb2.DataType.DATA_TYPE_STRING


def _plugin_summary(tag: str, content: dict[str, Any]) -> Any:
    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    plugin = SummaryMetadata.PluginData(
        plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString()
    )
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])
