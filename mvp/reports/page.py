"""The report page: one HTML file, pictures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvp.errors import printable
from mvp.files import write_bytes
from mvp.reports.sections import sections

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mvp: {{ report.head }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
tr.strong td { font-weight: 600; }
.warning { border-left: 4px solid #D55E00; padding: .3rem .8rem; background: #fdf3ec; }
img { max-width: 100%; } code { font-size: .9em; } .scroll { overflow-x: auto; }
</style></head><body>
<h1>Head “{{ report.head }}” on the test studies</h1>
<h2>What was asked?</h2>
<p>Of every study: {% for label in report.labels %}{{ label }}{{ ", " if not loop.last }}{% endfor
%}. Looked at: {% for view in report.views %}{{ view }}{{ ", " if not loop.last }}{% endfor %}.
Learner {{ report.learner }}, protocol {{ report.protocol }}; {{ report.studies }} test studies.
In brackets: {{ "%.0f" % (report.level * 100) }}% intervals, from {{ report.draws }} bootstrap
resamples of patients. “Undefined”: there is nothing to measure it on, such as a class without a
study.</p>
{% for warning in report.warnings %}<p class="warning">{{ warning }}</p>
{% endfor %}
{% for section in sections %}<h2>{{ section.title }}</h2>
<p>{{ section.text }}</p>
{% for table in section.tables if table.rows %}<div class="scroll"><table>
<caption>{{ table.caption }}</caption>
<tr>{% for name in table.names %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr{% if loop.index0 in table.strong %} class="strong"{% endif %}>
{%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}{% for name in section.pictures if name in pictures %}
<p><img alt="{{ name }}" src="data:image/png;base64,{{ pictures[name] }}"></p>
{% endfor %}{% endfor %}
<h2>What was it made from?</h2>
<p>Head <code>{{ made.digest }}</code>, split <code>{{ made.split }}</code>,
seed {{ made.seed }}.</p>
<ul>{% for fold, keys in made.get("keys", {}).items() %}{% for view, key in keys.items() %}<li>
{{ view }}{{ "" if fold == "all" else ", " ~ fold }}: {{ key.architecture }},
layer {{ key.layer }}, weights <code>{{ key.weights }}</code>,
preparation <code>{{ key.transform }}</code></li>{% endfor %}{% endfor %}</ul>
<p>{% for name, version in made.versions.items() %}{{ name }} {{ version }}{{ ", " if not
loop.last }}{% endfor %}</p>
<p>For research. Not a medical device.</p>
</body></html>
"""


def write_page(
    path: Path, report: Mapping[str, Any], made: Mapping[str, Any], pictures: Sequence[str]
) -> None:
    """Write the report; every text in it is escaped.

    Args:
        path: of the HTML file; pictures lie beside it.
        report: the evaluation as plain values.
        made: the head's provenance.
        pictures: file names of PNGs beside the page; the page knows where each belongs.
    """
    from jinja2 import Environment, StrictUndefined

    # Escaped, and without marks that turn the direction of what follows.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    drawn = {n: base64.b64encode((path.parent / n).read_bytes()).decode() for n in pictures}
    page = environment.from_string(_TEMPLATE).render(
        report=report, made=made, sections=sections(report), pictures=drawn
    )
    write_bytes(path, page.encode())
