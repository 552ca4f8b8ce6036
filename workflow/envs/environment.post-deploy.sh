#!/usr/bin/env bash
# Runs in the new environment, from the project's folder.
set -euo pipefail
python -m pip install --quiet -c workflow/envs/constraints.txt -e .
