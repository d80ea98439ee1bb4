"""Reports: the format of report.json, and its views.

In: measurements and scores, as plain values.
Out: report.json, report.html, Markdown, pareto.json.
May import: timing and below; nothing here reads a model.
"""

from edgeprune.report.accuracy import Accuracy
from edgeprune.report.comparison import comparison_html, comparison_markdown, print_comparison, tradeoffs
from edgeprune.report.compile_cost import CompileCost, Cost, Training, TrainingPoint
from edgeprune.report.engine import EngineCheck, EngineOutput
from edgeprune.report.figures import count, doubts
from edgeprune.report.graph_view import MOST_DRAWN, Box, Picture, colour, fills, graph_view
from edgeprune.report.html import to_html
from edgeprune.report.latency import Latency, Repeat, repeats_of
from edgeprune.report.loss_part import LossPart
from edgeprune.report.markdown import markdown_table, to_markdown
from edgeprune.report.model import (
    Budget,
    Layer,
    ModelFile,
    Outcome,
    Prediction,
    Refusal,
    Report,
    Search,
    Size,
    Sizes,
)
from edgeprune.report.output_files import write_report
from edgeprune.report.output_score import OutputScore
from edgeprune.report.pareto_curve import PARETO_FILE, Curve, Point, folder_of, point_of
from edgeprune.report.rival import Rival
from edgeprune.report.runs import HEADER as RUN_HEADER
from edgeprune.report.runs import Run, open_runs, siblings
from edgeprune.report.runs import line as run_line
from edgeprune.report.sentence import NOT_IN_TIME
from edgeprune.report.terminal import print_measurements, print_notes, print_report, print_table
from edgeprune.report.token_steps import TokenLeave, Tokens
from edgeprune.report.versions import installed_versions
from edgeprune.report.web_page import Section, number, page, table
