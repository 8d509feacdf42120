"""Every surrogate of tests/data/rbf.h5 through the program: coefficients, predictions, gradients of the mean, leave-one-out
residuals; what earlier codes had wrong is told apart."""
import os
import tempfile

import h5py
import numpy as np

import gramarye as g

DATA = os.path.join(g.HERE, "..", "data", "rbf.h5")
KERNELS = {"gauss": dict(type="gaussian"), "cubic": dict(type="cubic"), "matern5": dict(type="exponential"),
           "matern15": dict(type="matern", nu=1.5), "matern25": dict(type="matern", nu=2.5),
           "matern35": dict(type="matern", nu=3.5)}
METHODS = {"direct": dict(solve_method="direct"),
           "iterative": dict(solve_method="iterative", ksp=dict(rtol=1e-13, max_it=5000))}
MEANINGLESS = 1e12  # condition from which doubles know no coefficients, and predictions to 1e-6
SINGULAR = 1e16  # a case of 2e18: LAPACK's LU of numpy predicts to 5e-6, the published program to 1.1e-5


def config(folder, name, case, gradients, degree, method, loo=False, **more):
    kernel = dict(KERNELS[name.split("_")[1]], length_scale=[float(l) for l in case["l"]])
    return dict(data=dict(file=os.path.join(folder, "data.h5"), values="f", **({"gradients": "df"} if gradients else {})),
                target=dict(file=os.path.join(folder, "data.h5"), points="y", gradient=not name.endswith("matern5")), kernel=kernel,
                ridge=dict(alpha=0), tail=dict(degree=degree),
                output=dict(file=os.path.join(folder, "out.h5"), loo=loo), **METHODS[method], **more)


def write(folder, case):
    g.write(os.path.join(folder, "data.h5"), **{k: case[k][()] for k in ("x", "f", "df", "y") if k in case})


def solve(what, folder, args, configuration, ranks):
    """Where the matrix is singular to double precision a run may say so."""
    r = g.run(args.program, "solve", configuration, ranks, mpiexec=args.mpiexec, folder=folder)
    singular = "grbf d1_gauss" in what
    return g.read(os.path.join(folder, "out.h5")) if g.succeeded(what, r, (0, 3) if singular else (0,)) else None


def tolerance(case, name):
    """README of the oracle: eps times the condition for predictions relative to their largest; a margin of 10, as the norm of
    the inverse alone is what bounds it, and rounding of the entries is a few eps."""
    condition = case.attrs["cond2"]
    return 1e-4 if condition > SINGULAR else 1e-6 if condition > MEANINGLESS else max(1e-12, 10 * g.EPS * condition)


def compare(what, m, case, name, tail, coefficients, prediction):
    limit = tolerance(case, name)
    n, d = case["x"].shape
    if not m["run@converged"]:  # and said so: a sanitizer's build is there, 1.05e-4 where 1e-4 is asked
        g.check(case.attrs["cond2"] > SINGULAR, f"{what}: {m['run@reason']}")
        limit *= 10
    g.close(f"{what}: predictions", m["target/mean"][:, 0], prediction, limit)
    if case.attrs["cond2"] > MEANINGLESS:
        return
    a, c = coefficients[:n], coefficients[len(coefficients) - tail:]
    scale = np.abs(coefficients).max()
    g.close(f"{what}: coefficients", m["coefficients"][:, 0], a, limit, scale)
    g.close(f"{what}: tail", m["tail"].ravel(), c, limit, scale)
    if "gradient_coefficients" in m:  # derivatives in the centre: the other sign
        own = -coefficients[n:n + n * d].reshape(n, d)
        g.close(f"{what}: gradient coefficients", m["gradient_coefficients"], own, limit, scale)


def leave_one_out(what, m, case, name, block):
    """As accurate as predictions, relative to the largest of these."""
    limit, scale = tolerance(case, name), np.abs(case["pred"]).max()
    for dataset in ("loo", "loo_block") if block else ("loo",):
        if g.check(dataset in m, f"{what}: no {dataset}") and case.attrs["cond2"] < SINGULAR:
            g.close(f"{what}: {dataset}", m[dataset], case[dataset][()], limit, scale)
            g.close(f"{what}: {dataset}_rms", m[dataset + "_rms"], [np.sqrt(np.mean(case[dataset][()] ** 2))], limit, scale)


