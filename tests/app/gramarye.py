"""Runs the program as a user does, for the tests beside this file: a YAML config and HDF5 files in, an exit code,
HDF5 files and printed lines out.  The mathematics it is compared with is plain numpy, written from the formulas."""
import argparse
import collections
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SHARED = os.path.join(os.path.dirname(ROOT), "shared")
SKIPPED = 77
EPS = np.finfo(float).eps

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",  # tests run side by side: do not all bind to core 0
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",  # containers forbid process_vm_readv, with a line about it
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

# err: lines, but for those of passed_over: what backend auto says where a program with CUDA finds no GPU
Result = collections.namedtuple("Result", "code out err passed_over seconds")


# ---- running -------------------------------------------------------------------------------------------------

def parser(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--program", default=os.path.join(ROOT, "build", "gramarye"))
    p.add_argument("--mpiexec", default="mpiexec")
    return p


def yaml(tree, indent=""):
    """Nested dictionaries as YAML text; lists in flow style, None as an empty value."""
    def scalar(v):
        if v is None: return ""
        if isinstance(v, bool): return "true" if v else "false"
        if isinstance(v, (list, tuple, np.ndarray)): return "[" + ", ".join(scalar(i) for i in v) + "]"
        return repr(float(v)) if isinstance(v, float) else str(v)
    lines = [f"{indent}{key}:\n{yaml(v, indent + '  ')}" if isinstance(v, dict) else f"{indent}{key}: {scalar(v)}\n"
             for key, v in tree.items()]
    return "".join(lines)


def command(program, verb, paths, ranks=1, args=(), mpiexec="mpiexec"):
    launcher = [] if ranks == 1 else mpiexec.split() + ["-n", str(ranks)]
    return launcher + [os.path.abspath(program), verb, *paths, *(str(a) for a in args)]


def write_configs(config, folder):
    """One config or a list of them, each a dictionary or text, as files in folder; returns their paths."""
    paths = []
    for i, c in enumerate(config if isinstance(config, list) else [config]):
        paths.append(os.path.join(folder, f"config{i}.yaml"))
        with open(paths[-1], "w") as f:
            f.write(yaml(c) if isinstance(c, dict) else c)
    return paths


def run(program, verb, config, ranks=1, args=(), mpiexec="mpiexec", folder=None, cwd=None, timeout=600, prefix=(),
        **popen):
    """Writes the config(s) into folder, by default a temporary one, and runs VERB on them; config None gives none.
    prefix: a command that runs the rest of its arguments."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or temporary
        paths = [] if config is None else write_configs(config, folder)
        line = [*prefix, *command(program, verb, paths, ranks, args, mpiexec)]
        started = time.monotonic()
        p = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             errors="replace", cwd=cwd or folder, env={**os.environ, **ENVIRONMENT},
                             start_new_session=True, **popen)
        try:
            out, err = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            out, err = stop(p)
            return Result("timeout", out, *without_noise(err), timeout)
        return Result(p.returncode, out, *without_noise(err), time.monotonic() - started)


def ranks_of(process):
    """It and the processes below it that run the program."""
    below, found = {process.pid}, []
    for pid in sorted(int(p) for p in os.listdir("/proc") if p.isdigit()):
        try:
            with open(f"/proc/{pid}/stat") as f:
                name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
            if pid == process.pid or int(rest.split()[1]) in below:
                below.add(pid)
                if name.startswith("gramarye"):
                    found.append(pid)
        except (OSError, ValueError):
            pass  # gone meanwhile
    return found


def interrupt(line, folder, number, after):
    """Exit code and standard output of a command that gets a signal when the file `after` is there, or after so many s.
    KILL goes to the ranks too: those whose mpiexec is killed live on."""
    p = subprocess.Popen(line, cwd=folder, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 60
    if isinstance(after, str):
        while p.poll() is None and time.monotonic() < end and not os.path.exists(os.path.join(folder, after)):
            time.sleep(0.01)
    else:
        time.sleep(after)
    for pid in ranks_of(p) + [p.pid] if number == signal.SIGKILL else [p.pid]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    try:
        out, err = p.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        stop(p)
        check(False, f"signal {number}: {' '.join(line)} does not end")
        return "timeout", ""
    return p.returncode, out


def stop(process):
    """TERM, which mpiexec passes on to the ranks, before KILL."""
    for number in signal.SIGTERM, signal.SIGKILL:
        try:
            os.killpg(process.pid, number)
            return process.communicate(timeout=10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    return "", ""


def without_noise(text):
    """The lines of stderr, and those of backend auto apart, that are not Open MPI's own: it prints blocks between lines
    of dashes and lines that start with [host:pid] when a rank exits non-zero, and its modules' complaints about a full
    disk."""
    noise = re.compile(r"\[[\w.-]+:\d+\]|(mpiexec|mpirun|prterun) (detected|noticed)|,?mca_\w+: |vulcan_\w+: ")
    lines, inside = [], False
    for line in text.splitlines():
        if re.fullmatch(r"-{20,}", line.strip()):
            inside = not inside
        elif line.startswith("gramarye: ") or not (inside or not line.strip() or noise.match(line)):
            lines.append(line)
    auto = [line for line in lines if line.startswith("gramarye: backend auto: ")]
    return [line for line in lines if line not in auto], auto


# ---- reporting -----------------------------------------------------------------------------------------------

failures = 0


def check(ok, text):
    global failures
    if not ok:
        failures += 1
        print(text, flush=True)
    return bool(ok)


def close(what, got, want, tolerance, scale=None):
    """max |got - want| <= tolerance * scale, where scale is max |want| unless given."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    if not check(got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"):
        return False
    scale = np.abs(want).max(initial=0) if scale is None else scale
    error = np.abs(got - want).max(initial=0)
    return check(error <= tolerance * scale, f"{what}: off by {error:.3g}, allowed {tolerance * scale:.3g}")


