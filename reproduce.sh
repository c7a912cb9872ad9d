#!/usr/bin/env bash
# ./reproduce.sh [COMMAND] [TARGET...] [OPTIONS]: everything that this project computes, with one command.
#
# The first call makes .venv, unless an environment with the package is active; then `campanion reproduce` does the rest.
# COMMAND is quick (the default: generated scenes, minutes, offline), full (real data), cached, figures, site, test or notebook.
# A second call does only what is missing; to do something again, delete what it made below out/.
# Exit status: 0 done, 1 something failed, 2 something is missing or was asked wrongly.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

refuse() {
  printf '%s\n' "$*" >&2
  exit 2
}

has_package() { # does this Python have torch, and campanion from this checkout?
  "$1" - "$PWD/lib/campanion" 2>/dev/null <<'PY'
import importlib.util as find, os, sys
sys.path = [p for p in sys.path if p]
spec = find.find_spec("campanion")
here = spec and spec.origin and os.path.realpath(os.path.dirname(spec.origin)) == os.path.realpath(sys.argv[1])
sys.exit(0 if here and find.find_spec("torch") and find.find_spec("snakemake") else 1)
PY
}

right_version() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

stamp() { cat requirements.txt constraints.txt pyproject.toml | cksum; }

if has_package python; then
  right_version python || refuse "campanion needs Python 3.11, 3.12 or 3.13; the active environment has $(python -V)."
  exec python -m campanion reproduce "$@"
fi
if [ "$(cat .venv/campanion-stamp 2>/dev/null)" = "$(stamp)" ] && has_package .venv/bin/python; then
  exec .venv/bin/python -m campanion reproduce "$@"
fi

base=""
for candidate in python3 python python3.13 python3.12 python3.11; do
  if right_version "$candidate"; then
    base=$candidate
    break
  fi
done
[ -n "$base" ] || refuse "campanion needs Python 3.11, 3.12 or 3.13, and none was found on the PATH."

for word in "$@"; do # what needs no environment
  case "$word" in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]##*/}" && exit 0 ;;
    -n | --dry-run) echo "Would make .venv with $base and install requirements.txt, then run: campanion reproduce $*" && exit 0 ;;
  esac
done

free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
if [ "$free" -lt 10 ]; then
  refuse "The first call, which installs PyTorch and the other packages, needs about 10 GB of free disk, and only $free GB are free here."
fi
echo "Making .venv and installing the packages: some minutes, once."
clear="" # a .venv of another Python cannot be brought up to date
[ ! -e .venv ] || right_version .venv/bin/python || clear=--clear
"$base" -m venv $clear .venv || refuse "Could not make .venv: on Debian and Ubuntu install the package python3-venv first."
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e . || {
  echo "The installation failed; the lines above say why, and docs/troubleshooting.md may help." >&2
  exit 1
}
stamp >.venv/campanion-stamp
exec .venv/bin/python -m campanion reproduce "$@"
