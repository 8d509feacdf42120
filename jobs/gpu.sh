#!/usr/bin/env bash
# Measure and check Gramarye on a GPU in one go, also on a machine without MPI, PETSc and HDF5; `jobs/gpu.sh help`.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
tree=$root/build-cuda
folder=$root/build-gpu
name=gramarye-gpu
archive=$folder/$name.tar.xz
dry=${GRAM_GPU_DRY-}
cpus=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # nproc would obey these two

usage()
{
  cat <<'TXT'
usage: jobs/gpu.sh pack [FILE]   build with CUDA, pack program, tests, data and libraries into build-gpu/
       jobs/gpu.sh run           unpack them and measure, within nine minutes

pack wants what jobs/local.sh installs, and nvcc. FILE is the geoid of the large solve, HDF5 with x, y, train_order
and test_index (../shared/data/egm96_geoid.h5); where it is missing, the 24 000 points of configs/data do. pip adds
PyKeOps where it can, to be timed beside.

run wants an NVIDIA driver, a C library as new as that of pack, Python, and for some steps nvcc, compute-sanitizer and
PyTorch; a step that lacks something says so and the others go on. Copy the checkout with build-gpu/, or the archive
alone: unpacked, it holds jobs/gpu.sh too. Results go to build-gpu/results/: summary.md first, machine.txt, tests.txt,
bench.jsonl, keops.jsonl, solve.txt, rates.txt, and log.txt with all that was said.

  GRAM_GPU_MAX=BYTES    pack: a larger archive is exit code 4; without it one beyond 64 MiB is a warning
  GRAM_GPU_OUT=FOLDER   run: where results go instead; OUT does the same where this is not set
  GRAM_GPU_SECONDS=540  end by then, whatever is left undone
  GRAM_GPU_STEPS=...    only these, in this order: tests bench keops sanitizer solve rates
  GRAM_GPU_DRY=1        every step on the CPU with tiny sizes, to try the script itself

Exit codes: 0 all steps ran and passed, 1 some did not, 2 no GPU or a wrong call, 4 something is missing or does not
build.
TXT
}

say() { printf 'gpu.sh: %s\n' "$*"; }

die()
{
  local code=$1
  shift
  say "$@" >&2
  exit "$code"
}

# --- packing ---

# the machine's own: C library and its kin, C++ and gcc runtimes (older ones must not shadow newer ones), GPU driver
own='^(ld-linux.*|linux-vdso|lib(c|m|mvec|dl|pthread|rt|resolv|util|anl|nsl|nss_.*|stdc\+\+|gcc_s|cuda|nvidia-.*))\.so'

# libraries FILE...: "soname path" of each that they load, indirect ones included, but for the machine's own
libraries()
{
  local file
  for file; do ldd "$file" 2>/dev/null || true; done |
    awk '$3 == "not" { print "gpu.sh: no " $1 >"/dev/stderr" } $2 == "=>" && $3 ~ /^\// { print $1, $3 }' |
    sort -u | grep -Ev "$own" || true
}

ompi() { ompi_info --parsable --path "$1" | sed -n "s|^path:$1:||p" | head -n 1; }

copy_libraries()
{
  local soname path
  while read -r soname path; do cp -L "$path" "$into/lib/$soname"; done
}

# copy_plugins TO PLUGIN...: those that need nothing beyond $base but Open MPI's own helpers; fabrics and resource
# managers stay behind, shared memory and TCP remain
copy_plugins()
{
  local to=$1 plugin extra helpers
  shift
  mkdir -p "$to"
  for plugin; do
    extra=$(libraries "$plugin" | grep -vxF -f <(printf '%s\n' "$base") || true)
    helpers=$(grep '^libmca_common_' <<<"$extra" || true)
    [[ $extra == "$helpers" ]] || continue
    cp -L "$plugin" "$to/"
    if [[ -n $helpers ]]; then copy_libraries <<<"$helpers"; fi
  done
}