def values(args, folder, ranks):
    with h5py.File(DATA) as f:
        for name, case in f["rbf"].items():
            write(folder, case)
            for method in METHODS:
                what = f"rbf {name}, {method}, {ranks} ranks"
                m = solve(what, folder, args, config(folder, name, case, False, 1, method, method == "direct"), ranks)
                if m is None:
                    continue
                compare(what, m, case, name, case["x"].shape[1] + 1, case["coef"][()], case["pred"][()])
                if method == "direct":
                    leave_one_out(what, m, case, name, False)


def gradients(args, folder, ranks):
    with h5py.File(DATA) as f:
        for name, case in f["grbf"].items():
            write(folder, case)
            d = case["x"].shape[1]
            for method in METHODS:
                for degree, ending in (-1, ""), (1, "_lintail"):
                    what = f"grbf {name}{ending}, {method}, {ranks} ranks"
                    loo = method == "direct" and degree < 0
                    c = config(folder, name, case, True, degree, method, loo)
                    if name.endswith("cubic") and degree < 0:
                        r = g.run(args.program, "solve", c, ranks, mpiexec=args.mpiexec, folder=folder)
                        g.check(r.code == 2 and len(r.err) == 1 and "tail.degree" in r.err[0],
                                f"{what}: {r.code} {r.err}")
                        continue
                    m = solve(what, folder, args, c, ranks)
                    if m is None:
                        continue
                    compare(what, m, case, name, d + 1 if degree > 0 else 0, case["coef" + ending][()],
                            case["pred" + ending][()])
                    if loo:
                        leave_one_out(what, m, case, name, True)


def defects(args, folder):
    """Numbers that earlier codes gave for the same problems are not ours (formulas: shared/research/formulas.md, 3)."""
    with h5py.File(DATA) as f:
        case, name = f["rbf/d2_matern25"], "d2_matern25"
        write(folder, case)
        m = solve("defects", folder, args, config(folder, name, case, False, 1, "direct", True), 1)
        x, y, l = case["x"][()], case["f"][()], case["l"][()]
        n = len(x)
        K, P = g.gram(x, x, "matern", 2.5, l), np.hstack([np.ones((n, 1)), x])
        A = np.block([[K, P], [P.T, np.zeros((3, 3))]])
        # no tail; an explicit inverse of K alone; sums of squares in place of residuals
        H = np.linalg.inv(K)
        published = np.abs(y @ H @ H @ y / (n * np.diag(H @ H))).sum()
        without = np.linalg.solve(K, y) / np.diag(H)
        brute = [y[i] - predict(np.delete(x, i, 0), np.delete(y, i), x[i:i + 1], l) for i in range(n)]
        g.close("defects: loo is the refit without the point", m["loo"], brute, 1e-9)
        g.check(np.abs(m["loo"] - without).max() > 1e-2 * np.abs(brute).max(), "defects: loo ignores the tail")
        g.check(abs(np.sum(m["loo"] ** 2) - published) > 1e-3 * published, "defects: loo is f'H^-2 f / (n H^-2)_ii")
        g.close("defects: a / (A^-1)_ii", m["loo"], m["coefficients"][:, 0] / np.diag(np.linalg.inv(A))[:n], 1e-9)

        # derivatives as printed in the documentation of an earlier code are refuted by the gradient of the mean
        case, name = f["grbf/d2_matern25"], "d2_matern25"
        write(folder, case)
        m = solve("defects", folder, args, config(folder, name, case, True, -1, "direct"), 1)
        step = 1e-5
        t, (count, d) = case["y"][()], case["y"].shape
        moved = np.concatenate([t + s * step * np.eye(d)[k] for k in range(d) for s in (1, -1)])
        g.write(os.path.join(folder, "moved.h5"), x=moved)
        r = g.run(args.program, "predict", dict(model=dict(file=os.path.join(folder, "out.h5")),
                  target=dict(file=os.path.join(folder, "moved.h5")), output=dict(file=os.path.join(folder, "p.h5"))),
                  2, mpiexec=args.mpiexec, folder=folder)
        if g.succeeded("defects: predict", r):
            mean = g.read(os.path.join(folder, "p.h5"))["target/mean"][:, 0].reshape(d, 2, count)
            g.close("gradient of the mean", m["target/gradient"], ((mean[:, 0] - mean[:, 1]) / (2 * step)).T, 1e-7)
        # gradient weights count: the mean interpolates the gradients that were given
        g.write(os.path.join(folder, "same.h5"), x=case["x"][()])
        r = g.run(args.program, "predict", dict(model=dict(file=os.path.join(folder, "out.h5")),
                  target=dict(file=os.path.join(folder, "same.h5"), gradient=True),
                  output=dict(file=os.path.join(folder, "p.h5"))), 1, mpiexec=args.mpiexec, folder=folder)
        if g.succeeded("defects: predict", r):
            p = g.read(os.path.join(folder, "p.h5"))
            g.close("interpolates values", p["target/mean"][:, 0], case["f"][()], 1e-9)
            g.close("interpolates gradients", p["target/gradient"], case["df"][()], 1e-9)


