#!/usr/bin/env bash
# One command for everything: sets up the environment when there is none, then runs what is missing. See --help.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

usage() {
  cat <<'TEXT'
Usage: ./reproduce.sh [COMMAND] [OPTIONS]

  (none) | quick           every notebook on generated scenes: on the CPU, offline, minutes; ends with the scoreboard
  full [TARGET...]         on real data (CAMPANION_DATA): writes data/results; resumes where it stopped
                           TARGET: a notebook (21_fd_table1_faithfulness), its beginning (21), a paper (lfi, fd, lift) or all
  cached                   run the committed notebooks again on the committed results, in place, with their figures
  figures                  every figure of figures/ again, from the committed results; a minute or two
  site                     the pages of the notebooks, the library and the scoreboard, into out/site; offline
  test                     style, tests, and the committed notebooks against what they store
  notebook                 open JupyterLab on this machine

Options:
  --limit N                full: only the first N images of each data set
  --scale S                full lfi: reduced (for a CPU), short (for a GPU) or paper: how much is trained (docs/training.md)
  --cores N                cores to use (default: all)
  --profile DIR            full: a Snakemake profile, such as profiles/slurm (docs/slurm.md)
  --dry-run, -n            say what would be done
  --help, -h               this text

The first call makes .venv, unless an environment with the package is active. A second call does only what is missing;
to do something again, delete what it made below out/.
Exit status: 0 done, 1 something failed, 2 something is missing or was asked wrongly.
TEXT
}

refuse() {
  printf '%s\n' "$*" >&2
  exit 2
}

# ---- what is asked
command=quick
named=no
targets=()
limit=""
scale=""
cores=""
profile=""
dry=no
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    -n | --dry-run) dry=yes ;;
    --limit | --scale | --cores | --profile)
      [ $# -ge 2 ] || refuse "$1 needs a value; ./reproduce.sh --help shows how."
      case "$1" in --limit) limit=$2 ;; --scale) scale=$2 ;; --cores) cores=$2 ;; --profile) profile=$2 ;; esac
      shift
      ;;
    -*) refuse "Unknown option '$1'; ./reproduce.sh --help lists the options." ;;
    *)
      if [ "$named" = no ]; then
        case "$1" in
          quick | full | cached | figures | site | test | notebook) command=$1 ;;
          *) refuse "Unknown command '$1': it is quick, full, cached, figures, site, test or notebook." ;;
        esac
        named=yes
      elif [ "$command" = full ]; then
        targets+=("$1")
      else
        refuse "'$1' is one word too many: only full takes targets."
      fi
      ;;
  esac
  shift
done
if [ "$command" != full ] && [ -n "$limit$scale$profile" ]; then
  refuse "--limit, --scale and --profile belong to full: ./reproduce.sh full --limit 500."
fi
case "$scale" in "" | reduced | short | paper) ;; *) refuse "--scale is reduced, short or paper, not '$scale'." ;; esac
case "$limit" in *[!0-9]* | 0*) refuse "--limit takes a number of images above 0, not '$limit'." ;; esac
case "$cores" in *[!0-9]* | 0*) refuse "--cores takes a number above 0, not '$cores'." ;; esac
[ -z "$profile" ] || [ -f "$profile/config.yaml" ] || refuse "There is no profile '$profile': it is a folder with a config.yaml."

all=()
for path in notebooks/[0-9][0-9]_*.ipynb; do
  [ -f "$path" ] && path=${path##*/} && all+=("${path%.ipynb}")
done
[ ${#all[@]} -gt 0 ] || refuse "There is no notebook in notebooks/: is this a whole checkout?"
keys=()
for target in ${targets[@]+"${targets[@]}"}; do
  found=no
  for key in "${all[@]}"; do
    case "$key" in "$target"* | [0-9][0-9]_"$target"_*) matches=yes ;; *) matches=no ;; esac
    [ "$target" = all ] && matches=yes
    if [ "$matches" = yes ] && [ -n "$target" ]; then
      found=yes
      case " ${keys[*]-} " in *" $key "*) ;; *) keys+=("$key") ;; esac
    fi
  done
  [ "$found" = yes ] || refuse "Unknown target '$target'. Known: all, lfi, fd, lift, ${all[*]}."
done

# ---- what it needs
free_gb() { df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }'; }

