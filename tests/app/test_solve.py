"""solve and predict end to end: same answer on any number of ranks and by any product, honest residuals, exit codes."""
import os

import numpy as np

import gramarye as g

N, M = 611, 83
X, T = g.halton(N, 3), g.halton(M, 3, 5000)
F = lambda x: np.stack([np.sin(5 * x[:, 0]) + x[:, 1] * x[:, 2], 3 + np.cos(4 * x[:, 2]) - x[:, 0]], 1)
BASE = dict(data=dict(file="data.h5"), target=dict(file="target.h5"), output=dict(file="out.h5"),
            kernel=dict(type="matern", nu=1.5, length_scale=0.6), ridge=dict(alpha=0.01), pc=dict(type="none"),
            ksp=dict(rtol=1e-11, max_it=5000))
CONDITION = 3e4  # lambda_max(K) / alpha of BASE, 270 / 0.01


def merged(changes):
    """BASE with changes, {"kernel": {"type": "gaussian"}, "backend": "ref"}; None drops a key or group."""
    kept = lambda tree: {key: value for key, value in tree.items() if value is not None}
    config = dict(BASE)
    for key, value in changes.items():
        config[key] = kept({**config.get(key, {}), **value}) if isinstance(value, dict) else value
    return kept(config)


def solve(args, folder, what, changes=(), ranks=1, codes=(0,), options=(), verb="solve", **more):
    """The output read back and the result; the output must exist whatever the exit code, 0 or 3."""
    config, out = merged(dict(changes)), os.path.join(folder, "out.h5")
    os.path.exists(out) and os.remove(out)
    r = g.run(args.program, verb, config, ranks, options, args.mpiexec, folder, timeout=120, **more)
    if not g.succeeded(what, r, codes) or not g.check(os.path.exists(out), f"{what}: exit {r.code} without output"):
        return None, r
    m = g.read(out)
    g.check(m["run@converged"] == (r.code == 0), f"{what}: exit code {r.code}, but converged = {m['run@converged']}")
    return m, r


def honest(what, m, y):
    """The stated residual is that of the stored coefficients, and a converged run has one to show for it."""
    own, rounding = g.residual(m, y)
    rho = m["run@relative_residual"]
    g.check(rho <= 2 * own + rounding and own <= 2 * rho + rounding,
            f"{what}: run@relative_residual {rho:.3g}, recomputed {own:.3g} +- {rounding:.1g}")
    return own


def ranks(args, folder):
    """The same coefficients, in input order, on 1 to 4 ranks; direct and iterative agree."""
    reference, _ = solve(args, folder, "direct on 1 rank", {"solve_method": "direct"})
    if reference is None:
        return
    g.check(reference["coefficients"].shape == (N, 2), f"coefficients {reference['coefficients'].shape}")
    for method, tolerance in ("direct", 1e-15 * CONDITION), ("iterative", 2e-11 * CONDITION):
        for n in 1, 2, 3, 4:
            what = f"{method} on {n} ranks"
            m, _ = solve(args, folder, what, {"solve_method": method}, n)
            if m:
                g.check(np.array_equal(m["x"], X), f"{what}: x is not in input order")
                g.close(f"{what}: coefficients", m["coefficients"], reference["coefficients"], tolerance)
                g.close(f"{what}: target/mean", m["target/mean"], reference["target/mean"], tolerance)
                honest(what, m, F(X))
                # rounding of a few hundred products apart, the iteration itself does not change
                if method == "iterative":
                    iterations = m["run@iterations"] if n == 1 else iterations
                    g.check(abs(m["run@iterations"] - iterations) <= 0.1 * iterations,
                            f"{what}: {m['run@iterations']} iterations, on 1 rank {iterations}")


def predict_again(args, folder, what, model, target, names=("mean",), ranks=(1,)):
    """predict of the model just written, which moves to model.h5, is solve's own prediction."""
    os.rename(os.path.join(folder, "out.h5"), os.path.join(folder, "model.h5"))
    config = dict(model=dict(file="model.h5"), target=target, output=dict(file="out.h5"))
    for n in ranks:
        r = g.run(args.program, "predict", config, n, (), args.mpiexec, folder)
        if g.succeeded(f"predict, {what}, on {n} ranks", r):
            m = g.read(os.path.join(folder, "out.h5"))
            g.check(np.array_equal(m["target/x"], model["target/x"]), f"predict, {what}, on {n} ranks: target/x differs")
            for name in names:
                g.close(f"predict, {what}, on {n} ranks: {name}", m[f"target/{name}"], model[f"target/{name}"], 1e-12)
            for name in "version", "options", "ranks", "backend", "peak_memory_bytes":
                g.check(f"run@{name}" in m, f"predict, {what}, on {n} ranks: no attribute run@{name}")


