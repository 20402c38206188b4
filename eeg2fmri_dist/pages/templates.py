"""Pages and cards from templates: one file that loads nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import eeg2fmri_dist

_OWN = "eeg2fmri_dist"  # whose pages/base.html.j2 and pages/macros.html.j2 all templates share


def render(
    template: str, shown: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None
) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
        Path of the file from its top package on, as in ``preprocessing/quality/page.html.j2``;
        templates name each other in the same way. All that is not markup of their own is escaped,
        except in Markdown (``.md.j2``).
    shown : mapping of str to object
        What it shows beside ``version``.
    filters : mapping of str to callable, optional
        What it calls beside ``base64``.

    Returns
    -------
    str
        HTML or Markdown.

    Raises
    ------
    jinja2.UndefinedError
        If the template shows something that it was not given.
    """
    from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined

    packages = {_OWN, template.partition("/")[0]}
    environment = Environment(
        loader=PrefixLoader({package: PackageLoader(package, "") for package in packages}),
        autoescape=_is_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["version"] = eeg2fmri_dist.__version__
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    environment.filters.update(filters or {})
    return environment.get_template(template).render(shown)


def _is_escaped(template: str | None) -> bool:
    return template is None or not template.endswith(".md.j2")