# an Open MPI that finds its plugins below $into, and everything that the programs load
pack_programs()
{
  local prefix plugins texts pmix
  prefix=$(ompi prefix)
  plugins=$(ompi pkglibdir)
  texts=$(ompi pkgdatadir)
  [[ $plugins == "$prefix"/* && $texts == "$prefix"/* ]] || die 4 "Open MPI's $plugins is not below its $prefix"

  mkdir -p "$into/bin" "$into/lib" "$into/${texts#"$prefix"/}"
  cp -L "$tree/gramarye" "${programs[@]}" "$into/bin/"
  cp -L "$(command -v mpiexec)" "$into/bin/mpiexec"
  cp -L "$(command -v orted)" "$into/bin/orted"
  base=$(libraries "$into"/bin/* "$plugins"/mca_pmix_*.so)
  copy_libraries <<<"$base"
  copy_plugins "$into/${plugins#"$prefix"/}" "$plugins"/*.so
  cp -RL "$texts/." "$into/${texts#"$prefix"/}/"

  # PMIx has plugins of its own: in pmix/, or on Debian in pmix2/lib/pmix/ beside the library
  pmix=$(awk '$1 ~ /^libpmix\.so/ { print $2; exit }' <<<"$(libraries "$plugins"/mca_pmix_*.so)")
  if [[ -n $pmix ]]; then
    pmix=$(dirname -- "$(readlink -f "$pmix")")
    if [[ -d $pmix/pmix2/lib/pmix ]]; then
      copy_plugins "$into/pmix/lib/pmix" "$pmix"/pmix2/lib/pmix/*.so
      mkdir -p "$into/pmix/share"
      cp -RL "$pmix/pmix2/share/pmix" "$into/pmix/share/"
    elif [[ -d $pmix/pmix ]]; then
      copy_plugins "$into/pmix/lib/pmix" "$pmix"/pmix/*.so
    fi
  fi
  find "$into/bin" "$into/lib" "$into/pmix" -type f -exec strip --strip-unneeded {} + 2>/dev/null || true

  cat >"$into/bin/run" <<'SH'
#!/bin/sh
# run COMMAND ARGS...: with the programs and libraries of this folder first
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
export PATH="$here/bin:$PATH" LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" OPAL_PREFIX="$here"
if [ -d "$here/pmix" ]; then # PMIX_PREFIX alone leaves fixed folders
  export PMIX_LIBDIR="$here/pmix/lib" PMIX_PKGLIBDIR="$here/pmix/lib/pmix"
  export PMIX_DATADIR="$here/pmix/share" PMIX_PKGDATADIR="$here/pmix/share/pmix"
fi
export HWLOC_PLUGINS_PATH="$here/lib/none"     # not the machine's, which may be of another version
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_plm=isolated OMPI_MCA_ess_singleton_isolated=1 # one host: no rsh, and no daemon for one rank
export OMPI_MCA_btl_vader_single_copy_mechanism=none # which containers forbid
exec "$@"
SH
  chmod +x "$into/bin/run"
}

# a line for each test labelled cuda: name, ranks, seconds allowed, and what mpiexec starts
list_tests()
{
  ctest --test-dir "$tree" -L '^cuda$' --show-only=json-v1 | python3 -c '
import json, os, shlex, sys
for test in json.load(sys.stdin)["tests"]:
    command, is_ = test.get("command", []), {p["name"]: p["value"] for p in test["properties"]}
    if len(command) < 4 or "mpiexec" not in os.path.basename(command[0]):
        continue  # no program of its own
    ours = [e for e in is_.get("ENVIRONMENT", []) if not e.startswith(("OMPI_ALLOW", "PRTE_", "OMPI_MCA_rmaps"))]
    starts = ["env", *ours, os.path.basename(command[3]), *command[4:]]
    print(test["name"], command[2], int(is_.get("TIMEOUT", 120)), shlex.join(starts))'
}

pack()
{
  local geoid=${1:-$root/../shared/data/egm96_geoid.h5} most=${GRAM_GPU_MAX-} need size
  [[ $most =~ ^[0-9]*$ ]] || die 2 "GRAM_GPU_MAX: '$most' is no number of bytes"
  for need in cmake ctest mpiexec ompi_info python3 tar xz; do
    command -v "$need" >/dev/null || die 4 "missing: $need"
  done
  command -v orted >/dev/null || die 4 "missing: orted, the daemon of Open MPI 4; other versions are not packed"
  command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
  command -v nvcc >/dev/null || die 4 "missing: nvcc, the compiler of the CUDA toolkit"

  say "building in build-cuda/"
  mkdir -p "$folder"
  cmake -S "$root" -B "$tree" -DGRAM_CUDA=ON -DCMAKE_BUILD_TYPE=Release >"$folder/pack.log" 2>&1 ||
    die 4 "cmake failed, see build-gpu/pack.log"
  into=$folder/$name
  rm -rf "$into" "$archive"
  mkdir -p "$into"
  list_tests >"$into/tests.list"
  mapfile -t programs < <(grep -o ' test_[a-z0-9_]*' "$into/tests.list" | sort -u | tr -d ' ')
  ((${#programs[@]})) || say "no test is labelled cuda"
  export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL-$cpus}
  cmake --build "$tree" --target gramarye "${programs[@]}" >>"$folder/pack.log" 2>&1 ||
    die 4 "the build failed, see build-gpu/pack.log"
  programs=("${programs[@]/#/$tree/tests/}")

  pack_programs
  mkdir -p "$into/jobs" "$into/configs/data"
  cp "$root"/jobs/{gpu.sh,gpu_summary.py,compare_keops_gpu.py,rates.cu} "$into/jobs/"
  cp "$root"/configs/*.yaml "$into/configs/"
  cp "$root/configs/data/geoid.h5" "$into/configs/data/"
  if [[ -f $geoid ]]; then
    cp "$geoid" "$into/configs/data/geoid_large.h5"
  else
    say "no $geoid: 24 000 points at most"
  fi
  git -C "$root" describe --always --dirty --abbrev=12 >"$into/commit" 2>/dev/null || echo unknown >"$into/commit"
  # its Python sources alone: what it compiles it compiles where it runs; the versions that were tried
  if ! python3 -m pip install -q --no-deps --no-compile --target "$into/python" \
    pykeops==2.3 keopscore==2.3 pybind11==3.1.0 >>"$folder/pack.log" 2>&1; then
    say "PyKeOps is not packed: pip cannot install it"
  fi

  # the programs hold the same device functions: a window that spans two of them
  XZ_OPT=--lzma2=preset=2,dict=64MiB tar -C "$folder" --owner=0 --group=0 --sort=name -cJf "$archive" "$name"
  rm -rf "$into"
  size=$(stat -c %s "$archive")
  say "${archive#"$root"/}: $((size / 1000000)) MB, $(wc -l <<<"$(tar tf "$archive")") files," \
    "${#programs[@]} test programs, commit $(tar xOf "$archive" "$name/commit")"
  if [[ -n $most ]]; then
    ((size <= 10#$most)) || die 4 "larger than GRAM_GPU_MAX, $most bytes"
  elif ((size > 64 << 20)); then
    say "larger than 64 MiB, more than some machines take at once"
  fi
}

# --- running ---

# note WORDS...: progress, on the terminal and in the log
note() { printf '%4d s  %s\n' "$SECONDS" "$*" | tee -a "$log"; }

# limited SECONDS COMMAND...: ended after these, or when the step or the whole has used its time up; 124 then
limited()
{
  local left=$((stop - SECONDS))
  if ((left > $1)); then left=$1; fi
  ((left > 0)) || return 124
  timeout -k 5 "$left" "${@:2}" </dev/null
}

# failed WHAT: remembered, and said
failed()
{
  failures+=("$1")
  note "$1"
}

set_paths()
{
  local dir
  for dir in /usr/local/cuda/bin /usr/local/nvidia/bin; do
    if [[ -d $dir ]]; then PATH=$PATH:$dir; fi
  done
  export PATH
  # a driver that containers mount where the loader does not look
  if [[ -d /usr/local/nvidia/lib64 ]] && ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64
  fi
  export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
}

record_machine()
{
  printf 'date      %s\n' "$(date -u '+%Y-%m-%d %H:%M:%S UTC')"
  printf 'commit    %s\n' "$(cat "$here/commit")"
  printf 'system    %s\n' "$(uname -srm)"
  printf 'processor %s, %s cores\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$cpus"
  printf 'nvcc      %s\n' "$(nvcc --version 2>/dev/null | grep release || echo none)"
  printf '\n'
  "$here/bin/run" gramarye info
  printf '\n'
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --format=csv --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm || true
    nvidia-smi --format=csv --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu || true
  fi
}

# what the clock does under load, every other second
watch_card()
{
  if command -v nvidia-smi >/dev/null; then
    printf '\nduring %s\n' "$1" >>"$out/machine.txt"
    nvidia-smi --format=csv --query-gpu=clocks.sm,power.draw,temperature.gpu,utilization.gpu -l 2 \
      >>"$out/machine.txt" 2>/dev/null </dev/null &
    watcher=$!
  fi
}

unwatch_card()
{
  if [[ -n ${watcher-} ]]; then kill "$watcher" 2>/dev/null || true; fi
  watcher=
}

# run_test NAME RANKS SECONDS COMMAND: its output and, as the last line, its exit code and seconds into $scratch/NAME
run_test()
{
  local start=$SECONDS code=0 command launch=()
  eval "command=($4)"
  if (($2 > 1)); then launch=(mpiexec -n "$2"); fi
  limited "$3" "$here/bin/run" "${launch[@]}" "${command[@]}" >"$scratch/$1" 2>&1 || code=$?
  # what CTest looks for: options that nobody read, memory that nobody freed
  if ((code == 0)) && grep -qE 'Option left:|\[ *[0-9]+\] *[0-9]+ bytes' "$scratch/$1"; then code=1; fi
  printf '%s\t%s\t%s\n' "$1" "$code" "$((SECONDS - start))" >"$scratch/$1.line"
}

step_tests()
{
  local name ranks limit command line code running=0 width=$((cpus / 2))
  ((width)) || width=1
  mkdir "$scratch/tests"
  while read -r name ranks limit command; do
    [[ -z $dry ]] || command=${command//-backend cuda/-backend cpu}
    if ((running >= width)); then wait -n || true; else running=$((running + 1)); fi
    run_test "tests/$name" "$ranks" "$limit" "$command" &
  done <"$here/tests.list"
  wait
  while read -r name _; do
    if ! line=$(cat "$scratch/tests/$name.line" 2>/dev/null); then line="tests/$name"$'\t'lost$'\t'0; fi
    printf '%s\n' "${line#tests/}" >>"$out/tests.txt"
    code=$(cut -f 2 <<<"$line")
    { printf -- '--- %s: exit code %s\n' "$name" "$code"; tail -n 40 "$scratch/tests/$name"; } >>"$log" 2>&1 || true
    case $code in
    0) ;;
    77) failed "test $name: skipped, it found no device" ;;
    124) failed "test $name: out of time" ;;
    *) failed "test $name: exit code $code" ;;
    esac
  done <"$here/tests.list"
  [[ -s $here/tests.list ]] || failed "tests: none is packed"
  note "$(grep -c $'\t0\t' "$out/tests.txt" || true) of $(wc -l <"$here/tests.list") tests passed"
}

# bench SIZES KERNELS PRECISIONS RHS REPEATS: their lines, one at a time as they come
bench()
{
  local code=0 said
  if ((SECONDS >= stop)); then
    failed "bench $*: no time left"
    return
  fi
  said=$(wc -l <"$out/bench.jsonl")
  limited 600 "$here/bin/run" gramarye bench "$here/configs/bench_products.yaml" -backend "$backend" -bench_sizes "$1" \
    -bench_dims 3 -bench_kernels "$2" -bench_precisions "$3" -bench_rhs "$4" -bench_repeats "$5" -bench_symmetric both \
    -kernel_length_scale 0.2 -monitor false >>"$out/bench.jsonl" 2>>"$log" || code=$?
  note "bench $*: $(($(wc -l <"$out/bench.jsonl") - said)) lines"
  ((code == 0)) || failed "bench $*: exit code $code"
}

# the cases that targets are about first; then other sizes, which take no time; then the rest
step_bench()
{
  : >"$out/bench.jsonl"
  watch_card bench
  bench "$large" gaussian single 1 5
  bench "$large" exponential single 1 5
  bench "$large" gaussian single 16 5
  bench "$large" gaussian double 1 5
  bench "$large" exponential double 1 5
  bench "$small" gaussian,exponential,matern52 single,double 1,16 5
  bench "$large" matern52 single,double 1 3
  bench "$large" gaussian double 16 3
  bench "$large" exponential,matern52 single,double 16 1
  unwatch_card
}

step_keops()
{
  local code=0 device=gpu sizes=$large,$small said
  if [[ -n $dry ]]; then device=cpu sizes=$large; fi
  : >"$out/keops.jsonl"
  if [[ ! -d $here/python ]]; then
    failed "keops: not packed"
    return
  fi
  watch_card keops
  KEOPS_CACHE_FOLDER=$scratch/keops PYTHONPATH=$here/python${PYTHONPATH:+:$PYTHONPATH} \
    limited 600 "$python" "$here/jobs/compare_keops_gpu.py" --device $device --sizes "$sizes" \
    --seconds $((stop - SECONDS - 5)) ${dry:+--cases 2 --repeats 1} >"$out/keops.jsonl" 2>>"$log" || code=$?
  unwatch_card
  said=$(grep '^compare_keops_gpu' "$log" | tail -n 1)
  note "keops: $(wc -l <"$out/keops.jsonl") lines"
  ((code == 0)) || failed "keops: exit code $code: $said"
}

# check TOOL SECONDS WHAT COMMAND...: one run under compute-sanitizer
check()
{
  local tool=$1 what=$3 code=0 start=$SECONDS
  limited "$2" "$here/bin/run" compute-sanitizer --tool "$tool" --target-processes all --error-exitcode 99 "${@:4}" \
    >"$scratch/sanitizer" 2>&1 || code=$?
  printf -- '--- compute-sanitizer %s %s: exit code %s\n' "$tool" "$what" "$code" >>"$log"
  tail -n 60 "$scratch/sanitizer" >>"$log"
  printf '%s %s\t%s\t%s\t%s\n' "$tool" "$what" "$code" $((SECONDS - start)) \
    "$(grep -E '(ERROR|RACECHECK) SUMMARY' "$scratch/sanitizer" | tail -n 1 | sed 's/^=* *//')" >>"$out/tests.txt"
  note "$tool $what: exit code $code after $((SECONDS - start)) s"
  ((code == 0)) || failed "$tool $what: exit code $code$( ((code != 124)) || echo ', out of time')"
}

# first products at a small size, since the tools take a while for each device function that they meet
step_sanitizer()
{
  local tool products=("$here/configs/bench_products.yaml" -backend cuda -bench_sizes 3000 -bench_dims 3
    -bench_rhs "1,16" -bench_kernels "gaussian,matern52" -bench_precisions "double,single" -bench_repeats 1 -monitor false)
  if [[ -n $dry ]]; then
    note "sanitizer: left out of a dry run"
    return
  elif ! command -v compute-sanitizer >/dev/null; then
    failed "sanitizer: no compute-sanitizer"
    return
  fi
  for tool in memcheck racecheck; do check $tool 30 bench gramarye bench "${products[@]}"; done
  [[ -x $here/bin/test_kernels_tile ]] || return 0
  for tool in memcheck racecheck; do check $tool 30 test_tile test_kernels_tile -backend cuda -two -dim 3; done
}

# solve WORDS RANKS -key value ...: the geoid at some size, its summary into solve.txt
solve()
{
  local code=0 file=$here/configs/data/geoid_large.h5 launch=()
  local data=(-data_file "$file" -data_index train_order -target_file "$file" -target_points x -target_values y
    -target_index test_index)
  if [[ ! -f $file ]]; then data=(); fi
  if (($2 > 1)); then launch=(mpiexec -n "$2"); fi
  printf -- '--- %s\n' "$1" >>"$out/solve.txt"
  limited 60 "$here/bin/run" "${launch[@]}" gramarye solve "$here/configs/quickstart.yaml" "${data[@]}" \
    -solve_method iterative -pc_type none -ksp_rtol 1e-6 -output_file "$scratch/geoid.h5" -monitor false "${@:3}" \
    >>"$out/solve.txt" 2>&1 || code=$?
  note "solve $1: exit code $code, $(tac "$out/solve.txt" | sed -n '/^---/q; s/^solve  *//p')"
  ((code == 0)) || failed "solve $1: exit code $code"
}

step_solve()
{
  local n=100000 less=10000
  if [[ -n $dry ]]; then
    n=2000 less=1000
  elif [[ ! -f $here/configs/data/geoid_large.h5 ]]; then
    n=24000
  fi
  : >"$out/solve.txt"
  solve "$less points, alpha 0.1, on the processor" "$cpus" -data_limit $less -ridge_alpha 0.1 -backend cpu
  solve "$less points, alpha 0.1" 1 -data_limit $less -ridge_alpha 0.1 -backend "$backend"
  solve "$n points, alpha 0.1, mixed" 1 -data_limit $n -ridge_alpha 0.1 -backend "$backend" -product_precision mixed
  solve "$n points, alpha 0.01" 1 -data_limit $n -ridge_alpha 0.01 -backend "$backend"
}

step_rates()
{
  local arch=native
  if [[ -n $dry ]]; then arch=sm_90; fi
  if ! command -v nvcc >/dev/null; then
    failed "rates: no nvcc"
  elif ! limited 20 nvcc -O3 -arch=$arch -o "$scratch/rates" "$here/jobs/rates.cu" >>"$log" 2>&1; then
    failed "rates: jobs/rates.cu does not compile, or not in time"
  elif [[ -z $dry ]] && ! limited 20 "$scratch/rates" >"$out/rates.txt" 2>>"$log"; then
    failed "rates: $(tail -n 1 "$log")"
  fi
}

run()
{
  local limits="tests=100 bench=140 keops=100 sanitizer=100 solve=60 rates=20" step limit status=0
  local whole=${GRAM_GPU_SECONDS:-540} large=1000000 small=10000,100000 backend=cuda python=${PYTHON:-python3}
  local steps=${GRAM_GPU_STEPS:-tests bench keops sanitizer solve rates}
  if [[ -n $dry ]]; then large=2000 small=1000 backend=cpu; fi
  for step in $steps; do
    declare -F "step_$step" >/dev/null || die 2 "GRAM_GPU_STEPS: no step is called $step"
  done
  failures=()
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"; unwatch_card' EXIT
  here=$root
  out=${GRAM_GPU_OUT:-${OUT:-$root/results}}
  if [[ ! -x $here/bin/run ]]; then # not an unpacked archive
    out=${GRAM_GPU_OUT:-${OUT:-$folder/results}}
    [[ -f $archive ]] || die 4 "no ${archive#"$root"/}: call jobs/gpu.sh pack first, where the project builds"
    tar -C "$scratch" -xJf "$archive" 2>/dev/null || "$python" -m tarfile -e "$archive" "$scratch" ||
      die 4 "cannot unpack $archive"
    here=$scratch/$name
  fi
  mkdir -p "$out"
  log=$out/log.txt
  : >"$log"
  : >"$out/tests.txt"
  set_paths

  record_machine >"$out/machine.txt" 2>>"$log" || { cat "$log" >&2; die 4 "gramarye does not run here"; }
  note "$(sed -n 's/^devices  */devices: /p' "$out/machine.txt"), commit $(cat "$here/commit")"
  if [[ -z $dry ]] && grep -q '^devices  *none found' "$out/machine.txt"; then
    die 2 "no GPU here (GRAM_GPU_DRY=1 tries every step on the CPU); the machine is recorded in $out/machine.txt"
  fi
  for step in $steps; do
    limit=$(sed -n "s/.*\b$step=\([0-9]*\).*/\1/p" <<<"$limits")
    stop=$((SECONDS + limit < whole - 5 ? SECONDS + limit : whole - 5))
    note "$step: until $stop s"
    "step_$step" || failed "$step: ended early"
  done
  for step in "${failures[@]}"; do printf '%s\n' "$step"; done >"$scratch/failures"
  "$python" "$here/jobs/gpu_summary.py" "$out" "$scratch/failures" >"$out/summary.md" 2>>"$log" ||
    failed "no summary: $(tail -n 1 "$log")"
  cat "$out/summary.md"
  note "done: ${#failures[@]} failures; results in $out"
  ((${#failures[@]} == 0)) || status=1
  return $status
}

case ${1-} in
pack)
  (($# <= 2)) || die 2 "pack takes one file at most"
  pack "${@:2}"
  ;;
run)
  (($# == 1)) || die 2 "run takes no arguments"
  run
  ;;
help | -h | --help) usage ;;
*)
  usage >&2
  exit 2
  ;;
esac