def succeeded(what, result, codes=(0,)):
    """Exit code as expected; otherwise says what the program said."""
    said = " / ".join(result.err[-3:])
    return check(result.code in codes, f"{what}: exit code {result.code}, expected {codes}: {said}")


def attempt(function, *arguments):
    """A file that lacks a name fails the one test that wanted it, not the script."""
    try:
        function(*arguments)
    except KeyError as e:
        which = tuple(a for a in arguments if isinstance(a, (str, int)))
        check(False, f"{function.__name__}{which}: no {e} in the output")


def finish():
    sys.exit(1 if failures else 0)


def main(doc, tests, files=None, flags=()):
    """Runs test(args, folder) for the tests named by --tests, all by default, each in a folder with its own files
    {name: datasets}; flags: {name: help} of options that a test may look at."""
    p = parser(doc)
    for name, text in dict(flags).items():
        p.add_argument("--" + name, action="store_true", help=text)
    p.add_argument("--tests", nargs="+", choices=[t.__name__ for t in tests], default=[t.__name__ for t in tests])
    args = p.parse_args()
    for test in tests:
        if test.__name__ in args.tests:
            with tempfile.TemporaryDirectory() as folder:
                for name, datasets in (files or {}).items():
                    write(os.path.join(folder, name), **datasets)
                attempt(test, args, folder)
    finish()


# ---- files ---------------------------------------------------------------------------------------------------

def write(path, **datasets):
    with h5py.File(path, "w") as f:
        for name, value in datasets.items():
            f[name] = value
    return path


def read(path):
    """Every dataset under its path, every attribute under group@name, strings as str."""
    contents = {}
    plain = lambda v: v.decode() if isinstance(v, bytes) else v
    with h5py.File(path, "r") as f:
        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                contents[name] = item[()]
            for key, value in item.attrs.items():
                contents[f"{name}@{key}"] = plain(value)
        f.visititems(visit)
        for key, value in f.attrs.items():
            contents[f"@{key}"] = plain(value)
    return contents


# ---- mathematics ---------------------------------------------------------------------------------------------

