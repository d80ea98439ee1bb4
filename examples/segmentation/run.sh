#!/usr/bin/env bash
# A segmentation model for this computer's processor, scored by the overlap of its masks. See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-segmentation-output}
export SIZE=${SIZE:-256}
read -ra weights <<< "${WEIGHTS---pretrained}"
mkdir -p "$out"
cd "$out"

edgeprune export torchvision/lraspp_mobilenet_v3_large "${weights[@]}" --shape "images=1x3x${SIZE}x${SIZE}" \
  -o segmentation.onnx --force
edgeprune compile segmentation.onnx --target cpu --max-drop "${MAX_DROP:-3}" \
  --calib "$here/masks.py:calibration" --eval "$here/masks.py:mean_iou" -o segmentation.cpu --force
edgeprune gate segmentation.cpu --max-drop "${MAX_DROP:-3}"
