"""The program with CUDA emulated on the host, as a user meets it: devices listed and taken, the answers of cpu, the bits
that are promised, and one line where there is no device or too little of its memory."""
import json
import os
import re

import numpy as np

import gramarye as g

N, M = 500, 70
X, T = g.halton(N, 3), g.halton(M, 3, 5000)
F = lambda x: np.stack([np.sin(5 * x[:, 0]) + x[:, 1] * x[:, 2], np.cos(4 * x[:, 2])], 1)
RTOL = 1e-7
GPU = r"GPU {} \(host emulation, sm_90\)"
NONE = "no CUDA device found"
PASSED_OVER = r"^gramarye: backend auto: {}, products run on cpu \(.+\)$"


def run(args, folder, verb, config, ranks=1, more=(), **emulation):
    """emulation: DEVICES=2 is GRAM_CUDA_HOST_DEVICES=2 in its environment; DEVICES=(1, 0) is 1 on the first rank, 0 on
    the second."""
    each = [["env", *(f"GRAM_CUDA_HOST_{name}={value[rank] if isinstance(value, tuple) else value}"
                      for name, value in emulation.items())] for rank in range(ranks)]
    prefix = each[-1]
    if each[0] != each[-1]:  # mpiexec -n 1 env A PROGRAM ... : -n 1 env B, and g.run adds PROGRAM ... of the last rank
        same = g.command(args.program, verb, [os.path.join(folder, "config0.yaml")], args=more)
        prefix = [part for env in each for part in (":", "-n", "1", *env, *same)][1:-len(same)]
        prefix, ranks = [*args.mpiexec.split(), *prefix], 1
    return g.run(args.program, verb, config, ranks, more, args.mpiexec, folder, prefix=prefix, timeout=60)


def config(backend="cuda", method="iterative", **product):
    return dict(data=dict(file="data.h5"), target=dict(file="target.h5"), output=dict(file="out.h5"), monitor=False,
                kernel=dict(type="matern", nu=1.5, length_scale=0.6), ridge=dict(alpha=10.0), ksp=dict(rtol=RTOL),
                solve=dict(method=method), product=dict(dict(precision="double"), **product),
                **(dict(backend=backend) if backend else {}))


def output(folder):
    """What the program wrote, or None; it is then model.h5."""
    path = os.path.join(folder, "out.h5")
    if not os.path.exists(path):
        return None
    model = os.path.join(folder, "model.h5")
    os.replace(path, model)
    return g.read(model)


def solve(args, folder, what, ranks=1, backend="cuda", taken="cuda", method="iterative", emulation=(), **product):
    r = run(args, folder, "solve", config(backend, method, **product), ranks, **dict(emulation))
    m = output(folder)
    if not g.succeeded(what, r) or not g.check(m, f"{what}: no output"):
        return None, r
    g.check(m["run@backend"] == taken, f"{what}: run@backend is {m['run@backend']}")
    g.check(m["run@precision"] == product.get("precision", "double"), f"{what}: run@precision is {m['run@precision']}")
    own, rounding = g.residual(m, F(X))
    g.check(own <= RTOL + rounding, f"{what}: residual {own:.3g}")
    said = rf"\bcuda \({GPU.format(0)}\)" if taken == "cuda" else r"\bcpu \("
    g.check(re.search(said, r.out), f"{what}: {said} is not in {r.out}")
    return m, r


def information(args, folder):
    for n in 1, 2, 0:
        what = f"info with {n} devices"
        r = run(args, folder, "info", None, DEVICES=n)
        g.succeeded(what, r)
        found = GPU.format(0) if n else "not here: no CUDA device found"
        g.check(re.search(rf"^backend +cuda \({found}\)$", r.out, re.M), f"{what}: {r.out}")
        devices = "".join(re.findall("^devices .*", r.out, re.M))
        g.check(devices.count("host emulation, sm_90, 1 GB") == n, f"{what}: {devices}")


