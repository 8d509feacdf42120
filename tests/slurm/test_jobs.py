"""jobs/*.sbatch on the SLURM of cluster.py: each script on a small problem, its outputs and its exit code."""
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "app"))
import cluster
import gramarye as g

LIMIT = 40  # seconds of a job, from sbatch to its end
RUNNING = "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"
# no variables of a job that the tests may run in; nodes share /dev/shm here, where Open MPI names files by node; scripts
# are to find the Python of the tests
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}, **g.ENVIRONMENT,
               "OMPI_MCA_btl": "self,tcp", "PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"]}


def ask(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT).stdout


class Job:
    """One job or array, from submission to end unless wait is False; elements: {index: (state, exit code, scontrol's
    words, log)}."""

    def __init__(self, root, *command, wait=True):
        p = subprocess.run(["sbatch", "--parsable", *map(str, command)], cwd=root, stdin=subprocess.DEVNULL, text=True,
                           capture_output=True, timeout=LIMIT, env={**ENVIRONMENT, "SLURM_CONF": os.environ["SLURM_CONF"]})
        self.id, self.root, self.elements = p.stdout.strip(), root, {}
        if not g.check(p.returncode == 0, f"sbatch {command}: {p.stderr}"):
            sys.exit(1)
        if wait:
            self.wait()

    def ask(self):
        """scontrol's words about each element."""
        shown = ask("scontrol", "-o", "-d", "show", "job", self.id).splitlines()
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown if line]

    def wait(self, limit=LIMIT):
        until = time.monotonic() + limit
        while True:
            words = self.ask()
            if words and not any(w["JobState"] in RUNNING for w in words):
                break
            if time.monotonic() > until:
                subprocess.run(["scancel", self.id], timeout=LIMIT)
                print("\n".join(map(str, words)))
                sys.exit(f"job {self.id} did not end in {limit} s")
            time.sleep(0.1)
        for w in words:
            log = open(w["StdOut"]).read() if os.path.exists(w["StdOut"]) else ""
            code = int(w["ExitCode"].split(":")[0])
            self.elements[int(w.get("ArrayTaskId", 0))] = w["JobState"], code, w, log
        self.state, self.code, self.words, self.log = self.elements[min(self.elements)]

    def ended(self, what, code=0):
        state = "COMPLETED" if code == 0 else "FAILED"
        return g.check((self.state, self.code) == (state, code), f"{what}: {self.state} {self.code}: {self.log}")


def check_model(path, ranks, points, tolerance=1e-8):
    if g.check(os.path.exists(path), f"no {path}"):
        model = g.read(path)
        got = model["run@converged"], model["run@ranks"], len(model["x"])
        g.check(got == (1, ranks, points), f"{path}: converged, ranks, points {got}")
        g.check(model["run@relative_residual"] <= tolerance, f"{path}: residual {model['run@relative_residual']}")


# ---- the scripts ---------------------------------------------------------------------------------------------


def solve(root):
    """On both nodes; a bad key and a bad path are exit code 2, more memory than the job has is 4."""
    job = Job(root, "-N", 2, "-n", 3, "jobs/solve.sbatch", "configs/quickstart.yaml", "-data_limit", 1500)
    job.ended("solve")
    g.check(job.words["NodeList"] == "node[1-2]", f"nodes {job.words['NodeList']}")
    check_model(os.path.join(root, "configs/results/geoid.h5"), 3, 1500)
    g.check(os.path.basename(job.words["StdOut"]) == f"gramarye-{job.id}.log", "the log has another name")
    job = Job(root, "jobs/solve.sbatch", "configs/quickstart.yaml", "-kernel_lenght_scale", 1)
    job.ended("bad key", 2)
    g.check(job.log.count("gramarye: ") == 1 and "length.scale" in job.log.replace("_", "."), f"bad key: {job.log}")
    Job(root, "jobs/solve.sbatch", "configs/quickstart.yaml", "-data_limit", 1500, "-ksp_max_it", 1, "-pc_type", "none",
        "-output_file", "short.h5").ended("not converged", 3)
    job = Job(root, "--mem", 400, "jobs/solve.sbatch", "configs/quickstart.yaml", "-data_limit", 8000, "-solve_method",
              "direct", "-output_file", "large.h5")
    job.ended("more than SLURM grants", 4)
    g.check(re.search("memory: 8000 points, direct, need .* has from SLURM", job.log), f"more than SLURM grants: {job.log}")


