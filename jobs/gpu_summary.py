#!/usr/bin/env python3
"""What jobs/gpu.sh measured, as one page of Markdown:  jobs/gpu_summary.py RESULTS [FAILURES] >summary.md

RESULTS holds machine.txt, tests.txt, bench.jsonl, keops.jsonl, solve.txt and rates.txt; what is missing is left out.
"""
import json
import sys
from pathlib import Path

# kernel, precision, symmetric, rhs: 10^12 pairs a second, times KeOps; for one H200, N = 10^6, d = 3
TARGETS = {
    ("gaussian", "single", False, 1): (4.6, 1.9),
    ("gaussian", "single", True, 1): (7.5, 3.0),
    ("exponential", "single", True, 1): (3.8, 2.1),
    ("gaussian", "single", False, 16): (2.8, 3.5),
    ("gaussian", "double", False, 1): (1.05, 2.2),
    ("gaussian", "double", True, 1): (1.8, 3.8),
    ("exponential", "double", False, 1): (0.66, 2.3),
}
FRACTION = 0.5  # of the rate at 10^6 points, at 10^4
ERRORS = ("double", "max abs(y)", 1e-14), ("single", "max abs(y)", 1e-6), ("single", "max abs(K) abs(v)", 1e-8)


def read(folder, name):
    path = folder / name
    return path.read_text().rstrip("\n") if path.is_file() else ""


def read_lines(folder, name):
    """JSON lines; one that a kill cut short is left out."""
    lines = []
    for text in read(folder, name).splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            pass
    return lines


def seconds(line):
    return line.get("device_seconds", line["seconds"])


def rate(line):
    return 1e-12 * line["size"] ** 2 / seconds(line)


def number(x, digits=3):
    return f"{x:.{digits}g}"


def verdict(value, target):
    if value >= target:
        return f"met ({number(target)})"
    return f"**missed by {100 * (1 - value / target):.0f} %** ({number(target)})"


def case_of(line):
    return line["kernel"], line["precision"], line["symmetric"], line["rhs"]


def title(case):
    kernel, precision, symmetric, rhs = case
    bits = {"double": "fp64", "single": "fp32"}.get(precision, precision)
    return f"{bits} {kernel}, {'symmetric' if symmetric else 'rectangular'}" + (f", {rhs} rhs" if rhs > 1 else "")


def table(heads, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (heads, ["---"] * len(heads), *rows)) + "\n"


def against(keops, line):
    """KeOps' product of the same sum in the same precision, which knows no symmetry."""
    same = ("kernel", "precision", "rhs", "size")
    return next((k for k in keops if k["scheme"] == "auto" and all(k[key] == line[key] for key in same)), None)


def show_targets(bench, keops, size):
    rows = []
    for case, (speed, times) in TARGETS.items():
        line = next((b for b in bench if case_of(b) == case and b["size"] == size), None)
        if not line:
            rows.append([title(case), "not measured", "", "", ""])
            continue
        k = against(keops, line)
        ratio = seconds(k) / seconds(line) if k else None
        rows.append([title(case), number(rate(line)), verdict(rate(line), speed),
                     number(ratio) if k else "not measured", verdict(ratio, times) if k else ""])
    print(f"## Targets, N = {size}, d = 3\n")
    print(table(["case", "Tpairs/s", "target", "times KeOps", "target"], rows))


