#!/usr/bin/env python3
"""Time gramarye and PyKeOps (NumPy, CPU) side by side on one core, and print the ratios.

  python3 -m venv ~/keops && ~/keops/bin/pip install pykeops h5py
  ~/keops/bin/python jobs/compare_keops.py

KeOps compiles each formula with g++ against the headers of Python (python3-dev) before it is timed. Three sides take
turns on the same core, so that a change of the clock meets all of them: gramarye, KeOps as shipped, and KeOps at its
best, with flags for this processor and direct summation (its default sum keeps loops from vectorising). A ratio is
the median over the rounds of KeOps' seconds over gramarye's in the same round, behind it the smallest and the largest.
"""
import argparse
import collections
import contextlib
import datetime
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def die(text):
    print(f"compare_keops.py: {text}", file=sys.stderr)
    sys.exit(2)


if not all(map(importlib.util.find_spec, ("pykeops", "numpy", "h5py"))):
    die("PyKeOps, numpy or h5py is missing: pip install pykeops h5py")

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BEST_FLAGS = "-march=native -ffast-math -mprefer-vector-width=512"
EPS = 1e-6  # of KeOps' solver: it stops at |r|^2 < N EPS^2
SAMPLED = 40  # rows that check a product

# targets: how many times as fast as KeOps as shipped, and at its best (None: none); config: a solve, else one product
Case = collections.namedtuple("Case", "name targets kernel dim length_scale precision rhs symmetric size config alpha pc",
                              defaults=(0.2, "double", 1, True, None, None, 0.0, "none"))
CASES = [
    Case("fp64 gaussian d=3 square", (25, 6), "gaussian", 3),
    Case("fp64 gaussian d=3 rectangular", (14, 3.3), "gaussian", 3, symmetric=False),
    Case("fp64 exponential d=2 square", (20, 4), "exponential", 2),
    Case("fp64 exponential d=3 square", (20, 4), "exponential", 3),
    Case("fp64 matern52 d=3 square", (20, 4), "matern52", 3),
    Case("fp32 gaussian d=3 square", (75, 7), "gaussian", 3, precision="single"),
    Case("fp64 gaussian d=3 square, 16 rhs", (9, 3.5), "gaussian", 3, rhs=16),
    Case("fp64 gaussian d=3 rectangular, 16 rhs", None, "gaussian", 3, rhs=16, symmetric=False),
    Case("tutorial 1D solve", (25, 4.5), "gaussian", 1, 0.1, config="tutorial_1d", alpha=1.0),
    Case("tutorial 2D solve", (22, 4), "exponential", 2, 0.1, config="tutorial_2d", alpha=10.0),
    Case("tutorial 1D solve, lrv", (300, None), "gaussian", 1, 0.1, config="tutorial_1d", alpha=1.0, pc="lrv"),
    Case("tutorial 2D solve, lrv", None, "exponential", 2, 0.1, config="tutorial_2d", alpha=10.0, pc="lrv"),
    Case("tutorial 2D solve, lrv, mixed", (60, None), "exponential", 2, 0.1, precision="mixed", config="tutorial_2d",
         alpha=10.0, pc="lrv"),
]


def data_file(case):
    return str(ROOT / "configs" / "data" / f"{case.config}.h5")