def requeue(root):
    """A program that ends with 75 once is started again, in the same log: of a solve and of a sweep."""
    os.remove(os.path.join(root, "build/gramarye"))
    with open(os.path.join(root, "build/gramarye"), "w") as f:
        f.write('#!/bin/sh\necho "run ${SLURM_RESTART_COUNT:-0} $*"\nexit $((75 * ! ${SLURM_RESTART_COUNT:-0}))\n')
    os.chmod(f.name, 0o755)
    for script, verb in ("solve", "solve"), ("pwgd", "nodes"):
        job = Job(root, "-n", 1, f"jobs/{script}.sbatch", "a.yaml")
        job.ended(f"{script} requeued")
        runs = re.findall("run .*", job.log)
        g.check(runs == [f"run 0 {verb} a.yaml", f"run 1 {verb} a.yaml"], f"{script} requeued: {job.log}")


def solve_gpu(root):
    """A GPU a rank is asked for; there is none, which is exit code 2 and one line."""
    job = Job(root, "-n", 2, "jobs/solve_gpu.sbatch", "configs/quickstart.yaml", "-data_limit", 1500)
    job.ended("solve_gpu", 2)
    wanted = job.words["TresPerTask"], job.words["JOB_GRES"], job.words["NumTasks"]
    g.check("gpu:1" in wanted[0] and wanted[1:] == ("gpu:2", "2"), f"solve_gpu: asked for {wanted}")
    said = [line for line in job.log.splitlines() if line and not line.startswith("srun: ")]
    g.check(len(said) == 1 and said[0].startswith("gramarye: backend: 'cuda'"), f"solve_gpu: {job.log}")


def sweep(root):
    """Configs from the command line and from a list with keys of its own; an element too many is exit code 2."""
    with open(os.path.join(root, "list.txt"), "w") as f:
        f.write("# ridges\nconfigs/quickstart.yaml -ridge_alpha 1e-2 -output_file b.h5\n\n"
                "configs/quickstart.yaml -kernel_nu 0 -output_file c.h5")
    job = Job(root, "--array=0-3", "-n", 1, "jobs/sweep.sbatch", "configs/tutorial_1d.yaml", "list.txt", "-data_limit", 900)
    ends = {i: (state, code) for i, (state, code, *_) in job.elements.items()}
    wanted = {0: ("COMPLETED", 0), 1: ("COMPLETED", 0), 2: ("FAILED", 2), 3: ("FAILED", 2)}
    g.check(ends == wanted, f"sweep: {ends}: {[e[3] for e in job.elements.values()]}")
    check_model(os.path.join(root, "configs/results/tutorial_1d.h5"), 1, 900, 1e-6)  # what the config asks for
    check_model(os.path.join(root, "b.h5"), 1, 900)
    g.check(g.read(os.path.join(root, "b.h5"))["kernel@ridge_alpha"] == 1e-2, "sweep: keys of the list")
    g.check("kernel.nu" in job.elements[2][3], f"sweep: {job.elements[2][3]}")
    g.check("sweep: no element 3 of 3: sbatch --array=0-2" in job.elements[3][3], f"sweep: {job.elements[3][3]}")


def pwgd(root):
    """On both nodes, the same quadrature nodes as on one; a bad key is exit code 2, too few sweeps are 3."""
    small = "configs/nodes_large.yaml", "-nodes_size", 900, "-kernel_length_scale", 0.07
    job = Job(root, "-N", 2, "-n", 3, "jobs/pwgd.sbatch", *small)
    job.ended("pwgd")
    g.check(job.words["NodeList"] == "node[1-2]", f"pwgd: nodes {job.words['NodeList']}")
    g.check(os.path.basename(job.words["StdOut"]) == f"pwgd-{job.id}.log", "pwgd: the log has another name")
    Job(root, "-n", 1, "jobs/pwgd.sbatch", *small, "-output_file", "one.h5").ended("pwgd on one rank")
    paths = os.path.join(root, "configs/results/nodes_large.h5"), os.path.join(root, "one.h5")
    if g.check(all(map(os.path.exists, paths)), f"pwgd: no {paths}"):
        three, one = map(g.read, paths)
        got = [(r["run@converged"], r["run@ranks"], len(r["weights"])) for r in (three, one)]
        g.check(got == [(1, 3, 900), (1, 1, 900)], f"pwgd: converged, ranks, nodes {got}")
        g.close("pwgd: nodes of 3 ranks and of 1", three["x"], one["x"], 1e-9)
    Job(root, "jobs/pwgd.sbatch", *small, "-nodes_sise", 1).ended("pwgd: bad key", 2)
    Job(root, "jobs/pwgd.sbatch", *small, "-nodes_max_sweeps", 2, "-output_file", "short.h5").ended("pwgd: too few sweeps", 3)


