"""The systems of shared/reference/krr_real.h5 on the real data of shared/data: predictions, errors, coefficients."""
import os
import shutil
import tempfile

import h5py
import numpy as np

import gramarye as g

KERNELS = {"laplacian": "exponential", "matern32": "matern32", "matern52": "matern52"}

# lambda_max(K) / n, by power iteration on each set's first 5000 rows: with it (lambda_max / alpha + 1) times the
# relative residual bounds the error of the coefficients, as for krr.h5
LAMBDA = {"egm96": 0.0453, "kin40k": 0.289, "meuse": 0.124, "protein": 0.0154, "satellite": 0.0727}


def slow(case, name, method, ranks):
    """Left to --all: n of 12 000 and 20 000; CG on egm96, whose condition number of 2e8 takes it ten thousand products;
    CG on the other large cases, 10 to 30 s each, on any but two ranks."""
    if method == "direct" or case.attrs["n"] < 1000:
        return case.attrs["n"] > 5300
    return case.attrs["n"] > 5300 or name.startswith(("egm96", "kin40k")) or ranks != 2


def with_dataset(source, folder, **datasets):
    """A copy of a data file with datasets added, as data.index must lie in data.file."""
    path = shutil.copy(source, folder)
    os.chmod(path, 0o644)
    with h5py.File(path, "a") as f:
        for name, value in datasets.items():
            f[name] = value
    return path


def egm96(source, folder, case):
    """All by the program's own keys: sphere, a prefix of train_order, standardised values."""
    with h5py.File(source, "r") as f:
        chosen = np.sort(f["test_index"][()])
        target = g.write(os.path.join(folder, "target.h5"), x=f["x"][chosen], y=f["y"][chosen],
                         every5=np.searchsorted(chosen, f["test_index"][::5]))
    return dict(data=dict(file=source, index="train_order", limit=int(case.attrs["n"]), sphere=True,
                          standardize="values"),
                target=dict(file=target, values="y", index="every5")), 0, 1


def satellite(source, folder, case):
    """Every 20th row by data.index and target.index; a limit that takes all of them."""
    with h5py.File(source, "r") as f:
        n, m = len(f["x"]), len(f["x_test"])
    path = with_dataset(source, folder, stride20=np.arange(0, n, 20), stride20_test=np.arange(0, m, 20, dtype=np.int32))
    return dict(data=dict(file=path, index="stride20", limit=int(case.attrs["n"]), standardize="values"),
                target=dict(file=path, points="x_test", values="y_test", index="stride20_test")), 0, 1


def meuse(source, folder, case):
    """Values centred here, not scaled: the reference's y_scale is 1."""
    with h5py.File(source, "r") as f:
        x, y = f["x"][()], f["y"][()]
    path = g.write(os.path.join(folder, "meuse.h5"), x=x, centred=y - y.mean(), fifth=np.arange(0, len(x), 5))
    return dict(data=dict(file=path, values="centred"),
                target=dict(file=path, values="centred", index="fifth")), y.mean(), 1


def fold(source, folder, case):
    """protein, kin40k: the first n rows of training fold 0, standardised with the whole fold, so not by the program."""
    with h5py.File(source, "r") as f:
        x, y, test = f["x"][()], f["y"][()], f["test_mask"][:, 0].astype(bool)
    x = (x - x[~test].mean(0)) / x[~test].std(0)
    shift, scale = y[~test].mean(), y[~test].std()
    path = g.write(os.path.join(folder, "fold.h5"), x=x, y=(y - shift) / scale, train=np.flatnonzero(~test),
                   test=np.flatnonzero(test))
    return dict(data=dict(file=path, index="train", limit=int(case.attrs["n"])),
                target=dict(file=path, values="y", index="test")), shift, scale


PREPARE = {"egm96": (egm96, "egm96_geoid"), "satellite": (satellite, "satellite_lst"), "meuse": (meuse, "meuse"),
           "protein": (fold, "protein"), "kin40k": (fold, "kin40k")}


def solve(args, name, case, method, ranks):
    what, data, n = f"{name} {method} on {ranks} ranks", name.split("_")[0], int(case.attrs["n"])
    prepare, file = PREPARE[data]
    with tempfile.TemporaryDirectory() as folder:
        config, shift, scale = prepare(os.path.join(os.path.abspath(args.data), file + ".h5"), folder, case)
        config.update({
            "kernel": dict(type=KERNELS[case.attrs["kernel"]], length_scale=case.attrs["length_scale"]),
            "ridge": dict(alpha=case.attrs["alpha"]),
            "solve_method": method,
            "ksp": dict(type="cg", rtol=1e-10, max_it=50000),
            "pc": dict(type="none"),
            "output": dict(file="out.h5"),
        })
        result = g.run(args.program, "solve", config, ranks, mpiexec=args.mpiexec, folder=folder, timeout=3600)
        if args.verbose:
            print(f"{what}: {result.seconds:.1f} s", flush=True)
        if not g.succeeded(what, result):
            return
        m = g.read(os.path.join(folder, "out.h5"))

    rho = m["run@relative_residual"]
    g.check(rho <= 1e-10 or m["run@reason"] == "working_accuracy" or method == "direct",
            f"{what}: exit code 0 with relative residual {rho:.3g} and reason {m['run@reason']}")
    tolerance = (rho + 4 * g.EPS) * (LAMBDA[data] * n / case.attrs["alpha"] + 1)
    a, pred = case["a"][()], case["pred_test"][()]
    error = np.linalg.norm(m["coefficients"].ravel() - a) / np.linalg.norm(a)
    g.check(m["coefficients"].shape == (n, 1) and error <= tolerance,
            f"{what}: coefficients off by {error:.3g}, allowed {tolerance:.3g}")
    # relative to the signal, not to its mean; errors of predictions are far below the bound, hence the 1e-6
    signal = np.abs(pred - case.attrs["y_mean"]).max()
    tolerance = min(tolerance, 1e-6)
    g.close(f"{what}: target/mean", shift + scale * m["target/mean"].ravel(), pred, tolerance, signal)
    for error in "rmse", "mae":
        got = scale * np.ravel(m[f"target/{error}"])
        g.close(f"{what}: target/{error}", got, [case.attrs[error]], tolerance, signal)
    if data in ("egm96", "satellite"):
        g.close(f"{what}: value_shift", m["scaling/value_shift"], [case.attrs["y_mean"]], 1e-13, signal)
        g.close(f"{what}: value_scale", m["scaling/value_scale"], [case.attrs["y_scale"]], 1e-13)


def main():
    p = g.parser(__doc__)
    p.add_argument("--reference", default=os.path.join(g.SHARED, "reference", "krr_real.h5"))
    p.add_argument("--data", default=os.path.join(g.SHARED, "data"))
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    p.add_argument("--methods", nargs="+", choices=("direct", "iterative"), default=["direct", "iterative"])
    p.add_argument("--cases", nargs="+", default=[""], help="only cases whose name holds one of these")
    p.add_argument("--all", action="store_true", help="the slow ones too")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    if not os.path.isdir(args.data) or not os.path.exists(args.reference):
        print(f"{args.data} or {args.reference}: not here, skipped")
        raise SystemExit(g.SKIPPED)
    with h5py.File(args.reference, "r") as f:
        for name, case in f["real"].items():
            for method in args.methods:
                for ranks in args.ranks:
                    if any(c in name for c in args.cases) and (args.all or not slow(case, name, method, ranks)):
                        g.attempt(solve, args, name, case, method, ranks)
    g.finish()


main()