need_disk() { # GB, what for
  local free
  free=$(free_gb)
  [ "$free" -ge "$1" ] || refuse "$2 needs about $1 GB of free disk, and only $free GB are free here."
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

find_python() {
  local candidate
  for candidate in python3 python python3.13 python3.12 python3.11; do
    if right_version "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
}

stamp() { cat requirements.txt constraints.txt pyproject.toml | cksum; }

for folder in out logs; do
  { mkdir -p "$folder" && [ -w "$folder" ]; } 2>/dev/null || refuse "Cannot write to $PWD/$folder: results and logs go there."
done

if has_package python; then
  python=python
  right_version python || refuse "campanion needs Python 3.11, 3.12 or 3.13; the active environment has $(python -V)."
elif [ "$(cat .venv/campanion-stamp 2>/dev/null)" = "$(stamp)" ] && has_package .venv/bin/python; then
  python=.venv/bin/python
else
  python=""
  base=$(find_python)
  [ -n "$base" ] || refuse "campanion needs Python 3.11, 3.12 or 3.13, and none was found on the PATH."
  need_disk 10 "The first call, which installs PyTorch and the other packages,"
fi
need_disk 2 "A run"

if [ -z "$python" ]; then
  if [ "$dry" = yes ]; then
    echo "Would make .venv with $base and install requirements.txt, then run '$command'."
    exit 0
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
  python=.venv/bin/python
fi

# ---- what it does
run_tests() {
  local failed=0
  if [ "$dry" = yes ]; then
    echo "Would run ruff, pytest, the checks of the notebooks, and nbval on ${#all[@]} notebooks."
    return
  fi
  export CAMPANION_BATCH=1
  "$python" -m ruff check . || failed=1
  "$python" -m ruff format --check . || failed=1
  "$python" -m pytest || failed=1 # also checks the results' files
  "$python" -m campanion notebooks check || failed=1
  "$python" -m campanion scoreboard --check README.md || failed=1
  # The figures that nbval's run saves go elsewhere, so that testing leaves the checkout as it is.
  CAMPANION_FIGURES="$PWD/out/test/figures" "$python" -m pytest -p tests.nbval_rounding --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
    --nbval-cell-timeout 600 -p no:cacheprovider notebooks || failed=1
  if [ $failed = 0 ]; then echo "All tests passed in $SECONDS s."; else echo "Some tests failed; see above." >&2; fi
  return $failed
}

run_workflow() {
  local arguments=(--rerun-incomplete --keep-going --show-failed-logs --scheduler greedy --quiet host reason)
  if [ -n "$profile" ]; then
    arguments+=(--profile "$profile")
    [ -z "$cores" ] || arguments+=(--cores "$cores")
  else
    arguments+=(--cores "${cores:-all}" --resources gpu=1 gpu_cells=4) # so many trainings share a GPU
  fi
  [ "$dry" = no ] || arguments+=(--dry-run)
  arguments+=(--config "mode=$command")
  [ -z "$limit" ] || arguments+=("limit=$limit")
  [ -z "$scale" ] || arguments+=("scale=$scale")
  [ ${#keys[@]} = 0 ] || arguments+=("targets=$(IFS=, && echo "${keys[*]}")")
  CAMPANION_XDG_CACHE_HOME="${XDG_CACHE_HOME-}" XDG_CACHE_HOME="$PWD/.snakemake/cache" \
    "$python" -m snakemake "${arguments[@]}"
}

summary() {
  local figures=figures results=data/results board="out/$command/notebooks/99_scoreboard.ipynb"
  [ "$command" = quick ] && figures=out/quick/figures && results=out/quick/results
  if [ -f "$board" ] && [ ${#keys[@]} = 0 ]; then
    printf '\n'
    "$python" -m campanion notebooks text "$board"
  fi
  printf '\nDone in %d min %d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
  printf 'Figures: %s/   results: %s/   executed notebooks: out/%s/notebooks/   logs: logs/%s/\n' \
    "$figures" "$results" "$command" "$command"
}

case "$command" in
  test) run_tests ;;
  figures | site)
    if [ "$dry" = yes ]; then
      echo "Would make the $command."
    elif [ "$command" = figures ]; then
      "$python" -m campanion.notebooks.figures_all ${cores:+--cores "$cores"}
    else
      "$python" docs/build.py && echo "The site is out/site/index.html; it took $SECONDS s."
    fi
    ;;
  notebook)
    if [ "$dry" = yes ]; then
      echo "Would open JupyterLab on 127.0.0.1."
    else
      exec "$python" -m jupyterlab --ServerApp.ip=127.0.0.1 notebooks/00_start_here.ipynb
    fi
    ;;
  *)
    if [ "$command" = full ]; then
      wanted=(${keys[@]+"${keys[@]}"})
      [ ${#wanted[@]} -gt 0 ] || wanted=("${all[@]}")
      "$python" -m campanion notebooks ready "${wanted[@]}" || exit 2
      case "${wanted[*]}" in
        *_lfi_*) "$python" -m campanion grid ${scale:+--scale "$scale"} $(printf -- "--notebook %s " "${wanted[@]}") || exit 2 ;;
      esac
    fi
    if ! run_workflow; then
      printf '\nNot everything could be run (%d s). The logs are in logs/%s/; the same command goes on from here.\n' \
        "$SECONDS" "$command" >&2
      exit 1
    fi
    [ "$dry" = yes ] || summary
    ;;
esac