def predict(x, y, t, l):
    P, Q = np.hstack([np.ones((len(x), 1)), x]), np.hstack([np.ones((len(t), 1)), t])
    m = P.shape[1]
    A = np.block([[g.gram(x, x, "matern", 2.5, l), P], [P.T, np.zeros((m, m))]])
    c = np.linalg.solve(A, np.concatenate([y, np.zeros(m)]))
    return (np.hstack([g.gram(t, x, "matern", 2.5, l), Q]) @ c)[0]


def refused(args, folder):
    """One line that names the key, exit code 2."""
    with h5py.File(DATA) as f:
        case = f["grbf/d2_matern25"]
        write(folder, case)
        x = case["x"][()]
        line = x.copy()
        line[:, 1] = 2 * line[:, 0] - 1
        g.write(os.path.join(folder, "line.h5"), x=line, f=case["f"][()])
        g.write(os.path.join(folder, "few.h5"), x=x[:2], f=case["f"][:2])
        g.write(os.path.join(folder, "shape.h5"), x=x, f=case["f"][()], df=case["df"][:, :1])
        g.write(os.path.join(folder, "two.h5"), x=x, f=np.stack([case["f"][()]] * 2, 1), df=case["df"][()])
        base = config(folder, "d2_matern25", case, True, -1, "direct")
        at = lambda name: dict(file=os.path.join(folder, name), values="f")
        for what, said, changes in (
                ("exponential", "kernel.type", dict(kernel=dict(type="exponential"))),
                ("matern 1/2", "kernel.type", dict(kernel=dict(type="matern", nu=0.5))),
                ("points on a line", "tail.degree", dict(data=at("line.h5"), tail=dict(degree=1))),
                ("fewer points than polynomials", "tail.degree", dict(data=at("few.h5"), tail=dict(degree=1))),
                ("degree 3", "tail.degree", dict(tail=dict(degree=3))),
                ("cubic without a tail", "tail.degree", dict(kernel=dict(type="cubic"))),
                ("a gradient of one coordinate", "data.gradients", dict(data=dict(at("shape.h5"), gradients="df"))),
                ("two columns of values", "data.gradients", dict(data=dict(at("two.h5"), gradients="df"))),
                ("skipping by value", "product.tolerance", dict(product=dict(tolerance=1e-9), solve_method="iterative")),
                ("reproducible", "product.reproducible",
                 dict(product=dict(reproducible=True), solve_method="iterative", pc=dict(type="none")))):
            for ranks in 1, 3:
                r = g.run(args.program, "solve", {**base, **changes}, ranks, mpiexec=args.mpiexec, folder=folder)
                g.check(r.code == 2 and len(r.err) == 1 and said in r.err[0], f"{what}, {ranks} ranks: {r.code} {r.err}")


def main():
    p = g.parser(__doc__)
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4])
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for ranks in args.ranks:
            values(args, folder, ranks)
            gradients(args, folder, ranks)
        g.attempt(defects, args, folder)
        g.attempt(refused, args, folder)
    g.finish()


main()
