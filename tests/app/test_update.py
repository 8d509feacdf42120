"""A solve that begins with a saved model: the answer of one that does not, in fewer iterations, on other ranks too."""
import os

import numpy as np

import gramarye as g

N, NEW = 2000, 60
X = g.halton(N + NEW, 2)
Y = np.sin(6 * X[:, 0]) * np.cos(5 * X[:, 1]) + 0.02 * np.random.default_rng(1).standard_normal(N + NEW)
DY = np.stack([6 * np.cos(6 * X[:, 0]) * np.cos(5 * X[:, 1]), -5 * np.sin(6 * X[:, 0]) * np.sin(5 * X[:, 1])], 1)
SHUFFLED = np.random.default_rng(2).permutation(N + NEW)
FILES = {"old.h5": dict(x=X[:N], y=Y[:N], dy=DY[:N]),
         "all.h5": dict(x=X[SHUFFLED], y=Y[SHUFFLED], dy=DY[SHUFFLED], yy=np.stack([Y, Y], 1)[SHUFFLED]),
         "three.h5": dict(x=g.halton(50, 3), y=np.arange(50.0))}
BASE = dict(kernel=dict(type="matern", nu=1.5, length_scale=0.3), ridge=dict(alpha=1e-2), solve_method="iterative",
            pc=dict(type="none"), ksp=dict(rtol=1e-8))
CASES = {"plain": {}, "lrv": dict(pc=dict(type="lrv"), ridge=dict(alpha=1e-4)), "tail": dict(tail=dict(degree=1)),
         "standardized": dict(standardize="values"), "mixed": dict(product=dict(precision="mixed")),
         "gradients": dict(gradients="dy", kernel=dict(type="gaussian", length_scale=0.2))}


def config(file, out, changes, model=None):
    changes = dict(changes)
    data = dict(file=file, **{k: changes.pop(k) for k in ("standardize", "gradients") if k in changes})
    return {**BASE, "data": data, "output": dict(file=out), **changes, **({"model": dict(file=model)} if model else {})}


def solve(args, folder, what, *arguments, ranks=1):
    r = g.run(args.program, "solve", config(*arguments), ranks, mpiexec=args.mpiexec, folder=folder)
    return g.read(os.path.join(folder, arguments[1])) if g.succeeded(what, r) else None, r


def added(args, folder):
    """Points are added, in another order."""
    for name, changes in CASES.items():
        if not solve(args, folder, f"{name}: old", "old.h5", "old_model.h5", changes, ranks=2)[0]:
            continue
        whole, _ = solve(args, folder, f"{name}: all", "all.h5", "whole.h5", changes)
        for ranks in 1, 2, 4:
            what = f"{name}, {ranks} ranks"
            m, r = solve(args, folder, what, "all.h5", "out.h5", changes, "old_model.h5", ranks=ranks)
            if not (m and whole):
                continue
            # two solutions to a residual of 1e-8, apart by that times the condition
            g.close(f"{what}: coefficients", m["coefficients"], whole["coefficients"], 1e-4)
            g.check(m["run@relative_residual"] <= 1e-8, f"{what}: residual {m['run@relative_residual']}")
            g.check(m["history/residual"][0] < 0.5, f"{what}: begins with a residual of {m['history/residual'][0]}")
            fewer = 1 if name == "lrv" else 0.97  # few iterations as it is
            g.check(m["run@iterations"] <= fewer * whole["run@iterations"] + 1,
                    f"{what}: {m['run@iterations']} iterations, {whole['run@iterations']} without")
            g.check("coefficients at" in r.out, f"{what}: said {r.out}")


def same(args, folder):
    """Of the same points nothing is left to do; of another kernel there is an answer all the same."""
    first, _ = solve(args, folder, "first", "all.h5", "first.h5", {})
    again, r = solve(args, folder, "again", "all.h5", "again.h5", {}, "first.h5", ranks=3)
    if first and again:
        g.check(again["run@iterations"] <= 0.5 * first["run@iterations"], f"again: {again['run@iterations']} iterations")
        g.check(f"at {N + NEW} of its {N + NEW} points" in r.out, f"again: said {r.out}")
    for what, changes in (("longer", dict(kernel=dict(type="matern", nu=1.5, length_scale=0.35))),
                          ("another kernel", dict(kernel=dict(type="gaussian", length_scale=0.05))),
                          ("more ridge", dict(ridge=dict(alpha=0.02)))):
        m, _ = solve(args, folder, what, "all.h5", "out.h5", changes, "first.h5", ranks=2)
        if m:
            own, rounding = g.residual(m, Y[SHUFFLED])
            g.check(own <= 1.01e-8 + rounding, f"{what}: residual {own}")


def refused(args, folder):
    solve(args, folder, "first", "old.h5", "first.h5", {})
    for what, file, values in ("coordinates", "three.h5", "y"), ("columns", "all.h5", "yy"):
        c = config(file, "out.h5", {}, "first.h5")
        c["data"]["values"] = values
        r = g.run(args.program, "solve", c, 2, mpiexec=args.mpiexec, folder=folder)
        g.check(r.code == 2 and len(r.err) == 1 and "model.file" in r.err[0], f"{what}: {r.code} {r.err}")


g.main(__doc__, [added, same, refused], FILES)
