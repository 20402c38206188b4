"""Get the Harvard-Oxford atlas, which may not come with this package, under its license."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from eeg2fmri_dist.errors import ConfigError, LaunchError, SuiteError
from eeg2fmri_dist.files.atomic import replacing
from preprocessing.template.atlas import FILES, atlas_folders, read_labels

LICENSE = """\
Harvard-Oxford cortical and subcortical structural atlases, (c) the Harvard Center for Morphometric
Analysis and the FMRIB Center, University of Oxford; distributed with FSL under the FSL license:
free for NON-COMMERCIAL use only, without warranty. The whole text:
https://fsl.fmrib.ox.ac.uk/fsl/docs/#/license"""


def fetch_atlas(folder: Path, source: Path | None = None) -> list[Path]:
    """Put the two files of the Harvard-Oxford atlas into a folder; each is whole or not there.

    Parameters
    ----------
    folder : Path
        Where they go; made where it is not there.
    source : Path or None
        Folder that holds FSL's files; None = download them (`nilearn.datasets`, from NITRC).

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ConfigError
        If `source` lacks a file.
    DataError
        If a file is not the expected atlas.
    LaunchError
        If they cannot be downloaded.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = _download(Path(scratch)) if source is None else _local(source)
        for name, path in found.items():
            read_labels(path, name)  # refuses what is not the atlas, before anything is written
        written = [folder / path.name for path in found.values()]
        for path, place in zip(found.values(), written, strict=True):
            with replacing(place) as part:
                shutil.copyfile(path, part)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m preprocessing.template fetch``; return the exit code."""
    options = _parser().parse_args(arguments)
    folder = options.folder or atlas_folders()[-1]
    print(LICENSE)
    if options.dry_run:
        print(f"\nwould put {', '.join(FILES.values())} into {folder}")
        return 0
    try:
        if not options.accept_license:
            raise ConfigError(
                "the license was not accepted",
                remedy="read it, then run the same command with --accept-license",
            )
        written = fetch_atlas(folder, options.source)
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {folder}: cannot be written ({error.strerror})", file=sys.stderr)
        return LaunchError.exit_code
    print("\n" + "\n".join(f"wrote {path}" for path in written))
    if folder not in atlas_folders():
        print(f"give atlas.path={folder} to preprocessing and prediction")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m preprocessing.template",
        description="Files of the standard space that do not come with the package.",
        epilog="exit codes: 0 done, 2 license or --from, 3 not the atlas, 4 no network or no space",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    meaning = "get the Harvard-Oxford atlas (free for non-commercial use)"
    fetch = verbs.add_parser("fetch", help=meaning, description=meaning)
    fetch.add_argument(
        "folder",
        type=Path,
        nargs="?",
        help="default: nilearn's data folder, where it is looked for",
    )
    fetch.add_argument(
        "--accept-license",
        "--accept-license",
        action="store_true",
        help="you have read and accept it",
    )
    fetch.add_argument(
        "--from", dest="source", type=Path, help="copy from this folder instead of downloading"
    )
    fetch.add_argument("--dry-run", action="store_true", help="say what would be done")
    return parser


def _local(source: Path) -> dict[str, Path]:
    missing = [file for file in FILES.values() if not (source / file).is_file()]
    if missing:
        raise ConfigError(
            f"does not hold {', '.join(missing)}",
            where=source,
            remedy="give the folder HarvardOxford of an FSL installation",
        )
    return {name: source / file for name, file in FILES.items()}


def _download(scratch: Path) -> Mapping[str, Path]:
    from nilearn.datasets import fetch_atlas_harvard_oxford

    try:
        for kind in ("cort", "sub"):
            fetch_atlas_harvard_oxford(f"{kind}-maxprob-thr25-2mm", data_dir=scratch, verbose=0)
    # Whatever the network, the server or an incomplete archive raises.
    except Exception as error:
        raise LaunchError(
            f"the atlas could not be downloaded ({type(error).__name__}: {error})",
            remedy="try again where there is a network, or give --from a folder that has it",
        ) from error
    return _local(scratch / "fsl" / "data" / "atlases" / "HarvardOxford")