def with_size(case, size):
    """Products with several right-hand sides on half the points; a solve on the first size rows of its file."""
    if case.config:
        with h5py.File(data_file(case)) as f:
            return case._replace(size=min(size, len(f["x"])))
    return case._replace(size=size if case.rhs == 1 else size // 2)


# ---- gramarye ------------------------------------------------------------------------------------------------


class Gramarye:
    """Every timing is a new process, which clocks itself: its start-up does not count."""

    name = "gramarye"

    def __init__(self, program, folder):
        self.program, self.config, self.output = program, folder / "bench.yaml", folder / "solve.h5"
        self.config.write_text("bench:\n  kind: product\n")

    def run(self, *arguments):
        command = [self.program, *map(str, arguments)]
        try:
            p = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except OSError as e:
            die(f"{self.program}: {e.strerror}")
        if p.returncode:
            said = [line for line in p.stderr.splitlines() if line.startswith("gramarye: ")] or [p.stderr.strip()]
            die(f"{shlex.join(command)}: exit code {p.returncode}: {said[-1]}")
        return p.stdout

    def prepare(self, case):
        self.time_it = self.time_solve if case.config else self.time_product
        self.arguments = ["-backend", "cpu", "-kernel_length_scale", case.length_scale]
        if case.config:
            self.arguments += ["-data_file", data_file(case), "-data_limit", case.size, "-kernel_type", case.kernel]
            self.arguments += ["-ridge_alpha", case.alpha, "-product_precision", case.precision]
            self.arguments += ["-solve_method", "iterative", "-ksp_type", "cg", "-pc_type", case.pc]
            self.arguments += ["-ksp_rtol", 0, "-ksp_atol", math.sqrt(case.size) * EPS, "-output_file", self.output]
            self.arguments += ["-target_file", "none", "-target_values", "none", "-target_grid", "none"]
            self.config_file = ROOT / "configs" / f"{case.config}.yaml"
        else:
            self.arguments += ["-bench_kind", "product", "-bench_sizes", case.size, "-bench_dims", case.dim]
            self.arguments += ["-bench_kernels", case.kernel, "-bench_precisions", case.precision]
            self.arguments += ["-bench_rhs", case.rhs, "-bench_symmetric", str(case.symmetric).lower()]
            self.arguments += ["-bench_repeats", 1]
            self.config_file = self.config

    def time_product(self):
        lines = [line for line in self.run("bench", self.config_file, *self.arguments).splitlines() if line[:1] == "{"]
        if len(lines) != 1:
            die(f"gramarye bench printed {len(lines)} lines of JSON for one case")
        line = json.loads(lines[0])
        self.error = line["relative_error"]
        return {"seconds": line["seconds"], "products": 1}

    def time_solve(self):
        self.run("solve", self.config_file, *self.arguments)
        with h5py.File(self.output) as f:
            run = f["run"].attrs
            self.error = float(run["relative_residual"])
            solve = float(run["seconds_setup"] + run["seconds_solve"])
            return {"seconds": float(run["seconds_total"]), "products": int(run["iterations"]), "solve_seconds": solve}

    def time(self):
        return self.time_it()

    def check(self):
        return self.error


# ---- KeOps ---------------------------------------------------------------------------------------------------


class KeOps:
    """A process that lives as long as the comparison, with its own flags and cache; it sleeps while others run."""

    def __init__(self, name, flags, scheme, folder):
        self.name, self.flags, self.scheme = name, flags, scheme
        os.environ.update(CXXFLAGS=flags, KEOPS_CACHE_FOLDER=str(folder / name.replace(" ", "_")), PYKEOPS_VERBOSE="0")
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, scheme), daemon=True)
        self.process.start()
        theirs.close()
        self.version = self.ask("version")

    def ask(self, *request):
        try:
            self.pipe.send(request)
            return self.pipe.recv()
        except (EOFError, OSError):
            die(f"the process of {self.name} ended; what it said stands above")

    def prepare(self, case):
        self.ask("prepare", case)

    def time(self):
        return self.ask("time")

    def check(self):
        return self.ask("check")

    def close(self):
        self.pipe.close()
        self.process.join()


def work(pipe, scheme):
    """The process: answers what is asked until the pipe closes."""
    os.dup2(2, 1)  # what KeOps prints is no line of the table
    import pykeops
    import pykeops.numpy.operations as operations

    pykeops.set_verbose(False)
    operations.ConjugateGradientSolver = counting(operations.ConjugateGradientSolver)
    while True:
        try:
            request, *case = pipe.recv()
        except EOFError:
            return
        answer = None
        if request == "version":
            answer = pykeops.__version__
        elif request == "prepare":
            problem = Problem(*case, {"sum_scheme": scheme} if scheme else {})
        elif request == "time":
            answer = problem.time()
        elif request == "check":
            answer = problem.check()
        pipe.send(answer)


def counting(solver):
    """KeOps' own conjugate gradients, with the products of the last solve in Problem.products."""

    def solve(binding, product, b, eps):
        def counted(p):
            Problem.products += 1
            return product(p)

        Problem.products = 0
        return solver(binding, counted, b, eps=eps)

    return solve


