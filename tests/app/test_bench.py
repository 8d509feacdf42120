"""bench: a line per case with the fields of the contract, the same product on any number of ranks, errors below their
limits, bad inputs refused before any work, and pictures of the lines. Speed is never tested."""
import itertools
import json
import os
import re
import subprocess
import sys

import gramarye as g

COUNTS = {"size": int, "dim": int, "rhs": int, "ranks": int, "evaluated_pairs": int, "peak_memory_bytes": int,
          "evaluated_pairs_max_rank": int, "skipped_pairs": int, "bytes_communicated": (int, float),
          "repeats": int, "seed": int}
TIMES = ["seconds", "seconds_min", "seconds_max", "setup_seconds", "pairs_per_second", "relative_error"]
WORDS = ["kind", "kernel", "precision", "backend", "simd", "grid", "version", "git"]
SOLVE = {"iterations": int, "exact_from": int, "relative_residual": (int, float), "solve_seconds": (int, float), "converged": bool,
         "reason": str, "method": str}
LISTS = dict(sizes=[3, 1500], dims=[1, 3], kernels=["gaussian", "matern"], precisions=["double", "single"], rhs=[1, 3])
CONFIG = dict(bench=dict(**LISTS, repeats=2), kernel=dict(nu=2.5, length_scale=0.2), ridge=dict(alpha=0.5), monitor=False)
JOBS = os.path.join(g.ROOT, "jobs")
# double: a sum of 1500 terms of either sign is good to a few eps sum |k v| / max |y|, some 10 here; float has 2^29 eps
LIMITS = {"double": 4e-15, "single": 2e-6, "mixed": 2e-6}


def lines(what, result, codes=(0,)):
    """Standard output, all of it JSON, and the fields of every line."""
    if not g.succeeded(what, result, codes):
        return []
    try:
        found = [json.loads(text) for text in result.out.splitlines()]
    except ValueError as e:
        g.check(False, f"{what}: not JSON: {e}: {result.out[:300]}")
        return []
    for i, line in enumerate(found):
        number = dict.fromkeys(TIMES, (int, float))
        types = {**COUNTS, **number, **dict.fromkeys(WORDS, str), "symmetric": bool,
                 **(SOLVE if line.get("kind") == "solve" else {})}
        for name, kind in types.items():
            good = isinstance(line.get(name), kind) and isinstance(line[name], bool) == (kind is bool)
            g.check(good, f"{what}: line {i}: '{name}' is {line.get(name)!r}")
        consistent(f"{what}: line {i}", line)
    return found


def consistent(what, line):
    n, seconds = line["size"], line["seconds"]
    g.check(line["seconds_min"] <= seconds <= line["seconds_max"], f"{what}: median {seconds} outside of least and most")
    g.close(f"{what}: pairs_per_second", line["pairs_per_second"] * seconds, n * n, 1e-7)  # 9 digits are printed
    pairs = line["evaluated_pairs"]
    least, most = (n * n / 2, n * (n + 1) / 2) if line["symmetric"] else (n * n, n * n)
    known = pairs + line["skipped_pairs"]  # both rounded
    g.check(least - 1 <= known <= most + 1,
            f"{what}: {known} pairs evaluated or skipped of {n} x {n}, symmetric {line['symmetric']}")
    g.check(pairs / line["ranks"] - 1 <= line["evaluated_pairs_max_rank"] <= pairs,  # rounded
            f"{what}: {line['evaluated_pairs_max_rank']} pairs on one of {line['ranks']} ranks, {pairs} in all")
    g.check(line["peak_memory_bytes"] > 1e6 * line["ranks"], f"{what}: peak_memory_bytes {line['peak_memory_bytes']}")


def products(args, folder):
    """Every combination of the lists once, on ranks that own rows or none, each near the reference."""
    words = dict(LISTS, kernels=["gaussian", "matern52"], symmetric=[True, False])
    keys = ["size", "dim", "kernel", "precision", "rhs", "symmetric"]
    cases = set(itertools.product(*words.values()))
    for ranks in 1, 2, 4:
        what = f"products on {ranks} ranks"
        found = lines(what, g.run(args.program, "bench", CONFIG, ranks, (), args.mpiexec, folder))
        got = [tuple(line[key] for key in keys) for line in found]
        g.check(len(got) == len(cases) and set(got) == cases, f"{what}: {len(got)} lines, expected {len(cases)}")
        for line, case in zip(found, got):
            g.check(line["ranks"] == ranks and line["kind"] == "product" and line["repeats"] == 2, f"{what}: {line}")
            g.check(line["relative_error"] <= LIMITS[line["precision"]], f"{what}: {case}: off by {line['relative_error']}")