def predict(args, folder):
    """predict of a saved model is solve's own prediction and the formula's, on any number of ranks, with its errors."""
    changes = {"data": dict(values="y1", standardize="both"), "target": dict(values="y1")}
    model, _ = solve(args, folder, "model", changes)
    if model is None:
        return
    error = model["target/mean"].ravel() - F(T)[:, 0]
    g.close("solve: target/rmse", np.ravel(model["target/rmse"]), [np.sqrt(np.mean(error ** 2))], 1e-12)
    g.close("solve: target/mae", np.ravel(model["target/mae"]), [np.mean(np.abs(error))], 1e-12)
    g.close("solve: target/mean by the formula", model["target/mean"], g.evaluate(model, T), 1e-12)
    target = dict(file="target.h5", values="y1")
    predict_again(args, folder, "standardised", model, target, ("mean", "rmse", "mae"), (1, 2, 4))


def grid(args, folder):
    """A grid on the bounding box of the data, each point once, evaluated like any target."""
    size = [5, 4, 3]
    m, _ = solve(args, folder, "grid", {"target": None}, 2, options=["-target_grid", "5,4,3"])
    if m is None:
        return
    axes = [np.linspace(X[:, k].min(), X[:, k].max(), size[k]) for k in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    order = lambda p: p[np.lexsort(np.round(p, 9).T)]
    if g.check(m["target/x"].shape == (60, 3), f"grid: target/x {m['target/x'].shape}"):
        g.close("grid: points", order(m["target/x"]), order(points), 1e-14)
        g.close("grid: target/mean", m["target/mean"], g.evaluate(m, m["target/x"]), 1e-10)
        predict_again(args, folder, "grid", m, dict(grid=size))


def sphere(args, folder):
    """lon, lat in the file, chordal distances in the kernel."""
    degrees = lambda x: np.stack([360 * x[:, 0] - 180, 180 * x[:, 1] - 90], 1)
    g.write(os.path.join(folder, "sphere.h5"), x=degrees(X), y=F(X), t=degrees(T))
    m, _ = solve(args, folder, "sphere", {"data": dict(file="sphere.h5", sphere=True),
                                          "target": dict(file="sphere.h5", points="t")})
    if m is None:
        return
    g.check(np.array_equal(m["x"], degrees(X)), "sphere: x is not lon, lat as given")
    g.check(np.array_equal(m["target/x"], degrees(T)), "sphere: target/x is not lon, lat as given")
    unit = lambda l, b: np.stack([np.cos(b) * np.cos(l), np.cos(b) * np.sin(l), np.sin(b)], 1)
    x, t = (unit(*np.radians(degrees(p)).T) for p in (X, T))
    g.close("sphere: target/mean", m["target/mean"], g.evaluate({**m, "x": x}, t), 1e-10)
    g.check(g.residual({**m, "x": x}, F(X))[0] < 1e-9, "sphere: coefficients do not solve the chordal system")
    predict_again(args, folder, "sphere", m, dict(file="sphere.h5", points="t"), ranks=(2,))


def not_converged(args, folder):
    """Three iterations are not enough: exit code 3, the result written and marked, on any number of ranks."""
    for n in 1, 2:
        what = f"3 iterations on {n} ranks"
        m, r = solve(args, folder, what, {"solve_method": "iterative"}, n, (3,), ["-ksp_max_it", 3])
        if m:
            g.check(honest(what, m, F(X)) > 1e-6, f"{what}: residual is small")
            g.check(m["run@reason"] not in ("", "working_accuracy"), f"{what}: reason {m['run@reason']}")
            g.check(m["coefficients"].any() and "target/mean" in m, f"{what}: result not written")
            g.check("converge" in (r.out + "".join(r.err)).lower(), f"{what}: not said")
    for most in 0, -5:
        config = merged({"solve_method": "iterative", "ksp": dict(max_it=most)})
        r = g.run(args.program, "solve", config, folder=folder)
        g.succeeded(f"-ksp_max_it {most}", r, (2, 3))


def singular(args, folder):
    """alpha = 0 and a Gaussian of rank 20 or so: stops by itself, with the default ksp_max_it, and is never called
    converged without a residual or backward error to show."""
    x = np.linspace(0, 1, 500).reshape(-1, 1)
    y = np.sin(40 * x[:, 0]) + np.sign(np.sin(1e4 * x[:, 0]))  # far outside the range of K
    g.write(os.path.join(folder, "singular.h5"), x=x, y=y)
    for method in "direct", "iterative":
        for n in 1, 2:
            what = f"singular system, {method} on {n} ranks"
            m, r = solve(args, folder, what, {
                "data": dict(file="singular.h5"), "target": None, "ridge": dict(alpha=0), "solve_method": method,
                "kernel": dict(type="gaussian", length_scale=0.5), "ksp": dict(rtol=1e-8, max_it=None)}, n, (0, 3))
            if not m:
                continue
            own, rounding = g.residual(m, y)
            norm = np.linalg.norm(g.gram(x, x, "gaussian", length_scale=0.5), 2)
            backward = own * np.linalg.norm(y) / (norm * np.linalg.norm(m["coefficients"]) + np.linalg.norm(y))
            if r.code == 0:
                g.check(own <= 2e-8 or m["run@reason"] == "working_accuracy" and backward < 1e-13,
                        f"{what}: converged by '{m['run@reason']}', residual {own:.3g}, backward error {backward:.3g}")
            if np.isfinite(own):
                rho = m["run@relative_residual"]
                g.check(rho <= 2 * own + rounding and own <= 2 * rho + rounding,
                        f"{what}: run@relative_residual {rho:.3g}, recomputed {own:.3g} +- {rounding:.1g}")


def products(args, folder):
    """Mirrored or not, by the fast backend or by plain loops: the same answer."""
    reference, _ = solve(args, folder, "backend ref", {"solve_method": "iterative", "backend": "ref"})
    if reference is None:
        return
    for changes in {"symmetric": True}, {"symmetric": False}, {"grid": "1d"}:
        for n in 1, 3:
            what = f"product {changes} on {n} ranks"
            m, _ = solve(args, folder, what, {"solve_method": "iterative", "backend": "cpu", "product": changes}, n)
            if m:
                for name in "coefficients", "target/mean":
                    g.close(f"{what}: {name}", m[name], reference[name], 2e-11 * CONDITION)


def precision(args, folder):
    """single is single: whatever it reaches, the residual stated is recomputed in double and the exit code fits it."""
    for rtol, codes in (1e-3, (0,)), (1e-10, (0, 3)):
        what = f"single precision, rtol {rtol:g}"
        m, r = solve(args, folder, what, {"solve_method": "iterative", "product": dict(precision="single"),
                                          "ksp": dict(rtol=rtol, max_it=2000)}, codes=codes)
        if m:
            own = honest(what, m, F(X))
            g.check(m["run@precision"] == "single", f"{what}: run@precision {m['run@precision']}")
            if r.code == 0:
                g.check(own <= 2 * rtol or m["run@reason"] == "working_accuracy",
                        f"{what}: exit code 0 with residual {own:.3g} and reason {m['run@reason']}")


def mixed(args, folder):
    """mixed is as good as double: in its residual, its predictions, and where floats cannot represent the ridge."""
    for ranks, ksp, alpha in (1, "cg", 0.01), (3, "gmres", 0.01), (2, "cg", 1e-7):
        what = f"mixed precision, {ksp}, alpha {alpha:g} on {ranks} ranks"
        m, r = solve(args, folder, what, {"solve_method": "iterative", "product": dict(precision="mixed"),
                                          "ridge": dict(alpha=alpha), "kernel": dict(type="gaussian", length_scale=2.0),
                                          "ksp": dict(type=ksp, rtol=1e-10)}, ranks)
        if m:
            own, rounding = honest(what, m, F(X)), g.residual(m, F(X))[1]
            g.check(own <= 1e-10 + 2 * rounding, f"{what}: residual {own:.3g} +- {rounding:.1g}, asked for 1e-10")
            g.check(m["run@precision"] == "mixed", f"{what}: run@precision {m['run@precision']}")
            g.close(f"{what}: predictions", m["target/mean"], g.evaluate(m, m["target/x"]), 1e-13,
                    np.abs(m["coefficients"]).sum())
            start = m["run@exact_from"]
            g.check((start >= 0) == (alpha < 1e-6), f"{what}: double from iteration {start}")
            g.check((f"mixed, double from iteration {start}" in r.out) == (start >= 0), f"{what}: said {r.out}")


def krylov(args, folder):
    """PETSc's other methods work on the shell matrix."""
    reference, _ = solve(args, folder, "direct on 1 rank", {"solve_method": "direct"})
    if reference is None:
        return
    for ksp in "cg", "minres", "gmres", "fcg", "pipecg":
        for pc in "none", "jacobi":
            what = f"-ksp_type {ksp} -pc_type {pc}"
            m, _ = solve(args, folder, what, {"solve_method": "iterative"}, 2, (0,),
                         ["-ksp_type", ksp, "-pc_type", pc, "-ksp_rtol", 1e-8, "-ksp_gmres_restart", 200])
            if m:
                own = honest(what, m, F(X))
                g.check(own <= 2e-8, f"{what}: residual {own:.3g}, asked for 1e-8")
                g.close(f"{what}: coefficients", m["coefficients"], reference["coefficients"], 2e-8 * CONDITION)


def preconditioner(args, folder):
    """lrv unless asked for another: said in the file and in the summary, the same iterations on any ranks and by any
    product, fewer than plain CG, for both columns; none for reproducible; direct has none."""
    plain, _ = solve(args, folder, "pc none", {"solve_method": "iterative"})
    reference, _ = solve(args, folder, "direct on 1 rank", {"solve_method": "direct"})
    if plain is None or reference is None:
        return
    g.check(plain["run@pc"] == "none" and not plain["run@pc_rank"], f"pc none: run@pc {plain['run@pc']}")
    g.check("run@pc" not in reference, f"direct: run@pc {reference.get('run@pc')}")
    iterations = None
    for n, product in (1, None), (3, None), (2, {"precision": "mixed"}), (2, {"tolerance": 1e-3}):
        what = f"pc by default, product {product} on {n} ranks"
        m, r = solve(args, folder, what, {"solve_method": "iterative", "pc": None, "product": product}, n)
        if m is None:
            continue
        honest(what, m, F(X))
        g.close(f"{what}: coefficients", m["coefficients"], reference["coefficients"], 2e-11 * CONDITION)
        g.check(m["run@pc"] == "lrv" and m["run@pc_rank"] > 0, f"{what}: {m['run@pc']} of rank {m['run@pc_rank']}")
        g.check(f"lrv, rank {m['run@pc_rank']}, {m['run@pc_neighbors']} neighbours" in r.out, f"{what}: said {r.out}")
        g.check(0 < m["run@eigenvalue_min"] <= m["run@eigenvalue_max"] < 100 and "spectrum" in r.out,
                f"{what}: eigenvalues {m['run@eigenvalue_min']} ... {m['run@eigenvalue_max']}, said {r.out}")
        g.check(m["run@pc_alpha"] == 0.01 and m["run@numerical_rank"] == -1,
                f"{what}: alpha of M {m['run@pc_alpha']}, numerical rank {m['run@numerical_rank']}")
        iterations = iterations or m["run@iterations"]
        g.check(m["run@iterations"] < plain["run@iterations"], f"{what}: {m['run@iterations']} iterations")
        g.check(product or abs(m["run@iterations"] - iterations) <= 2, f"{what}: {m['run@iterations']} iterations")
    m, _ = solve(args, folder, "reproducible",
                 {"solve_method": "iterative", "pc": None, "product": {"reproducible": True}})
    g.check(m is None or m["run@pc"] == "none", "reproducible: not pc none by default")


def columns(args, folder):
    """40 right-hand sides, among them zeros, tiny and huge ones: together, in two panels, as alone by another method."""
    y = np.random.default_rng(4).standard_normal((N, 40)) * 10.0 ** np.arange(-20, 20)
    y[:, 7] = 0
    y[:, 1] = np.cos(X[:, 0]) * 1e-19  # smooth: fewer iterations than the others
    g.write(os.path.join(folder, "many.h5"), x=X, y=y)
    problem = {"data": dict(file="many.h5"), "target": None, "solve_method": "iterative", "ksp": dict(rtol=1e-9)}
    alone, _ = solve(args, folder, "40 columns, fcg", {**problem, "ksp": dict(type="fcg", rtol=1e-9)})
    for n, pc, product in (1, "none", None), (3, "lrv", None), (2, "lrv", {"precision": "mixed"}):
        what = f"40 columns, pc {pc}, product {product} on {n} ranks"
        m, _ = solve(args, folder, what, {**problem, "pc": dict(type=pc), "product": product}, n)
        if m is None or alone is None:
            continue
        honest(what, m, y)
        scale = np.abs(y).max(0) + (np.abs(y).max(0) == 0)
        g.close(f"{what}: coefficients", m["coefficients"] / scale, alone["coefficients"] / scale, 2e-9 * CONDITION)
        g.check(not m["coefficients"][:, 7].any(), f"{what}: coefficients of zero")
        g.check(pc == "lrv" or abs(m["run@iterations"] / alone["run@iterations"] - 1) < 0.1,
                f"{what}: {m['run@iterations']} products, {alone['run@iterations']} one after the other")


def exhausted(args, folder):
    """A ridge lost in the rounding of a singular K: named with the numerical rank, on any number of ranks."""
    x = np.linspace(0, 1, 500).reshape(-1, 1)
    g.write(os.path.join(folder, "smooth.h5"), x=x, y=np.sin(3 * x[:, 0]))
    for n in 1, 2:
        what = f"alpha 1e-13 on {n} ranks"
        m, r = solve(args, folder, what, {
            "data": dict(file="smooth.h5"), "target": None, "ridge": dict(alpha=1e-13), "solve_method": "iterative",
            "kernel": dict(type="gaussian", length_scale=0.5), "pc": None, "ksp": dict(rtol=1e-7)}, n)
        if m:
            rank = m["run@numerical_rank"]
            g.check(8 <= rank <= 20 and m["run@pc_alpha"] == 500e-13, f"{what}: rank {rank}, alpha {m['run@pc_alpha']}")
            g.check(any(f"numerical rank {rank} of 500" in line and "5.0e-11" in line for line in r.err),
                    f"{what}: said {r.err}")


def memory(args, folder):
    """The peak that is said before the run is the one that is measured, within a fifth; where lrv has to try what it
    takes, the one that is said after each set-up: without neighbours, with one copy of F or two, grown."""
    x = g.halton(6000, 3)
    g.write(os.path.join(folder, "large.h5"), x=x, y=F(x)[:, 0])
    gaussian = lambda length: dict(type="gaussian", length_scale=length, nu=None, amplitude=1.0)
    first = [{"solve_method": "direct"}, {"pc": dict(type="lrv", lrv_rank=600, lrv_neighbors=30)}, {"ksp": dict(max_it=3)}]
    grown = {"kernel": gaussian(0.15), "ridge": dict(alpha=1e-4), "pc": None}
    settled = [({"kernel": dict(type="exponential", length_scale=1.0), "ridge": dict(alpha=10.0), "pc": None}, 0),
               ({"kernel": gaussian(0.6), "ridge": dict(alpha=1e-7), "pc": None}, 0), (grown, 60)]
    run = lambda what, changes, n, **more: solve(args, folder, what, {
        "data": dict(file="large.h5"), "target": None, "solve_method": "iterative", **changes}, n, (0, 3), **more)
    for n in 1, 2, 4:
        for changes, neighbors in ([(changes, None) for changes in first] if n < 4 else []) + settled[n // 2:]:
            what = f"memory of {changes} on {n} ranks"
            m, r = run(what, changes, n)
            if not m:
                continue
            peak, said = m["run@peak_memory_bytes"], [m["run@predicted_memory_bytes"]]
            before = r.out.split("solve ")[0]
            g.check(f"peak {said[0] * 1e-9:.3g} GB" in before, f"{what}: said {r.out}")
            if "run@settled_memory_bytes" in m:
                said.append(m["run@settled_memory_bytes"])
                line = f"rank {m['run@pc_rank']}, {m['run@pc_neighbors']} neighbours: peak {said[1] * 1e-9:.3g} GB"
                g.check(line in before, f"{what}: nowhere '{line}' in {r.out}")
            if neighbors is not None:
                g.check(m["run@pc_neighbors"] == neighbors, f"{what}: {m['run@pc_neighbors']} neighbours")
                del said[0]
            g.check(said and all(0.8 <= bytes / peak <= 1.25 for bytes in said),
                    f"{what}: {[round(bytes / 1e6) for bytes in said]} MB predicted, {peak / 1e6:.0f} MB measured")
    # set up with what fits into a quarter, and told when more would not
    m, r = run("growth without memory", grown, 1, prefix=["env", "SLURM_MEM_PER_NODE=330"])
    if m:
        g.check(m["run@pc_neighbors"] == 30 and any("it stays at rank" in line for line in r.err),
                f"growth without memory: {m['run@pc_neighbors']} neighbours, said {r.err}")


TESTS = [ranks, predict, grid, sphere, not_converged, singular, products, precision, mixed, krylov, preconditioner, columns, exhausted, memory]

g.main(__doc__, TESTS, {"data.h5": dict(x=X, y=F(X), y1=F(X)[:, 0]), "target.h5": dict(x=T, y=F(T), y1=F(T)[:, 0])})