class Problem:
    """One case as a user of KeOps writes it."""

    products = 0

    def __init__(self, case, options):
        self.case, self.options = case, options
        if case.config:
            with h5py.File(data_file(case)) as f:
                x, v = f["x"][: case.size], f["y"][: case.size].reshape(-1, 1)
        else:
            random = np.random.default_rng(1)
            x, v = random.random((case.size, case.dim)), random.random((case.size, case.rhs)) - 0.5
        self.x, self.v = (a.astype("f4" if case.precision == "single" else "f8") for a in (x, v))
        self.small = self.x[:64].copy(), self.v[:64].copy()
        self.apply(*self.small)  # compiles

    def apply(self, x, v):
        """K @ v, or the solution of (K + alpha I) a = v."""
        from pykeops.numpy import LazyTensor

        l, kernel = self.case.length_scale, self.case.kernel
        s = ((LazyTensor(x[:, None, :]) - LazyTensor(x[None, :, :])) ** 2).sum(-1)
        if kernel == "gaussian":
            K = (-s / (2 * l**2)).exp()
        elif kernel == "exponential":
            K = (-s.sqrt() / l).exp()
        else:  # matern52; KeOps would evaluate t * t / 3 with a third in float
            t = s.sqrt() * (math.sqrt(5) / l)
            K = (1 + t + s * (5 / (3 * l**2))) * (-t).exp()
        if self.case.config:
            return K.solve(v, alpha=self.case.alpha, eps=EPS, **self.options)
        return K.__matmul__(v, **self.options)  # K @ v, which takes no options

    def time(self):
        self.apply(*self.small)  # wakes up
        cpu, wall = time.process_time(), time.perf_counter()
        self.y = self.apply(self.x, self.v)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"seconds": wall, "cpu_seconds": cpu, "products": self.products if self.case.config else 1}

    def kernel_rows(self, rows):
        """K[rows] in double, from the formulas."""
        x, l = self.x.astype("f8"), self.case.length_scale
        r = np.sqrt(sum(np.subtract.outer(x[rows, k], x[:, k]) ** 2 for k in range(x.shape[1]))) / l
        if self.case.kernel == "gaussian":
            return np.exp(-r * r / 2)
        if self.case.kernel == "exponential":
            return np.exp(-r)
        t = math.sqrt(5) * r
        return (1 + t + t * t / 3) * np.exp(-t)

    def check(self):
        """Relative error of a product on sampled rows, or relative residual of a solution, as gramarye reports them."""
        if not self.case.config:
            rows = np.random.default_rng(2).integers(0, self.case.size, SAMPLED)
            y = self.kernel_rows(rows) @ self.v.astype("f8")
            return float(abs(self.y[rows] - y).max() / abs(y).max())
        r = self.v - self.case.alpha * self.y
        for rows in np.array_split(np.arange(self.case.size), 1 + self.case.size // 500):
            r[rows] -= self.kernel_rows(rows) @ self.y
        return float(np.linalg.norm(r) / np.linalg.norm(self.v))


# ---- the comparison ------------------------------------------------------------------------------------------


def first_line(command):
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.split("\n")[0]
    except OSError:
        return "unknown"


def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe(args, sides):
    gramarye, shipped, best = sides
    return {
        "machine": f"{cpu_model()}, core {args.core} of {os.cpu_count()}, {platform.system()} {platform.release()}",
        "gramarye": " ".join(gramarye.run("info").split("\n")[0].split()[1:]),
        "KeOps": f"{shipped.version}, Python {platform.python_version()}, numpy {np.__version__}",
        "KeOps best": f"CXXFLAGS='{best.flags}', sum_scheme='{best.scheme}'",
        "compiler": first_line([*shlex.split(os.environ.get("CXX") or "g++"), "--version"]),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["jobs/compare_keops.py", *sys.argv[1:]]),
    }


NOTES = """\
seconds: median of the rounds, spread their range; pairs are N^2 a product, whatever is mirrored and however many rhs.
error: of a product max|y - y_ref| / max|y_ref| on sampled rows; of a solve |b - A x| / |b|, recomputed in double.
A solve ends at |r| < sqrt(N) 1e-6 on both sides, which is KeOps' rule; KeOps has no preconditioner, nor has gramarye but
where its case says lrv; error has to be no larger than KeOps'. gramarye's time is
run.seconds_total: reading the file, sorting the points, the iterations and the products that certify the residual;
its products are those of the iterations. KeOps' time is that of LazyTensor.solve on arrays in memory.
"""
ROW = "{:38} {:>6}  {:13} {:>9} {:>7} {:>8} {:>8} {:>8}  {:>6} {:>14} {:>6} {}"