def solves(args, folder):
    """As cpu does: to the tolerance, amplified by the condition number, some 50."""
    reference, _ = solve(args, folder, "cpu", backend="cpu", taken="cpu")
    two = dict(DEVICES=2)
    for what, ranks, emulation, options in (
            ("cuda", 1, {}, {}), ("auto", 1, {}, dict(backend="auto")), ("the default", 2, {}, dict(backend=None)),
            ("mixed", 1, {}, dict(precision="mixed")), ("two devices", 2, two, {}),
            ("mixed on two devices", 2, two, dict(precision="mixed")), ("late", 2, dict(LAZY=1), {}),
            ("MPI to devices", 3, dict(AWARE=1, **two), dict(grid=[1, 3])), ("direct", 2, {}, dict(method="direct"))):
        m, r = solve(args, folder, what, ranks, emulation=emulation, **options)
        if m and reference:
            g.check(not r.err + r.passed_over, f"{what}: said {r.err + r.passed_over}")
            for name in "coefficients", "target/mean":
                g.close(f"{what}: {name}", m[name], reference[name], 50 * RTOL)


def reproducible(args, folder):
    shuffled = dict(DEVICES=2, SEED=7, LAZY=1)
    for precision, emulations in ("double", [shuffled]), ("mixed", [{}, shuffled]):
        one, _ = solve(args, folder, f"reproducible, {precision}", precision=precision, reproducible=True)
        for emulation in emulations:
            what = f"reproducible, {precision}, on 2 ranks with {emulation}"
            m, _ = solve(args, folder, what, 2, emulation=emulation, precision=precision, reproducible=True)
            for name in ("coefficients", "target/mean", "history/residual", "run@iterations") if m and one else ():
                g.check(np.array_equal(m[name], one[name]), f"{what}: {name} differs from that of one rank")


def same(args, folder):
    """The same bits each time, however threads take turns."""
    runs = [solve(args, folder, f"seed {seed}", 2, emulation=dict(SEED=seed))[0] for seed in (1, 2)]
    for name in ("coefficients", "target/mean") if all(runs) else ():
        g.check(np.array_equal(runs[0][name], runs[1][name]), f"seeds: {name} differs")


PREDICT = dict(model=dict(file="model.h5"), target=dict(file="target.h5"), output=dict(file="mean.h5"), backend="cuda")


def predict(args, folder):
    """Of a model that cpu has made, in double where mixed was asked for."""
    model, _ = solve(args, folder, "the model", backend="cpu", taken="cpu")
    for ranks, precision, tolerance in ((1, "double", 1e-13), (2, "mixed", 1e-13), (3, "single", 1e-5)) if model else ():
        what = f"predict, {precision}, on {ranks} ranks"
        r = run(args, folder, "predict", PREDICT, ranks, ["-product_precision", precision], DEVICES=2)
        if g.succeeded(what, r):
            m = g.read(os.path.join(folder, "mean.h5"))
            g.check(m["run@backend"] == "cuda", f"{what}: run@backend is {m['run@backend']}")
            g.close(what, m["target/mean"], g.evaluate(model, T), tolerance)


def bench(args, folder):
    limits = {"double": 4e-15, "single": 2e-6, "mixed": 2e-6}  # as those of cpu in test_bench.py
    cases = dict(precisions=list(limits), rhs=[1, 3], repeats=1)
    for ranks, count, more in ((1, 6, dict(sizes=600, kernels="gaussian", symmetric=True)),
                               (2, 6, dict(sizes=[3, 600], rhs=3, symmetric=False)),
                               (2, 1, dict(kind="solve", sizes=300, symmetric=True, rhs=2, precisions="mixed"))):
        kind = more.get("kind", "product")
        what = f"bench, {kind}, on {ranks} ranks"
        r = run(args, folder, "bench", dict(bench={**cases, **more}, kernel=dict(type="matern", nu=2.5, length_scale=0.3),
                ridge=dict(alpha=10.0), solve=dict(method="iterative"), backend="cuda", monitor=False), ranks)
        found = [json.loads(line) for line in r.out.splitlines()] if g.succeeded(what, r) else []
        g.check(len(found) == count, f"{what}: {len(found)} lines, expected {count}")
        for line in found:
            case = f"{what}: {line}"
            g.check(line["backend"] == "cuda" and re.fullmatch(GPU.format(0), line["simd"]), case)
            g.check(kind == "solve" or 0 < line["device_seconds"] <= line["seconds"], case)
            g.check(line["relative_error"] <= (limits[line["precision"]] if kind == "product" else 1e-7), case)
            g.check(kind == "product" or line["converged"] and line["relative_residual"] <= 1e-8, case)


