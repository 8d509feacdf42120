#!/usr/bin/env python3
"""Time products of PyKeOps on a GPU, a JSON object per line per case, to stand beside those of gramarye bench.

  python3 jobs/compare_keops_gpu.py >keops.jsonl

Cases, points (uniform in the unit cube, the same numbers) and length scale are those of the bench in jobs/gpu.sh, the
formulas are LazyTensors on arrays of PyTorch that stay on the device (without PyTorch: of NumPy, copied each time).
seconds is the clock on the wall, device_seconds that of device events around the same call, medians of the repeats
after one that compiles and one that warms up; both hold what KeOps does in Python. KeOps compiles a binder with g++
against the headers of Python and of CUDA, and each formula with NVRTC; where these lie is found here, since KeOps
looks in fewer places. jobs/gpu_summary.py puts the two side by side.
"""
import argparse
import collections
import ctypes
import ctypes.util
import glob
import importlib.util
import json
import math
import os
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time

LENGTH_SCALE, DIM, SAMPLED = 0.2, 3, 16

Case = collections.namedtuple("Case", "kernel precision rhs size scheme", defaults=(0, "auto"))
# those that gramarye has targets against, the slowest last; then KeOps' other way to sum, the same as auto but in one
FIRST = [Case("gaussian", "single", 1), Case("exponential", "single", 1), Case("gaussian", "single", 16),
         Case("gaussian", "double", 1), Case("exponential", "double", 1)]
MORE = [Case("matern52", "single", 1), Case("gaussian", "single", 1, 0, "direct_sum"), Case("matern52", "double", 1),
        Case("gaussian", "double", 1, 0, "direct_sum")]


def say(text):
    print(f"compare_keops_gpu.py: {text}", file=sys.stderr, flush=True)


def die(text):
    say(text)
    sys.exit(2)


# ---- where CUDA is -------------------------------------------------------------------------------------------


def mapped(name):
    """The library of this name that this process has loaded: PyTorch knows its own."""
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if f"/lib{name}.so" in line}
    return sorted(paths)[0] if paths else None


