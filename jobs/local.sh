#!/usr/bin/env bash
# Set up, build, run and test Gramarye on the machine at hand; `jobs/local.sh help` says how.
#
# Every call looks for what the build needs (0.1 s), installs what is missing where apt is there, then configures
# and compiles only what changed. The output of these steps goes to build/local.log and is shown when one fails.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
build=$root/build
log=$build/local.log
cpus=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # nproc would obey these two

usage()
{
  cat <<'TXT'
usage: jobs/local.sh run CONFIG... [-key value ...]   build, solve the problem on all cores, draw the result
       jobs/local.sh test [CTEST OPTION ...]          build, run every test but those labelled long
       jobs/local.sh build                            build only: the program is then build/gramarye

Each installs the Debian or Ubuntu packages it misses (as root or through sudo). Where there is no apt, it uses
what is on PATH and known to pkg-config, and names what is missing. Honoured: PETSC_DIR, PETSC_ARCH, HDF5_ROOT,
CC, PYTHON, and every variable of MPI, OpenMP and OpenBLAS that is set. With CI=true warnings are errors.

Exit codes: those of the program or of ctest; 2 for a wrong call, 4 when something is missing or does not build.
TXT
}

say() { printf 'local.sh: %s\n' "$*" >&2; }

die()
{
  local code=$1
  shift
  say "$@"
  exit "$code"
}

# step WHAT COMMAND...: run it with its output in the log, and show the end of that when it fails. The command
# reaches the terminal through descriptor 3.
step()
{
  local what=$1 start
  shift
  printf '== %s: %s\n' "$what" "$*" >>"$log"
  start=$(wc -l <"$log")
  "$@" 3>&2 >>"$log" 2>&1 </dev/null && return
  tail -n "+$((start + 1))" "$log" | grep -Ev '^(-- |\[ *[0-9]+%\])' | tail -n 40 >&2 || true # less the progress
  say "$what failed; its whole output is in $log"
  return 1
}

# --- what the build needs ---

have() { command -v "${1%% *}" >/dev/null; } # of CC="gcc -m64", gcc

have_compiler() { have "${CC:-cc}"; }

have_cxx() { have "${CXX:-c++}"; }

have_make() { have make; }

have_pkg_config() { have pkg-config; }

have_cmake()
{
  [[ $(cmake --version 2>/dev/null) =~ ([0-9]+)\.([0-9]+) ]] &&
    ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 3022))
}

have_mpi() { have mpicc && have mpiexec; }

have_petsc()
{
  local name
  for name in PETSc petsc; do pkg-config --exists "$name >= 3.18" 2>/dev/null && return; done
  return 1
}

have_hdf5() { have h5pcc || [[ -n ${HDF5_ROOT-} ]]; }

have_yaml() { pkg-config --exists yaml-0.1 2>/dev/null; }

have_blas() { pkg-config --exists openblas 2>/dev/null || [[ -n ${MKLROOT-} ]]; }

# daemons may lie where only root looks
have_slurm()
{
  local PATH=$PATH:/usr/sbin:/sbin
  have sbatch && have slurmctld && have slurmd && have munged
}

# sets python, the first interpreter that has all of the modules
have_python()
{
  local candidate
  local check='import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, ("numpy", "h5py", "matplotlib"))))'
  for candidate in "${PYTHON:-python3}" python3 /usr/bin/python3; do
    python=$(command -v "$candidate") && "$python" -c "$check" 2>/dev/null && return
  done
  python=
  return 1
}

# need PROBE NAME WHY PACKAGE...: without it nothing can be built
need()
{
  "$1" && return
  missing+=("$2 ($3)")
  packages+=("${@:4}")
}

# want PROBE NAME WHY PACKAGE...: the build is complete without it
want()
{
  "$1" && return
  lacking+=("$2 ($3)")
  packages+=("${@:4}")
}

