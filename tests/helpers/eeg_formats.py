"""EEG in formats that no library at hand writes: EEGLAB and EDF+."""

import numpy as np
from scipy.io import savemat


def write_set(path, signal_uv, names, sfreq_hz, onsets=(), with_fdt=False):
    """An EEGLAB file with events ``R128``, its samples inside or beside it."""
    events = np.zeros(len(onsets), dtype=[("type", "O"), ("latency", "O"), ("duration", "O")])
    for event, onset in zip(events, onsets, strict=True):
        event["type"], event["latency"], event["duration"] = "R128", float(onset + 1), 0.0
    places = np.zeros(len(names), dtype=[("labels", "O")])
    places["labels"] = names
    data: object = signal_uv.astype(np.float32)
    if with_fdt:
        signal_uv.T.astype("<f4").tofile(path.with_suffix(".fdt"))
        data = path.with_suffix(".fdt").name
    content = {
        "setname": "test",
        "nbchan": len(names),
        "pnts": signal_uv.shape[1],
        "trials": 1,
        "srate": float(sfreq_hz),
        "xmin": 0.0,
        "xmax": (signal_uv.shape[1] - 1) / sfreq_hz,
        "data": data,
        "chanlocs": places,
        "event": events,
        "icawinv": [],
        "icasphere": [],
        "icaweights": [],
    }
    savemat(path, {"EEG": content}, appendmat=False)
    return path


def write_edf(path, signal_uv, names, sfreq_hz, onsets=()):
    """An EDF+ file in records of 1 s, with annotations ``R128``."""
    n_records, size, onsets = signal_uv.shape[1] // sfreq_hz, 60, np.array(onsets)
    labels = [f"EEG {name}" if name != "ECG" else "ECG" for name in names] + ["EDF Annotations"]
    columns = [
        (labels, 16),
        ([""] * len(labels), 80),
        (["uV"] * len(names) + [""], 8),
        (["-3276.8"] * len(names) + ["-1"], 8),
        (["3276.7"] * len(names) + ["1"], 8),
        (["-32768"] * len(labels), 8),
        (["32767"] * len(labels), 8),
        ([""] * len(labels), 80),
        ([str(sfreq_hz)] * len(names) + [str(size)], 8),
        ([""] * len(labels), 32),
    ]
    fixed = [("0", 8), ("X X X X", 80), ("Startdate 01-JAN-2020 X X X", 80), ("01.01.20", 8)]
    fixed += [("00.00.00", 8), (str(256 * (len(labels) + 1)), 8), ("EDF+C", 44)]
    fixed += [(str(n_records), 8), ("1", 8), (str(len(labels)), 4)]
    header = "".join(text.ljust(width) for text, width in fixed)
    header += "".join(text.ljust(width) for texts, width in columns for text in texts)
    steps = np.rint(signal_uv / 0.1).astype("<i2")
    with path.open("wb") as file:
        file.write(header.encode("ascii"))
        for record in range(n_records):
            file.write(steps[:, record * sfreq_hz : (record + 1) * sfreq_hz].tobytes())
            notes = f"+{record}\x14\x14\0"
            for onset in onsets[record == onsets // sfreq_hz]:
                notes += f"+{onset / sfreq_hz}\x14R128\x14\0"
            file.write(notes.encode("ascii").ljust(2 * size, b"\0"))
    return path