def halton(n, d, start=1):
    """shared/reference/README.md: the radical inverse of start, start + 1, ... as one quotient of integers."""
    x = np.empty((n, d))
    for k, base in enumerate((2, 3, 5, 7, 11, 13, 17, 19, 23, 29)[:d]):
        for i in range(n):
            digits, power, rest = 0, 1, start + i
            while rest:
                digits, power, rest = digits * base + rest % base, power * base, rest // base
            x[i, k] = digits / power
    return x


def profile(kernel, nu, s, beta=1.0):
    """phi of the squared scaled distance s; Matern of nu = p + 1/2 by Rasmussen and Williams, eq. (4.16)."""
    if kernel == "gaussian": return np.exp(-s / 2)
    if kernel == "exponential": return np.exp(-np.sqrt(s))
    if kernel == "rational_quadratic": return (1 + s / (2 * beta)) ** -beta
    if kernel == "inverse_multiquadric": return (1 + s) ** -0.5
    r = np.sqrt(s)
    if kernel == "wendland2": return np.where(r < 1, (1 - r) ** 4 * (4 * r + 1), 0)
    if kernel == "wendland4": return np.where(r < 1, (1 - r) ** 6 * (35 * s + 18 * r + 3) / 3, 0)
    if kernel == "multiquadric": return -np.sqrt(1 + s)
    if kernel == "cubic": return s * r
    if kernel == "thin_plate": return s * np.log(np.where(s > 0, r, 1))
    p, t, total, f = round(nu - 0.5), np.sqrt(2 * nu * s), 0, math.factorial
    for i in range(p + 1):
        total = total + f(p + i) / (f(i) * f(p - i)) * (2 * t) ** (p - i)
    return total * f(p) / f(2 * p) * np.exp(-t)


def gram(x, z, kernel, nu=np.nan, length_scale=1.0, amplitude=1.0, beta=1.0):
    l = np.broadcast_to(length_scale, x.shape[1])
    s = sum((np.subtract.outer(x[:, k], z[:, k]) / l[k]) ** 2 for k in range(x.shape[1]))
    return amplitude ** 2 * profile(kernel, nu, s, beta)


def product(model, t, block=500):
    """k(t, x) a in rows of a few megabytes, with t and x in the model's standardised coordinates."""
    shift, scale = model["scaling/point_shift"], model["scaling/point_scale"]
    t, x = (t - shift) / scale, (model["x"] - shift) / scale
    kernel = re.sub("matern[1-9]2", "matern", model["kernel@type"])
    rows = [gram(t[i:i + block], x, kernel, model["kernel@nu"], model["kernel@length_scale"],
                 model["kernel@amplitude"], model.get("kernel@beta", 1.0)) @ model["coefficients"] for i in range(0, len(t), block)]
    return np.concatenate(rows)


def evaluate(model, t):
    """With a tail of degree 1 at most, without gradients."""
    u = (t - model["scaling/point_shift"]) / model["scaling/point_scale"]
    tail = model.get("tail", np.zeros((0, 1)))
    P = np.hstack([np.ones((len(u), 1)), u])[:, :len(tail)]
    return model["scaling/value_shift"] + model["scaling/value_scale"] * (product(model, t) + (P @ tail if len(tail) else 0))


def residual(model, y):
    """The largest over columns of |b - A a| / |b| of a model read back, and the rounding error of computing it: no
    double evaluation of K a is good to more than eps K |a|, as kernels here are positive."""
    a, n, q = model["coefficients"], *model["coefficients"].shape
    b = (np.reshape(y, (n, q)) - model["scaling/value_shift"]) / model["scaling/value_scale"]
    Ka, Kabs = np.split(product({**model, "coefficients": np.hstack([a, np.abs(a)])}, model["x"]), 2, axis=1)
    norm = np.linalg.norm(b, axis=0)
    norm = np.where(norm > 0, norm, 1)  # a column of zeros has a residual of 0, or is wrong
    r = np.linalg.norm(b - model["kernel@ridge_alpha"] * a - Ka, axis=0)
    return (r / norm).max(), (EPS * np.linalg.norm(Kabs, axis=0) / norm).max()