look_around()
{
  missing=() lacking=() packages=()
  need have_compiler "a C compiler" "builds Gramarye; load a compiler module, or set CC" gcc
  need have_make "make" "runs the build; part of every system's development tools" make
  need have_cmake "CMake 3.22 or newer" "describes the build; load a module cmake, or pip install cmake" cmake
  need have_pkg_config "pkg-config" "finds PETSc; part of every system's development tools" pkg-config
  need have_mpi "mpicc and mpiexec" "all of Gramarye is MPI; load the MPI module that PETSc was built with" \
    libopenmpi-dev openmpi-bin
  need have_petsc "PETSc 3.18 or newer, real numbers" \
    "carries the solvers; load a module petsc, or set PETSC_DIR and PETSC_ARCH" libpetsc-real-dev
  need have_hdf5 "parallel HDF5" \
    "reads data and writes results; load a module hdf5 with MPI, so that h5pcc is on PATH, or set HDF5_ROOT" \
    libhdf5-openmpi-dev
  need have_yaml "libyaml" "reads configs; load a module libyaml, or add its folder to PKG_CONFIG_PATH" libyaml-dev
  want have_blas "OpenBLAS or MKL" "dense algebra is up to 8 times slower with the reference BLAS" libopenblas-dev
  want have_cxx "a C++ compiler" "needed for the CUDA backend only" g++
  want have_python "Python with numpy, h5py and matplotlib" \
    "draws results and checks files in tests; pip install numpy h5py matplotlib, or set PYTHON" \
    python3 python3-numpy python3-h5py python3-matplotlib
  if [[ -n ${testing-} ]]; then
    want have_slurm "SLURM and MUNGE" "needed to test the scripts for clusters only" slurm-wlm munge
  fi
}

# sudo may ask for a password where there is someone to answer
can_install() { have apt-get && { ((EUID == 0)) || sudo -n true 2>/dev/null || { have sudo && [[ -t 0 ]]; }; }; }

# the reference BLAS, serial MPI packages and documentation come as recommendations: leave those out
install_packages()
{
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
  ((EUID == 0)) || apt=(sudo "${apt[@]}")
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "$@"
}