def options(args, folder):
    """Defaults, words of other keys, other backends, and the words of bench.symmetric."""
    small = ["-bench_sizes", 150, "-bench_repeats", 1]
    run = lambda *more: g.run(args.program, "bench", "verb: bench\n", 1, [*small, *more], args.mpiexec, folder)
    found = lines("defaults", run())
    got = [[line[k] for k in ("kind", "kernel", "dim", "precision", "rhs", "symmetric", "grid")] for line in found]
    g.check(got == [["product", "gaussian", 3, "double", 1, s, "auto"] for s in (True, False)], f"defaults: {got}")
    for symmetric in "true", "false":
        found = lines(f"symmetric {symmetric}", run("-bench_symmetric", symmetric))
        g.check([line["symmetric"] for line in found] == [symmetric == "true"], f"symmetric {symmetric}: {found}")
    found = lines("words of other keys", run("-kernel_type", "matern92", "-product_precision", "single"))
    g.check({(line["kernel"], line["precision"]) for line in found} == {("matern92", "single")}, f"other keys: {found}")
    found = lines("ref", run("-backend", "ref", "-kernel_amplitude", 3, "-kernel_length_scale", "0.1,0.2,2"))
    g.check({line["backend"] for line in found} == {"ref"}, f"ref: {found}")
    g.check(all(line["relative_error"] <= 1e-15 for line in found), f"ref differs from itself: {found}")
    g.check(all(line["precision"] == "double" for line in lines("ref in single", run(
        "-backend", "ref", "-bench_precisions", "single"))), "ref computes in double and says otherwise")


def solves(args, folder):
    """Converged with a residual to show, which ref sees too; not converged is said, with exit code 3."""
    config = dict(CONFIG, bench=dict(kind="solve", sizes=[3, 400], precisions=["double", "single"], rhs=[1, 2],
                                     repeats=2, symmetric=True), ksp=dict(rtol=1e-4))
    for ranks, method in itertools.product((1, 2, 4), ("iterative", "direct")):
        what = f"{method} solves on {ranks} ranks"
        result = g.run(args.program, "bench", dict(config, solve_method=method), ranks, (), args.mpiexec, folder)
        found = lines(what, result)
        g.check(len(found) == 8, f"{what}: {len(found)} lines, expected 8")
        for line in found:
            g.check(line["converged"] and line["method"] == method, f"{what}: {line}")
            g.check(line["relative_residual"] <= 1e-4, f"{what}: residual {line['relative_residual']}")
            # the largest of 64 rows against the norm of all; y is about 1 everywhere
            g.check(line["relative_error"] <= 1e-3, f"{what}: ref sees a residual of {line['relative_error']}")
    config["solve_method"] = "iterative"
    result = g.run(args.program, "bench", config, 2, ["-ksp_max_it", 2, "-bench_sizes", 400], args.mpiexec, folder)
    found = lines("2 iterations", result, (3,))
    g.check([line["reason"] for line in found] == ["max_iterations"] * 4, f"2 iterations: {found}")
    g.check(not any(line["converged"] for line in found), f"2 iterations converged: {found}")


def reproducible(args, folder):
    """The same solves digit by digit on any ranks and grid, and products that are right; all tiles for the residual."""
    keys = ["iterations", "exact_from", "relative_residual", "converged", "reason", "precision", "symmetric", "rhs"]
    cases = dict(kind="solve", sizes=[3, 2100], precisions=["double", "mixed"], rhs=2, repeats=1)
    config = dict(CONFIG, bench=cases,
                  ridge=dict(alpha=5.0), ksp=dict(rtol=1e-9), solve=dict(method="iterative"), product=dict(reproducible=True))
    reference = None
    for ranks, grid in (1, "auto"), (2, "auto"), (3, "auto"), (2, "1,2"):
        what = f"reproducible on {ranks} ranks, grid {grid}"
        given = ["-product_grid", grid]
        run = lambda *more: g.run(args.program, "bench", config, ranks, [*given, *more], args.mpiexec, folder)
        found = lines(what, run())
        got = [[line[key] for key in keys] for line in found]
        reference = reference or got
        g.check(len(got) == 8 and got == reference, f"{what}: {got}, on 1 rank {reference}")
        g.check(all(line["relative_residual"] <= 1e-9 for line in found), f"{what}: residuals of {found}")
        for line in lines(f"{what}: products", run("-bench_kind", "product", "-bench_sizes", 2100)):
            g.check(line["relative_error"] <= LIMITS[line["precision"]], f"{what}: off by {line['relative_error']}")
    skipping = ["-product_tolerance", 0.3, "-product_reproducible", "false", "-bench_precisions", "double"]
    result = g.run(args.program, "bench", config, 2, skipping, args.mpiexec, folder)
    g.check(all(line["relative_residual"] <= 1e-9 for line in lines("tolerance 0.3", result)), "tolerance 0.3: residuals")


