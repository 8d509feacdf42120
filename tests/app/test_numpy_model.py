"""The lines of numpy in README.md that evaluate a model file agree with predict to 1e-12.

They follow the line <!-- test: numpy_model -->, take f, the open model, and t, the (M, d) targets, and leave mean."""
import os
import re
import tempfile

import h5py
import numpy as np

import gramarye as g

KERNELS = {"gaussian": dict(type="gaussian"), "exponential": dict(type="exponential"),
           "matern 0.5": dict(type="matern12"), "matern 1.5": dict(type="matern", nu=1.5),
           "matern 2.5": dict(type="matern52"), "matern 3.5": dict(type="matern", nu=3.5),
           "matern 4.5": dict(type="matern", nu=4.5), "inverse_multiquadric": dict(type="inverse_multiquadric"),
           "rational_quadratic": dict(type="rational_quadratic"), "beta 0.3": dict(type="rational_quadratic", beta=0.3),
           "wendland2": dict(type="wendland2"), "wendland4": dict(type="wendland4"), "cubic": dict(type="cubic"),
           "thin_plate": dict(type="thin_plate"), "multiquadric": dict(type="multiquadric")}
SETTINGS = {  # what: (d, q, keys)
    "plain": (2, 1, dict(kernel=dict(length_scale=0.3))),
    "everything": (3, 2, dict(kernel=dict(length_scale=[0.9, 2.0, 1.3], amplitude=1.7), data=dict(standardize="both"))),
}


def code_of(readme):
    with open(readme) as f:
        found = re.search(r"<!-- test: numpy_model -->\s*```python\n(.*?)```", f.read(), re.S)
    return found and found[1]


def agree(args, code, name, kernel, setting):
    what, (d, q, keys) = f"{name}, {setting}", SETTINGS[setting]
    x, t = 10 * g.halton(200, d), 10 * g.halton(57, d, 5000)
    y = np.stack([np.sin(x[:, 0]) + x[:, -1], 100 + x[:, 0] ** 2], 1)[:, :q]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data.h5")
        g.write(path, x=x, y=y, t=t)
        config = dict(data=dict(file="data.h5", **keys.get("data", {})), kernel={**kernel, **keys["kernel"]},
                      ridge=dict(alpha=0.01), solve_method="direct", pc=dict(type="none"), output=dict(file="model.h5"))
        if not g.succeeded(f"{what}: solve", g.run(args.program, "solve", config, folder=folder)):
            return
        config = dict(model=dict(file="model.h5"), target=dict(file="data.h5", points="t"), output=dict(file="out.h5"))
        if not g.succeeded(f"{what}: predict", g.run(args.program, "predict", config, folder=folder)):
            return
        mean = g.read(os.path.join(folder, "out.h5"))["target/mean"]
        with h5py.File(os.path.join(folder, "model.h5"), "r") as f:
            names = dict(np=np, numpy=np, h5py=h5py, f=f, t=t)
            exec(code, names)
        g.check(mean.shape == (57, q), f"{what}: target/mean has shape {mean.shape}, expected {(57, q)}")
        g.close(f"{what}: README's mean", names["mean"], mean, 1e-12)
        g.close(f"{what}: the formulas", g.evaluate(g.read(os.path.join(folder, "model.h5")), t), mean, 1e-12)
        with h5py.File(os.path.join(folder, "model.h5"), "r+") as f:  # as version 0.1 wrote it
            beta = f["kernel"].attrs.pop("beta")
        g.check(np.isnan(beta) if kernel["type"] != "rational_quadratic" else beta == kernel.get("beta", 1),
                f"{what}: kernel@beta is {beta}")
        if kernel["type"] != "rational_quadratic" and g.succeeded(
                f"{what}: predict without beta", g.run(args.program, "predict", config, folder=folder)):
            g.close(f"{what}: without beta", g.read(os.path.join(folder, "out.h5"))["target/mean"], mean, 0)


def main():
    p = g.parser(__doc__)
    p.add_argument("--readme", default=os.path.join(g.ROOT, "README.md"))
    args = p.parse_args()
    code = os.path.exists(args.readme) and code_of(args.readme)
    if g.check(code, f"{args.readme}: no python code after <!-- test: numpy_model -->"):
        for name, kernel in KERNELS.items():
            for setting in SETTINGS:
                agree(args, code, name, kernel, setting)
    g.finish()


main()
