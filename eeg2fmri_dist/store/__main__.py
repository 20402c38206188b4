"""Look at stores and merge them: ``python -m eeg2fmri_dist.store VERB ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eeg2fmri_dist.errors import StoreError, SuiteError
from eeg2fmri_dist.store import FORMAT_VERSION, Store, verify
from eeg2fmri_dist.store.exporting import export_recording
from eeg2fmri_dist.store.joining import append_stores, merge_stores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code (0 whole, 3 damaged or no store)."""
    parser = argparse.ArgumentParser(prog="python -m eeg2fmri_dist.store", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, meaning in (
        ("info", "print what is in the store"),
        ("verify", "check every chunk against its checksum; exit code 3 if one is damaged"),
    ):
        verbs.add_parser(verb, help=meaning, description=meaning).add_argument("file", type=Path)
    meaning = "write one recording as NIfTI, JSON and TSV"
    export = verbs.add_parser("export", help=meaning, description=meaning)
    export.add_argument("file", type=Path)
    export.add_argument("recording", help="as `info` names it, such as sub-32_run-01")
    export.add_argument("folder", type=Path, help="for the files; made where it is not there")
    meaning = "write a new store of the recordings of others, which must match"
    merging = verbs.add_parser("merge", help=meaning, description=meaning)
    merging.add_argument("output", type=Path, help="store to write; must not exist")
    meaning = "append the recordings of other stores to one, which is replaced when all is verified"
    appending = verbs.add_parser("append", help=meaning, description=meaning)
    appending.add_argument("file", type=Path)
    for joining in (merging, appending):
        joining.add_argument("sources", type=Path, nargs="+", metavar="store")
    options = parser.parse_args(arguments)
    try:
        lines = _act(options)
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines))
    return 0


def _act(options: argparse.Namespace) -> list[str]:
    if options.verb == "merge":
        return _summary(merge_stores(options.sources, options.output))
    if options.verb == "append":
        return _summary(append_stores(options.file, options.sources))
    store = Store(options.file)
    if options.verb == "export":
        return list(map(str, export_recording(store, options.recording, options.folder)))
    return _describe(store) if options.verb == "info" else _check(store)


def _summary(store: Store) -> list[str]:
    return [
        f"{store.path}: {store.n_samples} samples of {len(store.recordings)} recordings, "
        f"fingerprint {store.fingerprint}"
    ]


def _describe(store: Store) -> list[str]:
    layout = store.layout
    spacing_mm = " x ".join(f"{abs(layout.affine[axis, axis]):.2f}" for axis in range(3))
    frequencies, confounds = layout.frequencies_hz, store.confounds
    lines = [
        f"{store.path}: store format version {FORMAT_VERSION}, {store.path.stat().st_size:,} bytes",
        f"fingerprint  {store.fingerprint}",
        f"samples      {store.n_samples} of {len(store.recordings)} recordings",
        f"EEG          {len(layout.channel_names)} channels x {len(frequencies)} frequencies "
        f"({frequencies[0]:g} to {frequencies[-1]:g} Hz), {layout.eeg_unit}",
        f"BOLD         {' x '.join(map(str, layout.grid))} voxels of {spacing_mm} mm, "
        f"{layout.space}, {int(layout.mask.sum()):,} in the mask",
        f"atlases      {', '.join(sorted(layout.atlases)) or 'none'}",
        f"confounds    {', '.join(confounds.names) if confounds else 'none'}",
        f"access       {'mapped into memory' if store.is_mapped else 'compressed'}",
    ]
    lines += [
        f"  {entry.key}: {entry.n_samples} samples from {entry.first_sample}, TR {entry.tr_s:g} s"
        for entry in store.recordings
    ]
    lines += [
        f"  left out: {entry.recording}: {entry.state}: {' '.join(entry.reason.split())}"
        for entry in store.left_out
    ]
    return lines


def _check(store: Store) -> list[str]:
    problems = verify(store.path)
    if problems:
        raise StoreError(
            "\n  ".join([f"{len(problems)} problems", *problems]),
            where=store.path,
            remedy="run the same preprocessing command again: it rebuilds what is damaged",
        )
    return [f"{store.path}: whole, {store.n_samples} samples, fingerprint {store.fingerprint}"]


if __name__ == "__main__":
    sys.exit(main())
