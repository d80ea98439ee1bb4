"""Many compiles from one file: models x targets x budgets, on this machine or on a cluster, with one report.

In: a grid, as TOML.
Out: one output folder for each compile, and a report with a curve for each model and the best for each device.
May import: compiler and below.
"""

from edgeprune.sweep.grid import Grid, Job, read_grid
from edgeprune.sweep.run_sweep import Sweep, run_sweep
from edgeprune.sweep.sweep_report import BEST_HEADER, PAGE, SUMMARY, Done, best_rows, write_summary