def missing(args, folder):
    """No device, or not on all ranks: auto says that it does without, once, and cuda is refused before any work."""
    for ranks, devices, words in ((1, 0, NONE), (2, 0, NONE), (2, (0, 1), NONE), (2, (1, 0), "no device on other ranks")):
        what = f"{devices} devices on {ranks} ranks"
        _, r = solve(args, folder, what, ranks, "auto", "cpu", emulation=dict(DEVICES=devices), precision="mixed")
        said = r.err + r.passed_over
        g.check(len(said) == 1 and re.search(PASSED_OVER.format(words), said[0]), f"{what}: said {said}")
        refused(args, folder, what, "solve", config(), ranks, 2,
                rf"^gramarye: backend: 'cuda' finds no device \({words}\)$", DEVICES=devices)


def refused(args, folder, what, verb, tree, ranks, code, words, more=(), **emulation):
    """One line on stderr, and no file that was not there."""
    before = set(os.listdir(folder)) | {"config0.yaml"}
    r = run(args, folder, verb, tree, ranks, more, **emulation)
    g.succeeded(what, r, (code,))
    said = r.err + r.passed_over
    g.check(len(said) == 1 and re.search(words, said[0]), f"{what}: said {said}")
    left = set(os.listdir(folder)) - before
    g.check(not left, f"{what}: left {left} behind")


def memory(args, folder):
    """What does not fit is refused with what it needs and what there is; a rank has its share of a device that two use."""
    short = r"^gramarye: device memory: .* needs [\d.e-]+ GB, .* has 3e-05 GB of GPU 0 \(host emulation"
    solve(args, folder, "what fits", 2, emulation=dict(BYTES=4 << 20))
    refused(args, folder, "solve, short", "solve", config(), 1, 4, short, BYTES=30000)
    refused(args, folder, "solve, mixed, short", "solve", config(precision="mixed"), 2, 4, short, BYTES=60000)
    refused(args, folder, "bench, short", "bench", dict(bench=dict(sizes=[2000], repeats=1), backend="cuda"), 1, 4, short,
            BYTES=30000)
    refused(args, folder, "predict, short", "predict", PREDICT, 1, 4, short, BYTES=30000)


def surrogates(args, folder):
    """Gradients, tails and variances: what cpu answers, on 2 ranks too."""
    for what, changes in (("gradients", dict(data=dict(file="data.h5", values="y0", gradients="dy"),
                                             kernel=dict(type="gaussian", length_scale=0.6), ridge=dict(alpha=1e-2))),
                          ("cubic", dict(kernel=dict(type="cubic"), ridge=dict(alpha=1e-2))),
                          ("thin plate", dict(kernel=dict(type="thin_plate")))):
        answers = []
        for backend, ranks in ("cpu", 1), ("cuda", 1), ("cuda", 2):
            tree = {**config(backend), **changes, "pc": dict(type="lrv"), "ksp": dict(rtol=1e-9)}
            tree["target"] = dict(file="target.h5", gradient=what != "thin plate", variance=True)
            r = run(args, folder, "solve", tree, ranks)
            if g.succeeded(f"{what}, {backend}, {ranks} ranks", r):
                answers.append(output(folder))
        for m in answers[1:]:
            for name in {"target/mean", "target/gradient", "target/variance"} & set(answers[0]):
                # residuals of 1e-9 and variances to 1e-4
                g.close(f"{what}: {name}", m[name], answers[0][name], 2e-4 if "variance" in name else 1e-6)


TESTS = [information, solves, reproducible, same, predict, bench, missing, memory, surrogates]
DY = np.stack([5 * np.cos(5 * X[:, 0]), X[:, 2], X[:, 1]], 1)

g.main(__doc__, TESTS, {"data.h5": dict(x=X, y=F(X), y0=F(X)[:, 0], dy=DY), "target.h5": dict(x=T)})
