"""product.grid, product.reproducible and product.tolerance end to end: the same bits wherever they are promised, the
same answer to rounding elsewhere, and residuals of the true matrix whatever was skipped."""
import os

import numpy as np

import gramarye as g

N, M = 3100, 67  # four blocks of 1024, the last one short
X, T = g.halton(N, 3), g.halton(M, 3, 5000)
F = lambda x: np.stack([np.sin(5 * x[:, 0]) + x[:, 1] * x[:, 2], 3 + np.cos(4 * x[:, 2]) - 1e4 * x[:, 0]], 1)
LINE = g.halton(6200, 1)  # seven blocks one after the other: those that do not touch are far apart
G = lambda x: np.sin(40 * x[:, 0])
LAYOUTS = [(1, "auto"), (2, "auto"), (3, "auto"), (4, "auto"), (2, [1, 2]), (4, "2d"), (4, [1, 4])]


def solve(args, folder, what, ranks=1, codes=(0,), grid="auto", data=(), target="target.h5", kernel=(), ksp=(),
          **product):
    out = os.path.join(folder, "out.h5")
    config = dict(data=dict(dict(file="data.h5"), **dict(data)), target=dict(file=target or "none"),
                  output=dict(file="out.h5"), ridge=dict(alpha=1.0),
                  kernel=dict(dict(type="matern", nu=1.5, length_scale=0.6), **dict(kernel)),
                  ksp=dict(dict(rtol=1e-7), **dict(ksp)), pc=dict(type="none"), solve=dict(method="iterative"),
                  product=dict(product, grid=grid), monitor=False)
    os.path.exists(out) and os.remove(out)
    r = g.run(args.program, "solve", config, ranks, (), args.mpiexec, folder, timeout=120)
    return (g.read(out), r) if g.succeeded(what, r, codes) and os.path.exists(out) else (None, r)


def same_bits(args, folder, layouts, **changes):
    """Everything that is not time, memory or the number of ranks: bit by bit."""
    reference = None
    for ranks, grid in layouts:
        what = f"{changes} on {ranks} ranks, grid {grid}"
        m, _ = solve(args, folder, what, ranks, grid=grid, reproducible=True, **changes)
        if m is None:
            continue
        reference = reference or m
        g.check(not changes.get("tolerance") or m["run@skipped_fraction"] > 0.3, f"{what}: too little is skipped")
        for name in ("coefficients", "target/mean", "history/residual", "run@iterations", "run@relative_residual",
                     "run@backward_error", "scaling/value_shift", "scaling/value_scale", "scaling/point_shift",
                     "scaling/point_scale", "run@skipped_fraction"):
            a, b = np.asarray(m.get(name, 0)), np.asarray(reference.get(name, 0))
            g.check(a.shape == b.shape and a.tobytes() == b.tobytes(), f"{what}: {name} differs from that of one rank")


def reproducible(args, folder):
    same_bits(args, folder, LAYOUTS)
    some = [(1, "auto"), (3, "auto"), (4, "2d")]
    same_bits(args, folder, some, symmetric=False, data=dict(limit=2100))
    same_bits(args, folder, some, data=dict(standardize="both", limit=2100), ksp=dict(type="gmres"))
    same_bits(args, folder, some, precision="single", ksp=dict(rtol=1e-4), data=dict(limit=2100))
    same_bits(args, folder, some, precision="mixed", data=dict(limit=2100))
    same_bits(args, folder, some, data=dict(file="line.h5"), target="line.h5", tolerance=1e-4,
              kernel=dict(length_scale=0.002), codes=(0, 3))
    for n in 700, 3:
        same_bits(args, folder, some, data=dict(limit=n))


def predict(args, folder):
    """predict of a reproducible model repeats solve's own bits on any number of ranks."""
    model, _ = solve(args, folder, "model", 2, reproducible=True)
    if model is None:
        return
    os.rename(os.path.join(folder, "out.h5"), os.path.join(folder, "model.h5"))
    config = dict(model=dict(file="model.h5"), target=dict(file="target.h5"), output=dict(file="out.h5"),
                  product=dict(reproducible=True))
    for ranks in 1, 3, 4:
        r = g.run(args.program, "predict", config, ranks, (), args.mpiexec, folder)
        if g.succeeded(f"predict on {ranks} ranks", r):
            m = g.read(os.path.join(folder, "out.h5"))
            g.check(np.array_equal(m["target/mean"], model["target/mean"]), f"predict on {ranks} ranks: other bits")


def grids(args, folder):
    """To the tolerance, amplified by the condition number of 1e3, on every grid."""
    reference, _ = solve(args, folder, "one rank")
    for ranks, grid in LAYOUTS[1:] if reference else ():
        m, _ = solve(args, folder, f"grid {grid} of {ranks}", ranks, grid=grid)
        if m:
            for name in "coefficients", "target/mean":
                g.close(f"grid {grid} of {ranks}: {name}", m[name], reference[name], 1e-4)


def skipping(args, folder):
    """Much is skipped and said to be; the residual stated is that of the whole matrix, which meets ksp.rtol whatever
    the tolerance: where skipping stops paying, all tiles take over, and that is said too."""
    for ranks, grid in (1, "auto"), (4, "2d"):
        for tolerance, length_scale, rtol in (1e-12, 0.002, 1e-8), (0.3, 0.02, 1e-12), (1e300, 0.02, 1e-8):
            what = f"tolerance {tolerance:g} on {ranks} ranks"
            m, r = solve(args, folder, what, ranks, (0,), grid, dict(file="line.h5"), None,
                         dict(length_scale=length_scale), dict(rtol=rtol), tolerance=tolerance)
            if m is None:
                continue
            g.check(m["run@skipped_fraction"] > 0.3, f"{what}: skipped only {m['run@skipped_fraction']:.3g}")
            g.check(f"{100 * m['run@skipped_fraction']:.3g} % of the pairs skipped" in r.out, f"{what}: not said")
            own, rounding = g.residual(m, G(LINE))
            rho = m["run@relative_residual"]
            g.check(rho <= 2 * own + rounding and own <= 2 * rho + rounding,
                    f"{what}: run@relative_residual {rho:.3g}, recomputed {own:.3g} +- {rounding:.1g}")
            g.check(own <= rtol + rounding, f"{what}: residual {own:.3g}, asked for {rtol:g}")
            start = m["run@exact_from"]
            g.check((start > 0) == (tolerance > 1) and start < m["run@iterations"], f"{what}: all tiles from {start}")
            g.check((f"none from iteration {start}" in r.out) == (start >= 0), f"{what}: no word of that in {r.out}")
    m, r = solve(args, folder, "tolerance 0", 2)
    g.check(m and m["run@skipped_fraction"] == 0 and "skipped" not in r.out, "tolerance 0 skips")


TESTS = [reproducible, predict, grids, skipping]

g.main(__doc__, TESTS, {"data.h5": dict(x=X, y=F(X)), "target.h5": dict(x=T), "line.h5": dict(x=LINE, y=G(LINE))})
