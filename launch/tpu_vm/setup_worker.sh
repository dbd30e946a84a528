#!/usr/bin/env bash
# On each worker of a TPU VM: ~/pagap/source, which `setup` unpacked, into the venv ~/pagap/venv.
# May be run again: what is there and fits stays.
set -euo pipefail

if [[ ${1:-} == --help ]]; then
  sed -n '2,3s/^# //p' "$0"
  exit
fi

cd "$HOME/pagap"
mkdir -p work
export PATH="$HOME/.local/bin:$PATH"
# The images' own Python is older than the project's floor. uv brings the one that constraints.txt
# was made for, without root and without touching the system's.
if ! command -v uv >/dev/null; then
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
fi
[[ -x venv/bin/python ]] || uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python --constraint source/constraints.txt \
  --reinstall-package pagap_jax './source[tpu]'
venv/bin/pagap --help >/dev/null
echo "set up: $(hostname)"
