#!/bin/sh
# Installs mrharmony from its sources with the pinned dependencies, model included: install.sh SOURCE
# Dockerfile, apptainer.def and the tests call it. PyTorch comes from TORCH_INDEX, without CUDA; where that
# is empty, from the usual index.
set -eu
source=$1
pip="${PYTHON:-python3} -m pip --no-cache-dir --quiet"
: "${TORCH_INDEX=https://download.pytorch.org/whl/cpu}"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
$pip wheel --no-deps --wheel-dir "$wheels" "$source"
if [ -n "$TORCH_INDEX" ]; then
    $pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' "$source/constraints.txt")"
fi
$pip install --constraint "$source/constraints.txt" "$wheels"/mrharmony-*.whl
