#!/usr/bin/env bash
# Compare quadrature nodes: this program's sweep, the published methods, sequences and tensor rules, as in the figures of
# K. Tanaka, arXiv 2102.10887, and beyond their sizes; `jobs/quadrature_figures.sh help`.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
program=$root/build/gramarye
cpus=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # nproc would obey these two

usage()
{
  cat <<'TXT'
usage: jobs/quadrature_figures.sh [--quick] [FOLDER]

Runs build/gramarye some 830 times on one core each (five minutes on two cores; --quick: a few sizes, half a minute) and
draws into FOLDER, results/quadrature by default:

  nodes_2d.png nodes_3d.png   50 nodes in the unit square and 100 in the cube, by each method
  error_paper.png             worst-case error against nodes, kernel exp(-|x - z|^2), the sizes of the paper; optimal and
                              equal weights
  error_large.png             the same for 100 to 4000 nodes and kernels as narrow as these resolve
  table.csv table.txt         every run; medians over starts
  captions.txt                what the figures do not say by themselves, also printed under them

PYTHON: with numpy, h5py and matplotlib (python3). Exit codes: 0; 1 a run failed; 2 a wrong call; 4 something is missing.
TXT
}

die()
{
  printf 'quadrature_figures.sh: %s\n' "${*:2}" >&2
  exit "$1"
}

# sets python, the first interpreter that has all of the modules
find_python()
{
  local check='import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, ("numpy", "h5py", "matplotlib"))))'
  for python in "${PYTHON:-python3}" python3 /usr/bin/python3; do
    if "$python" -c "$check" 2>/dev/null; then return; fi
  done
  die 4 "missing: Python with numpy, h5py and matplotlib"
}

# length_scale PANEL DIM SIZE: of exp(-a^2 r^2), 1 / (a sqrt(2)); a = 1 as in the paper, else a = .35 / h in the plane and
# .5 / h in space, h = size^(-1/dim) the spacing
length_scale()
{
  awk -v panel="$1" -v d="$2" -v n="$3" \
    'BEGIN { a = panel == "paper" ? 1 : (d == 2 ? 0.35 : 0.5) * n ^ (1 / d); printf "%.17g\n", 1 / (a * sqrt(2)) }'
}

# one PANEL METHOD DIM SIZE START: a run, and its line in runs.txt. Descents begin at random points, all of one start at
# the same ones (the published ones shrink them). Exit code 3, not converged, is a result.
one()
{
  local panel=$1 method=$2 dim=$3 size=$4 start=$5 verb=nodes name code=0 args
  name=$panel-$method-$dim-$size-$start
  args=(-nodes_dim "$dim" -kernel_type gaussian -kernel_length_scale "$(length_scale "$panel" "$dim" "$size")")
  if [[ $panel == large ]]; then args+=(-ridge_alpha 1e-13); fi # where K is singular in double
  case $method in
  sweep) args+=(-nodes_start random -nodes_seed "$start") ;;
  sweep_equal) args+=(-nodes_start random -nodes_seed "$start" -weights_method equal) ;;
  pwgd) args+=(-nodes_field paper -nodes_start random -nodes_seed "$start") ;;
  m2) args+=(-nodes_field paper -nodes_energy gaussian -nodes_start random -nodes_seed "$start") ;;
  sbq | pgreedy | halton) args+=(-nodes_method "$method") ;;
  sobol | random) args+=(-nodes_method "$method" -nodes_seed "$start") ;;
  sobol_nets) args+=(-nodes_method sobol -nodes_seed "$start") ;;
  legendre)
    verb=weights
    "$python" "$root/jobs/draw_quadrature.py" --legendre "$dim" "$size" "$runs/$name-nodes.h5" || return 255
    args+=(-data_file "$runs/$name-nodes.h5")
    ;;
  esac
  [[ $verb == weights ]] || args+=(-nodes_size "$size")
  "$program" "$verb" "${args[@]}" -monitor false -output_file "$runs/$name.h5" >"$runs/$name.txt" 2>&1 </dev/null || code=$?
  printf '%s %s %s %s %s %s\n' "$panel" "$method" "$dim" "$size" "$start" "$code" >>"$runs/runs.txt"
  ((code == 0 || code == 3)) && return
  printf 'quadrature_figures.sh: %s: exit code %s: %s\n' "$name" "$code" "$(tail -n 1 "$runs/$name.txt")" >&2
  return 255 # ends xargs
}

# cases PANEL DIM STARTS "METHODS" SIZE...: a line for each run; methods that a start means nothing to run once
cases()
{
  local panel=$1 dim=$2 starts=$3 method size start n
  for size in "${@:5}"; do
    for method in $4; do
      n=$starts
      if [[ $method =~ ^(sbq|pgreedy|halton|legendre)$ ]]; then n=1; fi
      for ((start = 1; start <= n; start++)); do
        printf '%s %s %s %s %s\n' "$panel" "$method" "$dim" "$size" "$start"
      done
    done
  done
}

list_paper()
{
  local methods="sweep sweep_equal pwgd m2 sbq pgreedy halton sobol random"
  if [[ -n $quick ]]; then
    cases paper 2 1 "$methods" 20 50
    cases paper 3 1 "$methods" 50
  else
    cases paper 2 5 "$methods" 10 20 30 40 50
    cases paper 3 5 "$methods" 10 20 30 40 50 60 70 80 90 100
  fi
}

list_large()
{
  local methods="sweep sweep_equal halton sobol random"
  if [[ -n $quick ]]; then
    cases large 2 1 "$methods sbq" 100
    cases large 2 1 sobol_nets 128
    cases large 2 1 legendre 100
    cases large 3 1 "$methods" 100
    return
  fi
  for dim in 2 3; do
    cases large "$dim" 5 "$methods" 100 250 500 1000 2000 4000
    cases large "$dim" 5 sobol_nets 128 256 512 1024 2048 4096
    cases large "$dim" 1 "sbq pgreedy" 100 250 500 1000 # a factor of as many columns as nodes, of ten times as many rows
  done
  cases large 2 1 legendre 100 256 484 1024 2025 3969 # squares
  cases large 3 1 legendre 125 216 512 1000 2197 4096 # cubes
}

quick=
case ${1-} in
help | -h | --help)
  usage
  exit
  ;;
--quick)
  quick=yes
  shift
  ;;
esac
if (($# > 1)) || [[ ${1-} == -* ]]; then
  usage >&2
  exit 2
fi
folder=${1:-results/quadrature}
runs=$folder/runs
[[ -x $program ]] || die 4 "missing: build/gramarye; jobs/local.sh build makes it"
find_python
mkdir -p "$runs"
: >"$runs/runs.txt"

# one core each; mpiexec would add two seconds where an exit code is not 0
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export OMPI_ALLOW_RUN_AS_ROOT=${OMPI_ALLOW_RUN_AS_ROOT-1} OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM-1}
export root program python runs
export -f one length_scale
{ list_paper && list_large; } | xargs -P "$cpus" -L 1 bash -c 'one "$@"' one || exit 1
"$python" "$root/jobs/draw_quadrature.py" "$folder"
