"""The report page: one HTML file, pictures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvp.errors import printable
from mvp.files import write_bytes
from mvp.reports.tables import number, signed, with_interval

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
tr.fusion td { font-weight: 600; }
.warning { border-left: 4px solid #D55E00; padding: .3rem .8rem; background: #fdf3ec; }
img { max-width: 100%; } code { font-size: .9em; } .scroll { overflow-x: auto; }
</style></head><body>
<h1>Head “{{ report.head }}” on the test studies</h1>
<p>Learner {{ report.learner }}, protocol {{ report.protocol }}, {{ report.studies }} test studies.
Intervals: {{ "%.0f" % (report.level * 100) }}%, from {{ report.draws }} bootstrap resamples of
patients. A single view is measured on the studies that have it; differences are paired, on the
studies that both models can score. “Undefined” means that a class is missing.</p>
{% for warning in report.warnings %}<p class="warning">{{ warning }}</p>{% endfor %}
<div class="scroll">
<table><caption>Area under the ROC curve (AUROC) and precision–recall curve (AUPRC)</caption>
<tr><th>label</th><th>model</th><th>AUROC</th><th>AUPRC</th><th>studies</th><th>positive</th>
<th>negative</th><th>patients</th></tr>
{% for row in report.rows %}<tr class="{{ row.model }}"><td>{{ row.label }}</td>
<td>{{ row.model }}</td>
<td>{{ interval(row.auroc, row.low, row.high) }}</td>
<td>{{ interval(row.auprc, row.auprc_low, row.auprc_high) }}</td>
<td>{{ row.n }}</td><td>{{ row.positives }}</td><td>{{ row.negatives }}</td>
<td>{{ row.patients }}</td></tr>
{% endfor %}</table>
{% if report.differences %}
<table><caption>What the fusion adds: AUROC of the fusion minus that of another model</caption>
<tr><th>label</th><th>compared with</th><th>chosen on</th><th>difference</th><th>studies</th></tr>
{% for row in report.differences %}<tr><td>{{ row.label }}</td><td>{{ row.other }}</td>
<td>{{ row.chosen_on }}</td>
<td>{{ "undefined" if row.difference is none else signed(row) }}</td><td>{{ row.n }}</td></tr>
{% endfor %}</table>{% endif %}
{% if report.accuracy %}
<table><caption>Accuracy: how often the most probable class is the true one</caption>
<tr><th>label</th><th>model</th><th>accuracy</th><th>most frequent class</th><th>studies</th>
<th>correct</th><th>patients</th></tr>
{% for row in report.accuracy %}<tr class="{{ row.model }}"><td>{{ row.label }}</td>
<td>{{ row.model }}</td><td>{{ interval(row.accuracy, row.low, row.high) }}</td>
<td>{{ number(row.majority) }}</td><td>{{ row.n }}</td><td>{{ row.correct }}</td>
<td>{{ row.patients }}</td></tr>
{% endfor %}</table>{% endif %}
{% if report.accuracy_differences %}
<table><caption>Accuracy of the fusion minus that of another model</caption>
<tr><th>label</th><th>compared with</th><th>chosen on</th><th>difference</th><th>studies</th></tr>
{% for row in report.accuracy_differences %}<tr><td>{{ row.label }}</td><td>{{ row.other }}</td>
<td>{{ row.chosen_on }}</td>
<td>{{ "undefined" if row.difference is none else signed(row) }}</td><td>{{ row.n }}</td></tr>
{% endfor %}</table>{% endif %}</div>
{% for name, data in pictures %}<p><img alt="{{ name }}" src="data:image/png;base64,{{ data }}"></p>
{% endfor %}
<h2>Made from</h2>
<p>Head <code>{{ made.digest }}</code>, split <code>{{ made.split }}</code>,
seed {{ made.seed }}.</p>
<ul>{% for view, key in made.get("keys", {}).items() %}<li>{{ view }}: {{ key.architecture }},
layer {{ key.layer }}, weights <code>{{ key.weights }}</code>,
preparation <code>{{ key.transform }}</code></li>{% endfor %}</ul>
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
        pictures: file names of PNGs beside the page.
    """
    from jinja2 import Environment, StrictUndefined

    # Escaped, and without marks that turn the direction of what follows.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    page = environment.from_string(_TEMPLATE).render(
        report=report,
        made=made,
        interval=with_interval,
        number=number,
        signed=signed,
        pictures=[
            (name, base64.b64encode((path.parent / name).read_bytes()).decode())
            for name in pictures
        ],
    )
    write_bytes(path, page.encode())