def ratios(samples, name, clock="seconds"):
    return [k["seconds"] / g[clock] for k, g in zip(samples[name], samples["gramarye"])]


def summarize(case, samples, errors):
    """One entry a side: medians and, for KeOps, ratios and the verdict."""
    summary = {}
    for name, taken in samples.items():
        seconds = [s["seconds"] for s in taken]
        entry = summary[name] = {
            "seconds": statistics.median(seconds),
            "spread": (max(seconds) - min(seconds)) / statistics.median(seconds),
            "products": taken[-1]["products"],
            "error": errors[name],
        }
        entry["pairs_per_second"] = case.size**2 * entry["products"] / entry["seconds"]
        if name != "gramarye":
            several = ratios(samples, name)
            entry.update(ratio=statistics.median(several), ratio_min=min(several), ratio_max=max(several))
            if case.targets and case.targets["best" in name]:
                entry["target"] = case.targets["best" in name]
                entry["passed"] = entry["ratio"] >= entry["target"]
    return summary


def compare(case, sides, rounds):
    for side in sides:
        side.prepare(case)
    samples = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            samples[side.name].append(side.time())
    return samples, summarize(case, samples, {side.name: side.check() for side in sides})


def show_header(report):
    for key, value in report.items():
        if key != "cases":
            print(f"{key:11} {value}")
    print("\n" + NOTES)
    heads = "case", "N", "side", "seconds", "spread", "Gpair/s", "products", "error", "ratio", "range", "target", ""
    print(ROW.format(*heads).rstrip())


def show(case, samples, summary):
    for name, e in summary.items():
        title = (case.name, case.size) if name == "gramarye" else ("", "")
        ratio = (f"{e['ratio']:.1f}", f"({e['ratio_min']:.1f}-{e['ratio_max']:.1f})") if "ratio" in e else ("", "")
        verdict = (f"{e['target']:g}", "PASS" if e["passed"] else "MISS") if "target" in e else ("", "")
        times = f"{e['seconds']:.4g}", f"{e['spread']:.0%}", f"{e['pairs_per_second'] * 1e-9:.3g}"
        print(ROW.format(*title, name, *times, e["products"], f"{e['error']:.1e}", *ratio, *verdict).rstrip())
    for name in list(summary)[1:]:
        waited = max(s["seconds"] / s["cpu_seconds"] for s in samples[name])
        if waited > 1.1:
            print(f"  not idle: {name} took up to {waited:.2f} times its CPU seconds, so something else had the core")
    if case.config:
        several = (f"{statistics.median(ratios(samples, name, 'solve_seconds')):.1f}" for name in list(summary)[1:])
        print(f"  set-up and solve alone, without reading and sorting: {' and '.join(several)} times as fast")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gramarye", default=str(ROOT / "build" / "gramarye"), help="the program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=20000, help="points of a product; half of it for 16 rhs")
    parser.add_argument("--core", type=int, default=0, help="that everything runs on")
    parser.add_argument("--cases", default="", help="only those whose name contains this")
    parser.add_argument("--flags", default=BEST_FLAGS, help="CXXFLAGS of KeOps best")
    parser.add_argument("--json", type=Path, help="all samples, into this file")
    args = parser.parse_args()
    cases = [with_size(case, args.size) for case in CASES if args.cases in case.name]
    if not cases:
        die(f"--cases: no case is called '{args.cases}'")
    if args.rounds < 1 or args.size < 100:
        die("--rounds is at least 1, --size at least 100")
    try:
        os.sched_setaffinity(0, {args.core})
    except (OSError, ValueError):
        die(f"--core: no core {args.core} here")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = [Gramarye(os.path.abspath(args.gramarye), folder)]
        for name, flags, scheme in ("KeOps shipped", "", None), ("KeOps best", args.flags, "direct_sum"):
            sides.append(KeOps(name, flags, scheme, folder))
            stack.callback(sides[-1].close)  # before the folder goes, where KeOps writes at its end
        report = {**describe(args, sides), "rounds": args.rounds, "cases": []}
        show_header(report)
        for case in cases:
            samples, summary = compare(case, sides, args.rounds)
            show(case, samples, summary)
            report["cases"].append({**case._asdict(), "summary": summary, "samples": samples})
            if args.json:
                args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