def check_scaling(root, job, name, sizes, iterations):
    """One line a rank count, 1, 2, 3, and the table that their numbers make."""
    job.ended(name)
    path = os.path.join(root, f"{name}-{job.id}")
    lines = [json.loads(line) for line in open(path + ".jsonl")]
    got = [(line["ranks"], line["size"]) for line in lines]
    if not g.check(got == list(zip((1, 2, 3), sizes)), f"{name}: ranks and sizes {got}"):
        return
    rows = [line.split() for line in open(path + ".txt") if re.match(r" *\d", line)]
    for line, row in zip(lines, rows):
        rate = line["pairs_per_second"] / lines[0]["pairs_per_second"]
        wanted = [line["ranks"], line["size"], line["seconds"], rate, 100 * rate / line["ranks"],
                  line["pairs_per_second"] * 1e-9, line["bytes_communicated"]]
        numbers = [float(word.rstrip("%")) for word in row[:8]]
        del numbers[5]  # the model
        g.close(f"{name}, {line['ranks']} ranks", [a - b for a, b in zip(numbers, wanted)], [0] * 7, 0.06, 1)
        g.check((row[8] != "-") == iterations, f"{name}: iterations {row[8]}")
    g.check(len(rows) == 3 and float(rows[0][5].rstrip("%")) == 100, f"{name}: the model does not start at 100%: {rows}")
    if importlib.util.find_spec("matplotlib"):
        g.check(os.path.exists(path + ".png") and open(path + ".png", "rb").read(4) == b"\x89PNG", f"{name}: no picture")


def strong_scaling(root):
    job = Job(root, "-n", 3, "jobs/strong_scaling.sbatch", "configs/bench_solves.yaml", "-bench_sizes", 1000,
              "-bench_repeats", 1)
    check_scaling(root, job, "strong_scaling", [1000] * 3, True)
    Job(root, "jobs/strong_scaling.sbatch", "configs/bench_solves.yaml", "-bench_size", 1).ended("bad key", 2)


def weak_scaling(root):
    job = Job(root, "-N", 2, "-n", 3, "jobs/weak_scaling.sbatch", 1000, "configs/bench_products.yaml", "-bench_kernels",
              "gaussian", "-bench_precisions", "double", "-bench_symmetric", "true", "-bench_repeats", 1)
    check_scaling(root, job, "weak_scaling", [1000, 1414, 1732], False)
    Job(root, "jobs/weak_scaling.sbatch", "configs/bench_products.yaml").ended("no points", 2)


def main(doc, tests):
    """Runs test(root) for the tests named by --tests, all by default, each in a copy of what jobs need."""
    tests = {t.__name__: t for t in tests}
    p = g.parser(doc)
    p.add_argument("--cluster", required=True, help="the folder of cluster.py")
    p.add_argument("--tests", nargs="+", choices=tests, default=list(tests))
    args = p.parse_args()
    os.environ["SLURM_CONF"] = os.path.join(os.path.realpath(os.path.join(args.cluster, "state")), "slurm.conf")
    if not cluster.installed():
        print("SLURM is not installed")
        sys.exit(g.SKIPPED)
    if not os.path.exists(os.environ["SLURM_CONF"]):
        sys.exit(f"no SLURM runs: python3 tests/slurm/cluster.py start {args.cluster}")
    if "pmix" not in ask("bash", "-c", "srun --mpi=list 2>&1"):
        print("this SLURM has no PMIx")
        sys.exit(g.SKIPPED)
    for name in args.tests:
        with tempfile.TemporaryDirectory() as root:
            for folder in "jobs", "configs":
                shutil.copytree(os.path.join(g.ROOT, folder), os.path.join(root, folder))
            os.mkdir(os.path.join(root, "build"))
            os.symlink(os.path.abspath(args.program), os.path.join(root, "build", "gramarye"))
            tests[name](root)
    g.finish()


if __name__ == "__main__":
    main(__doc__, (solve, requeue, solve_gpu, sweep, pwgd, strong_scaling, weak_scaling))
