#!/usr/bin/env bash
# A vision transformer: export, prune heads and MLPs, and the cut carried back to the PyTorch checkpoint. See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-vit-output}
mkdir -p "$out"
cd "$out"

python "$here/nets.py"
edgeprune export "$here/nets.py:vit" -o vit.onnx --force
edgeprune prune vit.onnx --ratio "${RATIO:-0.3}" --calib "$here/nets.py:calibration" -o vit.pruned --force
edgeprune apply vit.pruned/plan.json vit.pt --module "$here/nets.py:vit" -o vit.pruned.pt --force
edgeprune bench vit.onnx vit.pruned/model.onnx --seconds "${SECONDS_EACH:-10}"
