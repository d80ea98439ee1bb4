"""Fit the analytic cost model of every device family to published latencies, and print its errors.

    python -m edgeprune.hwprofiles.fit                fit, leave every model out once, print the errors
    python -m edgeprune.hwprofiles.fit --write        also store parameters and errors in the profiles
    python -m edgeprune.hwprofiles.fit --models DIR   first derive the kernels again from DIR/<name>.onnx

The data is beside this file: ``data/published.csv``, each row with its source, and ``data/kernels.json.gz``, the
kernels of the models in these rows. ``data/README.md`` says where both come from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeprune.hwprofiles.fit_report import print_family, store
from edgeprune.hwprofiles.fitting import Problem, families, fit, leave_out, prior
from edgeprune.hwprofiles.published import read_kernels, read_rows, write_kernels

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Fit all families; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="derive the kernels from the .onnx files in this folder")
    parser.add_argument("--family", action="append", help="fit only this family")
    parser.add_argument("--rows", action="store_true", help="print every row")
    parser.add_argument("--write", action="store_true", help="store the result in the profiles")
    options = parser.parse_args()
    if options.models:
        write_kernels(options.models, FOLDER / "data" / "kernels.json.gz")
    rows, kernels = read_rows(FOLDER / "data" / "published.csv"), read_kernels(FOLDER / "data" / "kernels.json.gz")
    for family, names in families().items():
        if options.family and family not in options.family:
            continue
        known = [r for r in rows if r.target in names]
        used = [r for r in known if not r.unused]
        values = fit(Problem(used, kernels)) if used else prior()
        held_out = leave_out(used, kernels, values, lambda r: r.architecture)
        several = len({r.target for r in used}) > 1
        device_out = leave_out(used, kernels, values, lambda r: r.target) if several else held_out
        print_family(family, names, known, kernels, values, (held_out, device_out), each_row=options.rows)
        if options.write:
            store(FOLDER, names, used, kernels, values, held_out, device_out)


if __name__ == "__main__":
    main()
