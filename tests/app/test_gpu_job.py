"""jobs/gpu.sh: its steps on the CPU at tiny sizes, from a folder laid out as its archive unpacks; no GPU is code 2.
jobs/gpu_summary.py on results of a GPU, made up. jobs/rates.cu compiles where there is nvcc."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import gramarye as g

FILES = "bench.jsonl", "log.txt", "machine.txt", "solve.txt", "summary.md", "tests.txt"


def lay_out(args, root):
    """The archive without its libraries, which are at their places here."""
    for name in "jobs", "configs":
        shutil.copytree(os.path.join(g.ROOT, name), os.path.join(root, name))
    os.mkdir(os.path.join(root, "bin"))
    with open(os.path.join(root, "bin", "run"), "w") as f:
        f.write('#!/bin/sh\nPATH=$(dirname -- "$0"):$PATH exec "$@"\n')
    os.chmod(f.name, 0o755)
    for name, target in ("gramarye", args.program), ("mpiexec", shutil.which(args.mpiexec)):
        os.symlink(os.path.abspath(target), os.path.join(root, "bin", name))
    with open(os.path.join(root, "commit"), "w") as f:
        f.write("abc123\n")
    with open(os.path.join(root, "tests.list"), "w") as f:
        f.write("good 1 60 env A=1 gramarye info\nbad 2 60 env false\nlate 1 1 env sleep 50\n")


def run(root, out, **environment):
    return subprocess.run([os.path.join(root, "jobs", "gpu.sh"), "run"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=200,
                          env={**os.environ, **g.ENVIRONMENT, "GRAM_GPU_OUT": out, **environment})


def check_steps(root, out):
    p = run(root, out, GRAM_GPU_DRY="1", GRAM_GPU_STEPS="tests bench solve")
    g.check(p.returncode == 1, f"with a test that fails: exit code {p.returncode}, expected 1: {p.stdout}{p.stderr}")
    if not g.check(sorted(os.listdir(out)) == sorted(FILES), f"files {sorted(os.listdir(out))}"):
        return
    text = {name: open(os.path.join(out, name)).read() for name in FILES}
    tests = [line.split("\t")[:2] for line in text["tests.txt"].splitlines()]
    g.check(tests == [["good", "0"], ["bad", "1"], ["late", "124"]], f"tests.txt: {tests}")
    lines = [json.loads(line) for line in text["bench.jsonl"].splitlines()]
    g.check(len(lines) == 48 and all(line["relative_error"] < 1e-5 for line in lines), f"{len(lines)} lines of bench")
    g.check(text["solve.txt"].count("converged") == 4, f"solves: {text['solve.txt']}")
    for what in "commit    abc123", "3 tests of the backend, 1 passed", "fp64 gaussian, symmetric", "prediction":
        g.check(what in text["summary.md"], f"summary.md lacks '{what}': {text['summary.md']}")
    g.check("* test bad: exit code 1" in text["summary.md"], "summary.md does not name the test that failed")
    g.check("commit    abc123" in text["machine.txt"], f"machine.txt: {text['machine.txt']}")


def check_no_device(root, out):
    devices = subprocess.run([os.path.join(root, "bin", "gramarye"), "info"], capture_output=True, text=True).stdout
    if "none found" in devices:
        p = run(root, out)
        g.check(p.returncode == 2 and "no GPU here" in p.stderr, f"without a GPU: {p.returncode}: {p.stderr}")
        g.check("commit    abc123" in open(os.path.join(out, "machine.txt")).read(), "the machine is not recorded")


def check_step_list(root, out):
    p = run(root, out, GRAM_GPU_DRY="1", GRAM_GPU_STEPS="tests rate")
    g.check(p.returncode == 2 and "no step is called rate" in p.stderr, f"step list: {p.returncode}: {p.stderr}")
    g.check(not os.path.exists(out), "a wrong step list left results behind")


def measured(kernel, precision, seconds, error, **more):
    return dict(kernel=kernel, precision=precision, symmetric=False, rhs=1, size=1000000, seconds=seconds,
                seconds_min=seconds, seconds_max=seconds, relative_error=error, **more)


def summary(folder, keops):
    """The page made of two products, 5 and 2 Tpairs/s, of a tool that said nothing and of these lines of KeOps."""
    bench = measured("gaussian", "single", 0.3, 2e-7, device_seconds=0.2), measured("gaussian", "double", 0.5, 1e-13)
    files = {"bench.jsonl": "".join(json.dumps(line) + "\n" for line in bench) + json.dumps(bench[0])[:50],
             "keops.jsonl": keops, "machine.txt": "card      one enduring card\n\nduring bench\n1980 MHz\n",
             "tests.txt": "good\t0\t3\nmemcheck bench\t0\t4\t\n"}
    os.mkdir(folder)
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    p = subprocess.run([sys.executable, os.path.join(g.ROOT, "jobs", "gpu_summary.py"), folder], capture_output=True,
                       text=True)
    g.check(p.returncode == 0, f"gpu_summary.py: exit code {p.returncode}: {p.stderr}")
    return p.stdout


def says(page, *lines):
    for line in lines:
        g.check(line in page.splitlines(), f"the summary lacks '{line}': {page}")


def check_summary(folder):
    line = measured("gaussian", "single", 0.5, 4e-6, magnitude_error=8e-9, device_seconds=0.4, scheme="auto",
                    version="2.3", backend="GPU_1D", arrays="torch")
    with_keops = summary(os.path.join(folder, "with"), json.dumps(line) + "\n" + json.dumps(line)[:99])
    without = summary(os.path.join(folder, "without"), "")
    says(with_keops, "| fp32 gaussian, rectangular | 5 | met (4.6) | 2 | met (1.9) |", "## KeOps 2.3, GPU_1D, torch",
         "single: largest error 4.0e-10 of max abs(K) abs(v): met (1e-08)")
    says(without, "| fp32 gaussian, rectangular | 5 | met (4.6) | not measured |  |",
         "single: not judged against |K||v|, no KeOps")
    for page in with_keops, without:
        says(page, "1 tests of the backend, 1 passed, 3 s in all.", "| memcheck bench | 0 | 4 |  |",
             "card      one enduring card", "| fp64 gaussian, rectangular | 2 | met (1.05) | not measured |  |",
             "single: largest error 2.0e-07 of max abs(y): met (1e-06)",
             "double: largest error 1.0e-13 of max abs(y): **missed** (1e-14)")
        g.check("MHz" not in page, "the summary repeats the clock of every other second")


def check_rates(folder):
    if shutil.which("nvcc"):
        p = subprocess.run(["nvcc", "-O3", "-arch=sm_90", "-o", os.path.join(folder, "rates"),
                            os.path.join(g.ROOT, "jobs", "rates.cu")], capture_output=True, text=True)
        g.check(p.returncode == 0, f"jobs/rates.cu does not compile: {p.stderr}")


def main():
    args = g.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.join(folder, "a b")  # blanks in names are no trouble
        os.mkdir(root)
        lay_out(args, root)
        check_steps(root, os.path.join(folder, "steps"))
        check_no_device(root, os.path.join(folder, "none"))
        check_step_list(root, os.path.join(folder, "steps that are not"))
        check_summary(folder)
        check_rates(folder)
    g.finish()


main()
