#!/usr/bin/env bash
# YOLOv8n from PyTorch to a graph with EfficientNMS for Jetson Orin, and a gate. See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-yolo-output}
export SIZE=${SIZE:-640}                 # pixels; images.py reads it too
read -ra weights <<< "${WEIGHTS---pretrained}"
read -ra more <<< "${COMPILE_FLAGS-}"     # these go before the recipe's
mkdir -p "$out"

edgeprune export ultralytics/yolov8n "${weights[@]}" --shape "images=1x3x${SIZE}x${SIZE}" -o "$out/yolov8n.onnx" --force
edgeprune compile "$out/yolov8n.onnx" --recipe "$here/recipe.toml" -o "$out/orin" --force "${more[@]}"
edgeprune gate "$out/orin" --max-predicted-ms "${MAX_MS:-2}" --max-drop "${MAX_DROP:-100}"