BAD = [("-bench_kernels", "gaussian,gausian", r"bench\.kernels.*gausian.*\bgaussian\b"),
       ("-bench_kernels", "matern,cube", r"bench\.kernels.*cube.*\bcubic\b"),
       ("-bench_sizes", "100,0", r"bench\.sizes.*\b0\b.*\b1\b"),
       ("-bench_sizes", "many", r"bench\.sizes.*many"),
       ("-bench_sizes", "4294967306", r"bench\.sizes.*4294967306"),
       ("-bench_dims", "3,129", r"bench\.dims.*129.*128"),
       ("-bench_rhs", "-1", r"bench\.rhs.*-1"),
       ("-bench_rhs", "30000000", r"bench\.rhs.*30000000"),
       ("-bench_repeats", "-3", r"bench\.repeats.*-3"),
       ("-bench_repeats", "0", r"bench\.repeats.*\b0\b"),
       ("-bench_precisions", "double,half", r"bench\.precisions.*half.*double"),
       ("-product_precision", "quadruple", r"product\.precision.*quadruple.*double"),
       ("-bench_kind", "products", r"bench\.kind.*products.*product, solve"),
       ("-bench_symmetric", "maybe", r"bench\.symmetric.*maybe.*both"),
       ("-bench_size", "100", r"bench\.size.*did you mean 'bench\.sizes'"),
       ("-kernel_length_scale", "0.1,0.2", r"kernel\.length_scale.*2.*1"),
       ("-product_grid", "0,0", r"product\.grid.*0,0"),
       ("-product_grid", "2,1", r"product\.grid.*2 ranks.*has 1"),
       ("-product_tolerance", "-1", r"product\.tolerance.*-1"),
       ("-kernel_nu", "0.7", r"kernel\.nu.*0\.7"),
       ("-backend", "abacus", r"backend.*abacus"),
       ("-bench_sizes", ",".join(["5"] * 40), r"bench\.sizes.*32")]


def bad(args, folder):
    """One line on stderr, none on stdout, although the first case would have been a good one."""
    for key, value, words in BAD:
        for ranks in (1, 3) if value in ("100,0", "gaussian,gausian") else (1,):
            r = g.run(args.program, "bench", CONFIG, ranks, [key, value], args.mpiexec, folder)
            what = f"{key} {value} on {ranks} ranks"
            g.succeeded(what, r, (2,))
            g.check(len(r.err) == 1 and re.search(words, r.err[0]), f"{what}: said {r.err}")
            g.check(not r.out, f"{what}: printed {r.out}")
    r = g.run(args.program, "bench", None, 1, [], args.mpiexec, folder)
    g.check(r.code == 2 and len(r.err) == 1 and "config" in r.err[0], f"no config: exit code {r.code}, said {r.err}")
    r = g.run(args.program, "bench", CONFIG, 1, ["-bench_sizes", 2 * 10 ** 9, "-bench_rhs", 1], args.mpiexec, folder)
    g.check(r.code == 4 and len(r.err) == 1 and "memory" in r.err[0], f"memory: exit code {r.code}, said {r.err}")


def draw(args, folder, script, arguments, picture, given=None, code=0):
    """A script of jobs/ makes a picture, or exits with code; returns what it printed."""
    path, stdin = os.path.join(folder, picture), open(given) if given else subprocess.DEVNULL
    p = subprocess.run([sys.executable, os.path.join(JOBS, script), *arguments, path], stdin=stdin, capture_output=True,
                       text=True)
    has_matplotlib = not subprocess.run([sys.executable, "-c", "import matplotlib"], capture_output=True).returncode
    if not has_matplotlib and script == "draw_bench.py":
        code = 2
    g.check(p.returncode == code, f"{script} {arguments}: exit code {p.returncode}: {p.stderr}")
    if has_matplotlib and code == 0:
        head = open(path, "rb").read(200) if os.path.exists(path) else b""
        kind = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[picture[-3:]]
        g.check(head.startswith(kind), f"{script} {arguments}: {picture} is none: {head[:20]}")
    return p.stdout


