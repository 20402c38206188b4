"""Pages from templates: one file with style, script and figures, which loads nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import eeg2fmri_dist


def render(
    template: str, filters: Mapping[str, Callable[..., str]], shown: Mapping[str, Any]
) -> str:
    """Return a page; all that is not markup of its own is escaped.

    Parameters
    ----------
    template : str
        File, by its path in this package.
    filters : mapping of str to callable
        What the template calls beside ``base64``.
    shown : mapping of str to object
        What it shows beside ``css``, ``js`` and ``version``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("eeg2fmri_dist", ""),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    environment.filters.update(filters)
    return environment.get_template(template).render(
        css=Markup(environment.get_template("pages/page.css").render()),
        js=Markup(environment.get_template("pages/page.js").render()),
        version=eeg2fmri_dist.__version__,
        **shown,
    )
