"""The gate: checks a report against limits and a baseline.

In: reports.
Out: a verdict for each limit, as JSON, Markdown, JUnit XML and GitHub annotations; baselines.
May import: report and below; nothing here reads a model.
"""

from edgeprune.gate.baselines import find_baseline, keep_baseline, why_no_baseline
from edgeprune.gate.gate import DEFAULT_REGRESSION, gate
from edgeprune.gate.github import report_to_job