def pictures(args, folder):
    """Rates of one run, of several numbers of ranks, from files or standard input; text between the lines is no harm."""
    paths = []
    for ranks in 1, 2:
        r = g.run(args.program, "bench", CONFIG, ranks, ["-bench_repeats", 1, "-bench_dims", 3, "-bench_rhs", 1],
                  args.mpiexec, folder)
        paths.append(os.path.join(folder, f"{ranks}.jsonl"))
        with open(paths[-1], "w") as f:
            f.write("# a log\n" + r.out + "\n42\n")
    draw(args, folder, "draw_bench.py", [paths[0]], "rate.png")
    draw(args, folder, "draw_bench.py", paths, "rates.pdf")
    draw(args, folder, "draw_bench.py", [], "stdin.png", paths[1])
    draw(args, folder, "draw_scaling.py", paths, "scaling.svg")
    for script in "draw_bench.py", "draw_scaling.py":
        draw(args, folder, script, [os.path.join(folder, "config0.yaml")], "none.png", code=1)


def scaling(args, folder):
    """Each rank has its share of the pairs within 1 %, and receives the bytes of the model within 5 %, which the table
    has beside what was measured. Half of 16 ranks own a point more than a block holds."""
    sys.path.insert(0, JOBS)
    from draw_scaling import volume
    path = os.path.join(folder, "scaling.jsonl")
    config = dict(bench=dict(sizes=16 * 1024 + 8, kernels="gaussian", rhs=[1, 3], repeats=1), monitor=False)
    found = []
    for ranks, grid in (1, "1d"), (2, "1d"), (4, "2d"), (8, "1d"), (8, "4,2"), (16, "1d"), (16, "2d"):
        r = g.run(args.program, "bench", config, ranks, ["-product_grid", grid], args.mpiexec, folder)
        found += lines(f"grid {grid} of {ranks} ranks", r)
        with open(path, "a") as f:
            f.write(r.out)
    g.check(len(found) == 28, f"{len(found)} lines, expected 28")
    for line in found:
        what = f"grid {line['grid']} of {line['ranks']} ranks, {line['rhs']} columns, symmetric {line['symmetric']}"
        share = line["size"] ** 2 / line["ranks"] / (1 + line["symmetric"])
        g.check(line["evaluated_pairs_max_rank"] <= 1.01 * share,
                f"{what}: {line['evaluated_pairs_max_rank'] / share:.4f} of an even share of the pairs")
        got, model = line["bytes_communicated"], line["ranks"] * volume(line)
        g.check(abs(got - model) <= 0.05 * model, f"{what}: {got} bytes, {model} by the model")
    table = draw(args, folder, "draw_scaling.py", [path], "scaling.png")
    rows = [text.split() for text in table.splitlines() if re.match(" *\\d", text)]
    wanted = sorted((line["ranks"], round(line["bytes_communicated"])) for line in found)
    g.check(sorted((int(row[0]), int(row[7])) for row in rows) == wanted, f"the table has other ranks or bytes: {table}")


def backend(args, folder):
    """auto says what it passed over in one line of a run, and nothing where there was nothing to pass over; -help names
    the backends that info lists."""
    info = g.run(args.program, "info", None, 1, (), args.mpiexec, folder)
    g.succeeded("info", info)
    names = re.findall(r"^backend +(\w+) \((not here: )?", info.out, re.M)
    missing = any(lacks for _, lacks in names)
    config = dict(bench=dict(sizes=[3, 5], rhs=[1, 2], repeats=1), backend="auto", monitor=False)
    for ranks in 1, 2:
        r = g.run(args.program, "bench", config, ranks, (), args.mpiexec, folder)
        lines(f"auto on {ranks} ranks", r)
        said = r.passed_over
        g.check(len(said) == missing and all(re.search(r"products run on \w+ \(.+\)$", line) for line in said),
                f"{ranks} ranks: {'one line' if missing else 'nothing'} was to be said of backend auto, not {said}")
    r = g.run(args.program, "bench", config, 1, ("-help",), args.mpiexec, folder)
    words = ", ".join(["auto"] + [name for name, _ in names])
    g.check(f": {words} (" in r.out, f"-help does not say '{words}' of -backend")


TESTS = [products, options, solves, reproducible, bad, pictures, scaling, backend]

g.main(__doc__, TESTS)