get_what_is_missing()
{
  local item
  look_around
  if ((${#packages[@]})) && can_install; then
    say "installing, which takes some minutes: ${packages[*]}"
    step "installing packages" install_packages "${packages[@]}" || true # what counts is what is there now
    look_around
  fi
  ((${#missing[@]})) || return 0
  for item in "${missing[@]}"; do say "missing: $item"; done
  for item in "${lacking[@]}"; do say "also useful: $item"; done
  if have apt-get; then say "an administrator can: apt-get install --no-install-recommends ${packages[*]}"; fi
  exit 4
}

# --- the build ---

# PETSc's own folder comes first where the user names one: its pkg-config file, and the MPI and HDF5 it may hold
use_petsc_dir()
{
  local prefix=${PETSC_DIR-}${PETSC_ARCH:+/$PETSC_ARCH}
  [[ -n ${PETSC_DIR-} ]] || return 0
  [[ -d $prefix/lib/pkgconfig ]] || die 4 "PETSC_DIR and PETSC_ARCH name $prefix, which holds no lib/pkgconfig"
  export PATH=$prefix/bin:$PATH
  export PKG_CONFIG_PATH=$prefix/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
}

# in a subshell, since --preset looks for presets in the current folder
run_cmake() (cd "$root" && cmake --preset "$1" ${python:+-DPython3_EXECUTABLE="$python"})

# Configures when there is no build tree yet, or when what it was configured for has changed; an edited
# CMakeLists.txt is noticed by the build itself. The stamp is empty while a configuration has not succeeded:
# it is then begun afresh, since CMake remembers what it did not find.
configure()
{
  local preset=release stamp=$build/local.stamp wanted item
  if [[ ${CI-} == true ]]; then preset=ci; fi
  wanted="$root $preset ${CC-} ${python} ${PKG_CONFIG_PATH-} ${HDF5_ROOT-} $(command -v mpicc h5pcc) \
$(cksum <"$root/CMakePresets.json")"
  [[ -f $build/CMakeCache.txt && -f $stamp && $(<"$stamp") == "$wanted" ]] && return

  for item in "${lacking[@]}"; do say "without $item"; done
  if [[ -f $stamp ]]; then rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"; fi
  : >"$stamp"
  step configuring run_cmake "$preset" || exit 4
  printf '%s\n' "$wanted" >"$stamp"
}

# says so only when there is something to compile
compile()
{
  local line said=
  cmake --build "$build" -j "$cpus" 2>&1 | while IFS= read -r line; do
    printf '%s\n' "$line"
    if [[ -z $said && $line == *Building* ]]; then
      said=yes
      say "building" 2>&3
    fi
  done
}

build()
{
  mkdir -p "$build"
  : >"$log"
  use_petsc_dir
  get_what_is_missing
  configure
  step building compile || exit 4
}

# --- running ---

# One thread per rank, and an Open MPI that also starts as root in a container and with more ranks than cores.
# What the user has set stays.
set_mpi_environment()
{
  export OMP_NUM_THREADS=${OMP_NUM_THREADS-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS-1}
  export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe-1}
  export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy-:oversubscribe} # Open MPI 5
  if ((EUID == 0)); then
    export OMPI_ALLOW_RUN_AS_ROOT=${OMPI_ALLOW_RUN_AS_ROOT-1}
    export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM-1}
  fi
}

# two hardware threads of one core share its arithmetic units: one rank for both
count_cores()
{
  local cores
  cores=$(lscpu -p=Core,Socket 2>/dev/null | grep -v '^#' | sort -u | wc -l) || cores=$cpus
  printf '%s\n' $((cores > 0 && cores < cpus ? cores : cpus))
}

# draw SCRIPT RESULT.h5: a picture beside it, or one line that says why there is none
draw()
{
  local picture=${2%.h5}.png said
  if [[ -z $python ]]; then
    say "no picture: no Python with numpy, h5py and matplotlib"
  elif said=$("$python" "$root/jobs/$1" "$2" "$picture" 2>&1); then
    printf 'picture     %s\n' "$picture"
  else
    say "no picture: ${said##*$'\n'}"
  fi
}

run()
{
  local arg configs=() verb output status=0
  for arg; do
    [[ $arg != -* ]] || break
    [[ -f $arg && -r $arg ]] || die 2 "cannot read the config $arg"
    configs+=("$arg")
  done
  ((${#configs[@]})) || die 2 "run needs a config, such as configs/quickstart.yaml"

  build
  set_mpi_environment
  export OMPI_MCA_orte_execute_quiet=${OMPI_MCA_orte_execute_quiet-1} # the program says itself why it stops
  if [[ -t 2 ]]; then export GRAM_TTY=${GRAM_TTY-1}; fi               # mpiexec hides the terminal from it

  verb=$(sed -nE "s/^verb:[[:space:]]*[\"']?([a-z]+).*/\1/p" "${configs[@]}" | tail -n 1)
  verb=${verb:-solve}
  summary=$(mktemp)
  trap 'rm -f "$summary"' EXIT
  mpiexec -n "$(count_cores)" "$build/gramarye" "$verb" "$@" </dev/null | tee -i "$summary" || status=$?
  ((status <= 128)) || say "gramarye $verb was ended by signal $((status - 128))"

  output=$(sed -n 's/^output  *//p' "$summary" | tail -n 1)
  if [[ -f $output ]]; then
    case $verb in
    solve | predict) draw draw_result.py "$output" ;;
    nodes | weights) draw draw_nodes.py "$output" ;;
    esac
  fi
  return "$status"
}

run_tests()
{
  local testing=yes
  build
  set_mpi_environment
  # twice as many as there are cores: many tests wait for short runs to start and to end
  exec ctest --test-dir "$build" -LE long --output-on-failure --no-tests=error -j $((2 * cpus)) "$@"
}

case ${1-} in
build)
  (($# == 1)) || die 2 "build takes no arguments"
  build
  ;;
run) run "${@:2}" ;;
test) run_tests "${@:2}" ;;
help | -h | --help) usage ;;
*)
  usage >&2
  exit 2
  ;;
esac