def folders():
    """Where toolkits, drivers and wheels of NVIDIA put libraries."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    homes += [os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))] if nvcc else []
    homes += ["/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-*"), reverse=True), "/opt/cuda"]
    wheels = [path for base in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
              for path in sorted(glob.glob(os.path.join(base, "nvidia", "*")))]
    homes = [home for home in homes if home] + wheels
    paths = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    paths += [os.path.join(home, lib) for home in homes for lib in ("lib64", "lib", "targets/x86_64-linux/lib")]
    paths += ["/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib"]
    return homes, [path for path in paths if path and os.path.isdir(path)]


def find(name, paths):
    known = mapped(name) or next((p for path in paths for p in sorted(glob.glob(f"{path}/lib{name}.so*"))), None)
    if known:
        return known
    soname = ctypes.util.find_library(name)
    if not soname:
        return None
    ctypes.CDLL(soname, mode=ctypes.RTLD_GLOBAL)
    return mapped(name) or soname


def show_cuda_to_keops(links):
    """Links to libcuda, libnvrtc and libcudart in one folder, under the names that a linker and ctypes look for."""
    homes, paths = folders()
    found = {}
    for name in "cuda", "cudart", "nvrtc", "nvrtc-builtins":
        path = find(name, paths)
        if not path and name != "nvrtc-builtins":
            die(f"no lib{name}: is this the Python that has PyTorch, or a machine with a toolkit?")
        if path:
            found[name] = os.path.join(links, f"lib{name}.so")
            os.symlink(path, found[name])
            say(f"lib{name}: {path}")
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)  # before NVRTC looks for its builtins
    headers = [home for home in homes if all(os.path.isfile(f"{home}/include/{h}") for h in ("cuda.h", "nvrtc.h"))]
    if not headers:
        die("no folder has include/cuda.h and include/nvrtc.h: set CUDA_HOME")
    os.environ["CUDA_PATH"] = headers[0]
    # KeOps links in the folders that these were loaded from, where libcuda.so may be missing beside libcuda.so.1
    os.environ["LIBRARY_PATH"] = ":".join(filter(None, (links, os.environ.get("LIBRARY_PATH"))))
    elsewhere = ctypes.util.find_library
    ctypes.util.find_library = lambda name: found.get(name) or elsewhere(name)


# ---- the products --------------------------------------------------------------------------------------------


def uniform(np, stream, count):
    """The numbers of gramarye bench: splitmix64 (Steele et al. 2014) by counter, in [0, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64((1 + stream) << 40) + np.arange(1, count + 1, dtype="u8") * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


class Numpy:
    def __init__(self, on_device):
        import numpy
        from pykeops.numpy import LazyTensor

        self.LazyTensor, self.np = LazyTensor, numpy
        self.backend, self.name = "GPU_1D" if on_device else "CPU", f"numpy {numpy.__version__}"

    def array(self, a):
        return a

    def double(self, a):
        return a.astype("f8")

    def seconds(self, call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start, None


class Torch(Numpy):
    def __init__(self):
        super().__init__(True)
        import torch
        from pykeops.torch import LazyTensor

        self.LazyTensor, self.torch = LazyTensor, torch
        self.name = f"torch {torch.__version__}"

    def array(self, a):
        return self.torch.from_numpy(a).cuda()

    def double(self, a):
        return a.double()

    def seconds(self, call):
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.torch.cuda.synchronize()
        wall = time.perf_counter()
        start.record()
        call()
        stop.record()
        self.torch.cuda.synchronize()
        return time.perf_counter() - wall, 1e-3 * start.elapsed_time(stop)


def phi(np, kernel, s):
    """The profile at squared distances s, of LazyTensors, tensors or arrays."""
    exp, sqrt = ((lambda a, f=f: getattr(a, f)() if hasattr(a, f) else getattr(np, f)(a)) for f in ("exp", "sqrt"))
    if kernel == "gaussian":
        return exp(-s / (2 * LENGTH_SCALE**2))
    if kernel == "exponential":
        return exp(-sqrt(s) / LENGTH_SCALE)
    t = sqrt(s) * (math.sqrt(5) / LENGTH_SCALE)  # KeOps would evaluate t * t / 3 with a third in float
    return (1 + t + s * (5 / (3 * LENGTH_SCALE**2))) * exp(-t)


class Problem:
    def __init__(self, xp, case):
        kind = "f4" if case.precision == "single" else "f8"
        x = uniform(xp.np, 0, case.size * DIM).reshape(case.size, DIM)
        v = uniform(xp.np, 1, case.size * case.rhs).reshape(case.rhs, case.size).T - 0.5
        self.xp, self.case = xp, case
        self.x, self.v = (xp.array(xp.np.ascontiguousarray(a.astype(kind))) for a in (x, v))

    def apply(self):
        L, options = self.xp.LazyTensor, {} if self.case.scheme == "auto" else {"sum_scheme": self.case.scheme}
        s = ((L(self.x[:, None, :]) - L(self.x[None, :, :])) ** 2).sum(-1)
        self.y = phi(self.xp.np, self.case.kernel, s).__matmul__(self.v, backend=self.xp.backend, **options)

    def errors(self):
        """max |y - y_ref| on sampled rows, relative to max |y_ref| and to max sum |K| |v|."""
        rows = list(range(0, self.case.size, max(1, self.case.size // SAMPLED)))[:SAMPLED]
        x, v = self.xp.double(self.x), self.xp.double(self.v)
        s = sum((x[rows, k][:, None] - x[None, :, k]) ** 2 for k in range(DIM))
        K = phi(self.xp.np, self.case.kernel, s)
        y = K @ v
        error = float(abs(self.xp.double(self.y[rows]) - y).max())
        return error / float(abs(y).max()), error / float((K @ abs(v)).max())


def measure(xp, case, repeats, version):
    """The line of a case."""
    problem = Problem(xp, case)
    start = time.perf_counter()
    problem.apply()  # compiles
    compile_seconds = time.perf_counter() - start
    xp.seconds(problem.apply)
    taken = [xp.seconds(problem.apply) for _ in range(repeats)]
    wall, device = zip(*taken)
    relative, magnitude = problem.errors()
    seconds = statistics.median(wall if device[0] is None else device)
    line = {"kind": "product", "side": "keops", **case._asdict(), "dim": DIM, "backend": xp.backend, "version": version,
            "arrays": xp.name, "repeats": repeats, "seconds": statistics.median(wall), "seconds_min": min(wall),
            "seconds_max": max(wall), "pairs_per_second": case.size**2 / seconds, "relative_error": relative,
            "magnitude_error": magnitude, "first_seconds": compile_seconds}
    if device[0] is not None:
        line["device_seconds"] = statistics.median(device)
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: to try the script")
    parser.add_argument("--sizes", default="1000000,10000,100000", help="points; further cases at the first only")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", type=int, default=99, help="no more than this many")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after these")
    args = parser.parse_args()
    end = time.perf_counter() + args.seconds
    sizes = [int(size) for size in args.sizes.split(",")]
    for module in "numpy", "pykeops":
        if not importlib.util.find_spec(module):
            die(f"{sys.executable} has no {module}")
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what KeOps and its compilers print is no line of results
    os.environ.setdefault("PYKEOPS_VERBOSE", "0")
    with tempfile.TemporaryDirectory() as links:
        torch = None
        if args.device == "gpu":
            if importlib.util.find_spec("torch"):
                import torch

                if torch.cuda.is_available():
                    torch.cuda.init()
                else:
                    torch = None
            show_cuda_to_keops(links)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        import pykeops

        if args.device == "gpu" and not pykeops.config.gpu_available:
            die("KeOps finds no GPU")
        xp = Torch() if torch else Numpy(args.device == "gpu")
        cases = [case._replace(size=sizes[0]) for case in FIRST]
        cases += [case._replace(size=size) for size in sizes[1:] for case in FIRST]
        cases += [case._replace(size=sizes[0]) for case in MORE]
        done, failures = 0, 0
        for case in cases[: args.cases]:
            if time.perf_counter() > end:
                die(f"no time left from {case.kernel} {case.precision} {case.rhs} rhs {case.size} on")
            while True:
                try:
                    line = measure(xp, case, args.repeats, pykeops.__version__)
                    print(json.dumps(line), file=results, flush=True)
                    done += 1
                except Exception as e:  # one formula that does not compile leaves the others
                    say(f"{case}: {type(e).__name__}: {e}")
                    failures += 1
                    if torch and not done:  # whatever is between the two
                        torch, xp = None, Numpy(True)
                        continue
                break
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
