"""jobs/compare_keops.py: without PyKeOps one line that says how to get it; with it, in the interpreter that runs this
test, one small comparison of products."""
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

import gramarye as g

SCRIPT = os.path.join(g.ROOT, "jobs", "compare_keops.py")


def python(*arguments, timeout=60):
    return subprocess.run([sys.executable, *arguments], env={**os.environ, **g.ENVIRONMENT}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout)


def without_keops():
    p = python("-I", "-S", SCRIPT)  # -S: no installed package is seen
    g.check(p.returncode == 2, f"without PyKeOps: exit code {p.returncode}, expected 2")
    g.check(p.stderr.count("\n") == 1 and "pip install pykeops" in p.stderr and not p.stdout,
            f"without PyKeOps: not one line that says what to install: {p.stdout}{p.stderr}")


def with_keops(args):
    with tempfile.TemporaryDirectory() as folder:
        output, core = os.path.join(folder, "keops.json"), str(min(os.sched_getaffinity(0)))
        p = python(SCRIPT, "--gramarye", args.program, "--size", "500", "--rounds", "1", "--core", core,
                   "--cases", "gaussian d=3", "--json", output, timeout=500)  # KeOps compiles for a minute
        if not g.check(p.returncode == 0, f"exit code {p.returncode}: {p.stderr}"):
            return
        with open(output) as f:
            cases = json.load(f)["cases"]
    g.check(len(cases) == 5, f"{len(cases)} cases, expected 5")
    for case in cases:
        g.check(case["name"] in p.stdout, f"{case['name']}: not in the table")
        for side in "gramarye", "KeOps shipped", "KeOps best":
            what, said = f"{case['name']}, {side}", case["summary"][side]
            g.check(len(case["samples"][side]) == 1 and said["seconds"] > 0, f"{what}: {case['samples'][side]}")
            # rounding of 500 terms, in float or double
            allowed = 1e-5 if case["precision"] == "single" else 1e-13
            g.check(said["error"] < allowed, f"{what}: error {said['error']}, allowed {allowed}")


def main():
    args = g.parser(__doc__).parse_args()
    without_keops()
    if importlib.util.find_spec("pykeops"):
        with_keops(args)
    g.finish()


main()
