"""Figures as pages hold them: pictures with a caption and alternative text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MediaType = Literal["image/png", "image/svg+xml", "image/webp"]


@dataclass(frozen=True)
class Curve:
    """One quantity over training.

    Attributes
    ----------
    label : str
        Quantity with its unit ("loss", "PSNR (dB)").
    train, validation : sequence of (epoch, value)
        Either may be empty.
    """

    label: str
    train: Sequence[tuple[float, float]] = ()
    validation: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Figure:
    """An image with the words that go with it.

    Attributes
    ----------
    title, caption : str
        Shown above and below; may be empty.
    alt : str
        What the image shows, for readers who cannot see it.
    data : bytes
        Content of the image file.
    media_type : str
        ``image/png``, ``image/svg+xml`` or ``image/webp``.
    wide : bool
        Whether it needs a row of its own.
    name : str
        Unique on the page; empty where nothing refers to the figure.
    """

    title: str
    caption: str
    alt: str
    data: bytes
    media_type: MediaType
    wide: bool = False
    name: str = ""


@dataclass(frozen=True)
class FigureGroup:
    """Figures that are looked at together: a heading, a sentence, images."""

    title: str
    text: str
    figures: Sequence[Figure]
