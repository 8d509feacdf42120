"""jobs/quadrature_figures.sh --quick: its figures and tables, and what the comparison must show; jobs/draw_nodes.py on
results of one to four coordinates."""
import csv
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile

import gramarye as g

FIGURES = "nodes_2d.png", "nodes_3d.png", "error_paper.png", "error_large.png"


def check_picture(path, least):
    if g.check(os.path.exists(path), f"no {path}"):
        with open(path, "rb") as f:
            content = f.read()
        g.check(content[:4] == b"\x89PNG" and len(content) > least, f"{path}: {len(content)} bytes")


def call(root, *command, code=0):
    p = subprocess.run(command, cwd=root, env={**os.environ, **g.ENVIRONMENT, "PYTHON": sys.executable},
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500)
    g.check(p.returncode == code, f"{command}: exit code {p.returncode}: {p.stderr.strip()}")
    return p


def figures(root):
    p = call(root, "jobs/quadrature_figures.sh", "--quick", "out")
    for name in FIGURES:
        check_picture(os.path.join(root, "out", name), 20000)
    with open(os.path.join(root, "out", "table.csv")) as f:
        rows = list(csv.DictReader(f))
    g.check(len(rows) > 30 and all(0 < float(r["wce_squared_equal"]) < 1 for r in rows), f"table.csv: {len(rows)} rows")
    at = {(r["panel"], r["method"], int(r["dim"]), int(r["size"])): r for r in rows}
    square = lambda *case: float(at[case]["wce_squared"])
    for method in "sbq", "pwgd", "m2", "halton", "sobol", "random":
        for dim, size in (2, 20), (2, 50), (3, 50):
            g.check(square("paper", "sweep", dim, size) < square("paper", method, dim, size),
                    f"{dim}D, {size} nodes: the sweep is not below {method}")
    g.check(square("large", "legendre", 2, 100) < square("large", "sweep", 2, 100), "a tensor rule lost on a smooth product kernel")
    g.close("SBQ of 20 nodes, as published", square("paper", "sbq", 2, 20), 2.3e-7, 0.05)
    ends = {(method, int(r["code"])) for (panel, method, dim, size), r in at.items() if panel == "paper" and dim == 2}
    g.check({("pwgd", 3), ("sweep", 0)} <= ends, f"exit codes {ends}")
    with open(os.path.join(root, "out", "captions.txt")) as f:
        captions = f.read()
    g.check(all(name in captions for name in FIGURES) and "PWGD 2 of 2 in 2D (N = 20, 50)" in " ".join(captions.split()), captions)
    with open(os.path.join(root, "out", "table.txt")) as f:
        g.check(f.read() == p.stdout and "Legendre" in p.stdout, p.stdout)
    call(root, "jobs/quadrature_figures.sh", "--slow", code=2)
    g.check("usage" in call(root, "jobs/quadrature_figures.sh", "help").stdout, "no help")


def nodes(root):
    """Sweeps in 2 to 4 coordinates, with weights and without, a greedy rule on the line, weights alone."""
    program, results = os.path.join(root, "build/gramarye"), []
    for name, verb, *keys in (("plane", "nodes", "-nodes_dim", 2), ("space", "nodes", "-nodes_dim", 3),
                              ("equal", "nodes", "-nodes_dim", 4, "-weights_method", "equal"),
                              ("line", "nodes", "-nodes_dim", 1, "-nodes_method", "sbq", "-kernel_length_scale", 0.1),
                              ("given", "weights", "-data_file", "plane.h5")):
        call(root, program, verb, *map(str, ["-nodes_size", 40] * (verb == "nodes") + keys), "-output_file", f"{name}.h5")
        results.append(f"{name}.h5")
        call(root, sys.executable, "jobs/draw_nodes.py", results[-1], f"{name}.png")
        check_picture(os.path.join(root, f"{name}.png"), 10000)
    call(root, sys.executable, "jobs/draw_nodes.py", *results, "all.png")
    check_picture(os.path.join(root, "all.png"), 50000)


def main():
    args = g.parser(__doc__).parse_args()
    if not importlib.util.find_spec("matplotlib"):
        print("no matplotlib in this Python")
        sys.exit(g.SKIPPED)
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(os.path.join(g.ROOT, "jobs"), os.path.join(root, "jobs"))
        os.mkdir(os.path.join(root, "build"))
        os.symlink(os.path.abspath(args.program), os.path.join(root, "build", "gramarye"))
        figures(root)
        nodes(root)
    g.finish()


main()