def show_cases(bench, keops):
    rows, largest = [], max(line["size"] for line in bench)
    rates = {(case_of(line), line["size"]): rate(line) for line in bench}
    magnitude = {}  # max |y| / max |K| |v| is the same for every vector of such numbers
    for k in keops:
        if k["relative_error"] > 0:
            magnitude[k["kernel"], k["size"]] = k["magnitude_error"] / k["relative_error"]
    for line in bench:
        case, size, k = case_of(line), line["size"], against(keops, line)
        scale = magnitude.get((line["kernel"], size))
        whole = rates.get((case, largest))
        rows.append([
            title(case), size, number(1e3 * seconds(line), 4),
            f"{100 * (line['seconds_max'] - line['seconds_min']) / line['seconds']:.0f} %", number(rate(line)),
            f"{100 * rate(line) / whole:.0f} %" if whole and size != largest else "",
            number(seconds(k) / seconds(line)) if k else "", f"{line['relative_error']:.1e}",
            f"{line['relative_error'] * scale:.1e}" if scale else ""])
    print("## Products\n")
    print(table(["case", "N", "ms", "spread", "Tpairs/s", f"of N = {largest}", "times KeOps", "error / max abs(y)",
                 "error / max abs(K) abs(v), about"], rows))
    show_errors(bench, magnitude)
    small = [(case, rates[case, 10000] / rates[case, largest]) for case in TARGETS
             if (case, 10000) in rates and (case, largest) in rates]
    if small and largest > 10000:
        case, least = min(small, key=lambda s: s[1])
        print(f"N = 10 000 against N = {largest}, least of the cases with targets: {100 * least:.0f} %, "
              f"{title(case)}: {verdict(least, FRACTION)}\n")
    if not any("device_seconds" in line for line in bench):
        print("Seconds are those of the clock on the wall: the bench gave no device events.\n")


def show_errors(bench, magnitude):
    for precision, of, bound in ERRORS:
        lines = [line for line in bench if line["precision"] == precision]
        scales = [1 if of == "max abs(y)" else magnitude.get((line["kernel"], line["size"])) for line in lines]
        errors = [line["relative_error"] * scale for line, scale in zip(lines, scales) if scale]
        if errors:
            said = "met" if all(error <= bound for error in errors) else "**missed**"
            print(f"{precision}: largest error {max(errors):.1e} of {of}: {said} ({bound:g})\n")
        if len(errors) < len(lines):
            some = f"{len(lines) - len(errors)} of {len(lines)} cases " if errors else ""
            print(f"{precision}: {some}not judged against |K||v|, no KeOps\n")


def show_keops(keops):
    rows = [[f"{'fp64' if k['precision'] == 'double' else 'fp32'} {k['kernel']}", k["rhs"], k["size"], k["scheme"],
             number(1e3 * seconds(k), 4), number(rate(k)), f"{k['relative_error']:.1e}", f"{k['magnitude_error']:.1e}"]
            for k in keops]
    k = keops[0]
    print(f"## KeOps {k['version']}, {k['backend']}, {k['arrays']}\n")
    heads = "case", "rhs", "N", "sums", "ms", "Tpairs/s", "error / max abs(y)", "error / max abs(K) abs(v)"
    print(table(heads, rows))


def show_tests(text):
    lines = [line.split("\t") for line in text.splitlines()]
    tools = [line for line in lines if len(line) > 3]
    tests = [line for line in lines if len(line) == 3]
    bad = [line for line in tests if line[1] != "0"]
    print("## Tests and sanitizers\n")
    print(f"{len(tests)} tests of the backend, {len(tests) - len(bad)} passed, "
          f"{sum(int(line[2]) for line in tests)} s in all.\n")
    rows = [line + [""] * (4 - len(line)) for line in tools + bad]
    if rows:
        print(table(["test or tool", "exit code", "seconds", "said"], rows))


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: gpu_summary.py RESULTS [FAILURES]")
    folder = Path(sys.argv[1])
    bench, keops = (read_lines(folder, name) for name in ("bench.jsonl", "keops.jsonl"))
    print("# Gramarye on a GPU\n")
    machine = read(folder, "machine.txt").split("\nduring ")[0]  # what follows is many lines
    print(f"```\n{machine.rstrip()}\n```\n")
    failures = Path(sys.argv[2]).read_text().split("\n")[:-1] if len(sys.argv) > 2 else []
    print(f"{len(failures)} failures{':' if failures else '.'}\n")
    for failure in failures:
        print(f"* {failure}" + "\n" * (failure is failures[-1]))
    if bench:
        show_targets(bench, keops, max(line["size"] for line in bench))
    if read(folder, "tests.txt"):
        show_tests(read(folder, "tests.txt"))
    if read(folder, "solve.txt"):
        print(f"## Solves of the geoid\n\n```\n{read(folder, 'solve.txt')}\n```\n")
    if bench:
        show_cases(bench, keops)
    if keops:
        show_keops(keops)
    if read(folder, "rates.txt"):
        print(f"## Rates of the card\n\n{read(folder, 'rates.txt')}\n")


if __name__ == "__main__":
    main()
