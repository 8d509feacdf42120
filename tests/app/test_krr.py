"""Every system of shared/reference/krr.h5 through the program: coefficients, predictions, residual and file layout."""
import os
import tempfile

import h5py
import numpy as np

import gramarye as g

KERNELS = {  # reference name: (config, type and nu as the model file states them)
    "gaussian": (dict(type="gaussian"), "gaussian", np.nan),
    "laplacian": (dict(type="exponential"), "exponential", np.nan),
    "matern32": (dict(type="matern32"), "matern", 1.5),
    "matern52": (dict(type="matern", nu=2.5), "matern", 2.5),
}
METHODS = {
    "direct": dict(solve_method="direct"),
    "iterative": dict(solve_method="iterative", ksp=dict(type="cg", rtol=1e-10, max_it=20000)),
}


def slow(name, case, method, ranks):
    """Left to --all, as two cores need 5 to 15 s for each: the dense matrix of 10 000 points (800 MB), and four
    right-hand sides of 1300 iterations; two ranks stand for the others there."""
    heavy = case.attrs["n"] >= 10000 if method == "direct" else name.endswith("r4")
    return heavy and ranks != 2


def layout(what, m, case, ranks, method):
    """Every name, shape and attribute of DESIGN.md section 3 that a solve without tail or gradients writes."""
    (n, d), q = case["x"].shape, case["b"].shape[1]
    g.check(np.array_equal(m["x"], case["x"]), f"{what}: x is not the input in input order")
    g.check(m["x"].dtype == m["coefficients"].dtype == np.float64, f"{what}: x or coefficients are not float64")
    g.check(np.array_equal(m["target/x"], case["t"]), f"{what}: target/x is not the targets in input order")
    _, kernel, nu = KERNELS[case.attrs["kernel"]]
    expected = {"kernel@nu": nu, "kernel@length_scale": case.attrs["sigma"], "kernel@amplitude": 1,
                "kernel@ridge_alpha": case.attrs["alpha"], "kernel@ridge_alpha_gradient": case.attrs["alpha"],
                "kernel@tail_degree": -1, "scaling/point_shift": np.zeros(d), "scaling/point_scale": np.ones(d),
                "scaling/value_shift": np.zeros(q), "scaling/value_scale": np.ones(q), "run@ranks": ranks,
                "run@converged": 1}
    for name, value in expected.items():
        if g.check(name in m, f"{what}: no attribute {name}"):
            same = np.shape(m[name]) == np.shape(value) or name == "kernel@length_scale"
            g.check(same and np.array_equal(*np.broadcast_arrays(m[name], value), equal_nan=True),
                    f"{what}: {name} is {m[name]}, expected {value}")
    g.check(m.get("kernel@type") in (kernel, case.attrs["kernel"]), f"{what}: kernel@type {m.get('kernel@type')}")
    for name in ("version git options ranks backend precision iterations converged reason relative_residual "
                 "backward_error pairs_per_second peak_memory_bytes").split():
        g.check(f"run@{name}" in m, f"{what}: no attribute run@{name}")
    g.check(any(name.startswith("run@seconds") for name in m), f"{what}: no attribute run@seconds*")
    g.check("length_scale" in m.get("run@options", ""), f"{what}: run@options is not the full text")
    g.check(m.get("run@precision") == "double", f"{what}: run@precision {m.get('run@precision')}")
    g.check((m.get("run@iterations", 0) == 0) == (method == "direct"), f"{what}: {m.get('run@iterations')} iterations")
    if g.check("history/residual" in m, f"{what}: no dataset history/residual"):
        g.check(np.all(np.isfinite(m["history/residual"])), f"{what}: history/residual is not finite")
        g.check(len(m["history/residual"]) > 1 or method == "direct", f"{what}: history/residual is empty")


def numbers(what, m, case):
    """README: relative error of a and mean_t within rho (lambda_max/alpha + 1), rho the run's own relative_residual."""
    rho = m["run@relative_residual"]
    own, rounding = g.residual(m, case["b"][()])
    g.check(rho <= 2 * own + rounding and own <= 2 * rho + rounding,
            f"{what}: run@relative_residual {rho:.3g}, recomputed {own:.3g} +- {rounding:.1g}")
    # the reference's residual and ours are both only known to a few eps of b
    condition = case.attrs["lambda_max_approx"] / case.attrs["alpha"] + 1
    tolerance = (rho + 4 * g.EPS) * condition + case.attrs["last_refinement"]
    for i in range(case["b"].shape[1]):
        a, mean = case["a"][:, i], case["mean_t"][:, i]
        error = np.linalg.norm(m["coefficients"][:, i] - a) / np.linalg.norm(a)
        g.check(error <= tolerance, f"{what}: coefficients {i} off by {error:.3g}, allowed {tolerance:.3g}")
        g.close(f"{what}: target/mean {i}", m["target/mean"][:, i], mean, tolerance)
    energy = np.sum(m["coefficients"] * case["b"][()])
    g.close(f"{what}: energy a.b", energy, case.attrs["energy"], tolerance)
    g.close(f"{what}: |a|", np.linalg.norm(m["coefficients"]), case.attrs["a_norm"], tolerance)


def solve(args, name, case, method, ranks, folder):
    what = f"{name} {method} on {ranks} ranks"
    config = {
        "data": dict(file=args.reference, points=f"krr/{name}/x", values=f"krr/{name}/b"),
        "target": dict(file=args.reference, points=f"krr/{name}/t"),
        "kernel": dict(KERNELS[case.attrs["kernel"]][0], length_scale=case.attrs["sigma"]),
        "ridge": dict(alpha=case.attrs["alpha"]),
        "pc": dict(type="none"),
        "output": dict(file=os.path.join(folder, "out.h5")),
        **METHODS[method],
    }
    result = g.run(args.program, "solve", config, ranks, mpiexec=args.mpiexec, folder=folder)
    if args.verbose:
        print(f"{what}: {result.seconds:.1f} s", flush=True)
    if not g.succeeded(what, result):
        return
    g.check(result.out.strip(), f"{what}: no summary on standard output")
    m = g.read(config["output"]["file"])
    shape, targets = case["b"].shape, case["mean_t"].shape
    shapes = m["coefficients"].shape, m["target/mean"].shape
    if g.check(shapes == (shape, targets), f"{what}: shapes of coefficients, mean {shapes}, expected {shape, targets}"):
        layout(what, m, case, ranks, method)
        numbers(what, m, case)
    os.remove(config["output"]["file"])


def main():
    p = g.parser(__doc__)
    p.add_argument("--reference", default=os.path.join(g.SHARED, "reference", "krr.h5"))
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    p.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--cases", nargs="+", default=[""], help="only cases whose name holds one of these")
    p.add_argument("--all", action="store_true", help="the slow ones too")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    args.reference = os.path.abspath(args.reference)
    if not os.path.exists(args.reference):
        print(f"{args.reference}: not here, skipped")
        raise SystemExit(g.SKIPPED)
    with h5py.File(args.reference, "r") as f, tempfile.TemporaryDirectory() as folder:
        for name, case in f["krr"].items():
            for method in args.methods:
                for ranks in args.ranks:
                    if any(c in name for c in args.cases) and (args.all or not slow(name, case, method, ranks)):
                        g.attempt(solve, args, name, case, method, ranks, folder)
    g.finish()


main()
