"""File names of BIDS: their entities, and which files apply to a recording by inheritance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities of a file name, such as {"sub": "01", "task": "rest"}."""
    *pairs, _suffix = path.name.split(".", 1)[0].split("_")
    return dict(pair.split("-", 1) for pair in pairs if "-" in pair)


def applicable_files(path: Path, ending: str, root: Path) -> Iterator[Path]:
    """Files that apply to another one by the inheritance principle of BIDS 1.10.

    Parameters
    ----------
    path : Path
        The file that they describe.
    ending : str
        Suffix and extension, such as ``bold.json``.
    root : Path
        Folder to look in last, on the way up.

    Yields
    ------
    Path
        The one that overrides the others first.
    """
    entities = entities_of(path).items()
    for folder in path.parents:
        applicable = [
            file
            for file in folder.glob(f"*{ending}")
            if _is_plain(file, ending) and entities_of(file).items() <= entities
        ]
        yield from sorted(applicable, key=lambda file: len(entities_of(file)), reverse=True)
        if folder == root:
            return


def _is_plain(file: Path, ending: str) -> bool:
    """Whether a name consists of entities and this ending alone."""
    *pairs, last = file.name.split("_")
    return last == ending and all("-" in pair for pair in pairs)
