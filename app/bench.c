/* gramarye bench: products and solves timed over lists of sizes, kernels, ...; one JSON object per line per case. */
#include <math.h>

#include "json.h"
#include "memory.h"
#include "plan.h"
#include "progress.h"
#include "sample.h"
#include "solve.h"
#include "verbs.h"
#include "version.h"

#define SEED 1

enum { POINTS, VALUES }; /* streams of random numbers */

/* One case: its problem, all points uniform in the unit cube, and what it took. */
typedef struct {
  GramPlanCase is;
  GramPoints   X;
  GramBackend  backend, exact; /* as asked for; the same in double, for solves where that is another */
  Mat          A, A_true;
  Mat          V, Y;                              /* n x q: Y = A V, of a solve A V = Y */
  PetscReal    seconds, seconds_min, seconds_max; /* of a run on the slowest rank: median, least, most */
  PetscReal    device_seconds;                    /* of that, on the device that was busy longest: median */
  PetscReal    setup_seconds;                     /* of points and operator on the slowest rank */
  GramReport   report;                            /* of the last solve, its seconds medians */
} Case;

static PetscReal Uniform(uint64_t stream, uint64_t i) { return GramUniform((SEED + stream) << 40, i); }

/* the problem of a case */

/* The options that GramBackend and GramMat read, of this case. */
static PetscErrorCode CaseSetOptions(const Case *c)
{
  PetscFunctionBegin;
  PetscCall(PetscOptionsSetValue(NULL, "-product_symmetric", c->is.symmetric ? "true" : "false"));
  PetscCall(PetscOptionsSetValue(NULL, "-product_precision", c->is.precision));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Refused before it is made: the matrix and its buffers; spread, the sort, panels and their copies. */
static PetscErrorCode CaseCheckMemory(MPI_Comm comm, const GramPlan *plan, const Case *c)
{
  const PetscLogDouble n = (PetscLogDouble)c->is.n;
  GramSchedule         schedule;
  PetscMPIInt          ranks;
  PetscLogDouble       bytes, need, have;
  const char          *device;
  char                 line[256];

  PetscFunctionBegin;
  if (plan->solve)
    PetscCall(GramSolveEstimate(comm, c->backend, &c->is.kernel, c->is.n, 0, c->is.q, PETSC_FALSE, NULL, NULL,
                                line, sizeof line));
  else {
    PetscCallMPI(MPI_Comm_size(comm, &ranks));
    PetscCall(GramScheduleFromOptions(comm, &schedule));
    bytes = GramScheduleBytes(&schedule, &c->is.kernel, c->is.n, c->is.q) +
            GramBackendHostBytes(c->backend, c->is.n, c->is.dim, c->is.q) +
            8 * n * (4.0 * c->is.dim + 3.0 * c->is.q + 8) / ranks;
    PetscCall(GramMemoryCheck(comm, c->is.n, bytes, "bench.kind product", NULL, NULL, 0));
    PetscCall(GramBackendGetInfo(c->backend, NULL, &device, NULL));
    PetscCall(GramScheduleDeviceBytes(&schedule, c->backend, &c->is.kernel, c->is.n, c->is.q, &need, &have));
    PetscCall(GramMemoryCheckDevice(comm, need, have, device));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Row i of the input is the same on any number of ranks, and so is its place on the curve. */
static PetscErrorCode PointsCreate(MPI_Comm comm, Case *c)
{
  PetscLayout  rows;
  PetscInt     first, end;
  PetscReal   *x;
  GramSchedule schedule;

  PetscFunctionBegin;
  PetscCall(GramScheduleFromOptions(comm, &schedule));
  PetscCall(PetscLayoutCreateFromSizes(comm, PETSC_DECIDE, c->is.n, 1, &rows));
  PetscCall(PetscLayoutGetRange(rows, &first, &end));
  PetscCall(PetscLayoutDestroy(&rows));
  PetscCall(PetscMalloc1(GramAt(end - first, c->is.dim, 0), &x));
  for (PetscInt i = first; i < end; i++) {
    for (PetscInt k = 0; k < c->is.dim; k++)
      x[GramAt(i - first, c->is.dim, k)] = Uniform(POINTS, GramAt(i, c->is.dim, k));
  }
  PetscCallMPI(MPI_Barrier(comm));
  c->setup_seconds = -MPI_Wtime();
  PetscCall(
      GramPointsCreate(comm, c->is.dim, end - first, x, c->is.kernel.length_scale, schedule.block, &c->X));
  c->setup_seconds += MPI_Wtime();
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Uniform in [-1/2, 1/2), or for solves a smooth function, and its gradients, and a twentieth of that as noise. */
static PetscErrorCode PanelCreate(MPI_Comm comm, const Case *c, PetscBool smooth, Mat *panel)
{
  const PetscInt   numbers = GramKernelNumbers(&c->is.kernel);
  const PetscReal  wave    = 5 / PetscSqrtReal(c->is.dim);
  PetscInt         start, n, lda;
  const PetscReal *x;
  PetscReal       *a;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(c->X, NULL, NULL, NULL, &n, &start));
  PetscCall(GramPointsGetArrayRead(c->X, &x));
  PetscCall(MatCreateDense(comm, n * numbers, PETSC_DECIDE, PETSC_DETERMINE, c->is.q, NULL, panel));
  PetscCall(MatDenseGetLDA(*panel, &lda));
  PetscCall(MatDenseGetArrayWrite(*panel, &a));
  for (PetscInt r = 0; r < c->is.q; r++) {
    for (PetscInt i = 0; i < n * numbers; i++) {
      PetscReal sum = 0, value = Uniform(VALUES, GramAt(r, c->is.n * numbers, start * numbers + i)) - 0.5;

      for (PetscInt k = 0; k < c->is.dim; k++) sum += x[GramAt(i / numbers, c->is.dim, k)];
      if (smooth && i % numbers) value = wave * (PetscCosReal(wave * sum + r) + value / 20);
      else if (smooth) value = PetscSinReal(wave * sum + r) + value / 20;
      a[GramAt(r, lda, i)] = value;
    }
  }
  PetscCall(MatDenseRestoreArrayWrite(*panel, &a));
  PetscCall(MatAssemblyBegin(*panel, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(*panel, MAT_FINAL_ASSEMBLY));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CaseCreate(MPI_Comm comm, const GramPlan *plan, Case *c)
{
  PetscFunctionBegin;
  GramMemoryPeakReset();
  PetscCall(PointsCreate(comm, c));
  PetscCallMPI(MPI_Barrier(comm));
  c->setup_seconds -= MPI_Wtime();
  PetscCall(GramMatCreate(c->X, &c->is.kernel, c->backend, &c->A));
  c->setup_seconds += MPI_Wtime();
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &c->setup_seconds, 1, MPIU_REAL, MPI_MAX, comm));
  if (!plan->solve) PetscCall(PanelCreate(comm, c, PETSC_FALSE, &c->V));
  else {
    PetscCall(PanelCreate(comm, c, PETSC_TRUE, &c->Y));
    PetscCall(GramTrueOperatorCreate(c->X, &c->is.kernel, c->backend, c->A, &c->exact, &c->A_true));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CaseDestroy(Case *c)
{
  PetscFunctionBegin;
  PetscCall(GramReportClear(&c->report));
  PetscCall(MatDestroy(&c->Y));
  PetscCall(MatDestroy(&c->V));
  PetscCall(MatDestroy(&c->A_true));
  PetscCall(MatDestroy(&c->A));
  PetscCall(GramBackendDestroy(&c->exact));
  PetscCall(GramBackendDestroy(&c->backend));
  PetscCall(GramPointsDestroy(&c->X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* its runs */

static PetscErrorCode Multiply(Case *c)
{
  Vec v, y;

  PetscFunctionBegin;
  if (c->is.q > 1) {
    PetscCall(MatMatMult(c->A, c->V, c->Y ? MAT_REUSE_MATRIX : MAT_INITIAL_MATRIX, PETSC_DEFAULT, &c->Y));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  if (!c->Y) PetscCall(MatDuplicate(c->V, MAT_DO_NOT_COPY_VALUES, &c->Y));
  PetscCall(MatDenseGetColumnVecRead(c->V, 0, &v));
  PetscCall(MatDenseGetColumnVecWrite(c->Y, 0, &y));
  PetscCall(MatMult(c->A, v, y));
  PetscCall(MatDenseRestoreColumnVecWrite(c->Y, 0, &y));
  PetscCall(MatDenseRestoreColumnVecRead(c->V, 0, &v));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Solve(Case *c)
{
  PetscFunctionBegin;
  PetscCall(GramReportClear(&c->report));
  PetscCall(MatDestroy(&c->V));
  PetscCall(GramSolve(c->A, c->A_true, c->Y, NULL, &c->V, &c->report));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* sorts seconds [n] */
static PetscErrorCode Median(PetscInt n, PetscReal seconds[], PetscReal *median)
{
  PetscFunctionBegin;
  PetscCall(PetscSortReal(n, seconds));
  *median = (seconds[(n - 1) / 2] + seconds[n / 2]) / 2;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The first run warms up and is not counted; each begins on all ranks at once and ends with the slowest. */
static PetscErrorCode CaseRun(MPI_Comm comm, const GramPlan *plan, Case *c)
{
  PetscReal   *seconds, *setup, *solve, *device;
  GramMatStats before, after;

  PetscFunctionBegin;
  PetscCall(PetscMalloc4(plan->repeats, &seconds, plan->repeats, &setup, plan->repeats, &solve, plan->repeats,
                         &device));
  if (!plan->solve) PetscCall(GramProgressBegin("bench", 0));
  for (PetscInt run = -1; run < plan->repeats; run++) {
    PetscReal clocks[4];
    char      note[80];

    PetscCall(GramMatGetStats(c->A, &before));
    PetscCallMPI(MPI_Barrier(comm));
    clocks[0] = -MPI_Wtime();
    PetscCall(plan->solve ? Solve(c) : Multiply(c));
    clocks[0] += MPI_Wtime();
    clocks[1] = c->report.setup_seconds;
    clocks[2] = c->report.solve_seconds;
    PetscCall(GramMatGetStats(c->A, &after));
    clocks[3] = after.device_seconds - before.device_seconds;
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, clocks, 4, MPIU_REAL, MPI_MAX, comm));
    if (!plan->solve) {
      PetscCall(PetscSNPrintf(note, sizeof note, "%s, %" PetscInt_FMT " points", c->is.name, c->is.n));
      PetscCall(GramProgressUpdate((PetscReal)(run + 2) / (PetscReal)(plan->repeats + 1), note));
    }
    if (run < 0) continue;
    seconds[run] = clocks[0];
    setup[run]   = clocks[1];
    solve[run]   = clocks[2];
    device[run]  = clocks[3];
  }
  if (!plan->solve) PetscCall(GramProgressEnd());
  PetscCall(Median(plan->repeats, seconds, &c->seconds));
  PetscCall(Median(plan->repeats, setup, &c->report.setup_seconds));
  PetscCall(Median(plan->repeats, solve, &c->report.solve_seconds));
  PetscCall(Median(plan->repeats, device, &c->device_seconds));
  c->seconds_min = seconds[0];
  c->seconds_max = seconds[plan->repeats - 1];
  PetscCall(PetscFree4(seconds, setup, solve, device));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* its line */

/* The work of one product, over all ranks; a diagonal tile of n points counts n^2 / 2 pairs. */
static PetscErrorCode AddWork(MPI_Comm comm, const GramPlan *plan, const Case *c, GramJson *json)
{
  PetscLogDouble work[4], most;
  GramMatStats   stats;

  PetscFunctionBegin;
  PetscCall(GramMatGetStats(c->A, &stats));
  if (!stats.products)
    PetscCall(GramMatGetStats(c->A_true, &stats)); /* factorised, and only residuals since */
  work[0] = most = stats.evaluated / stats.products;
  work[1]        = stats.skipped / stats.products;
  work[2]        = stats.bytes / stats.products;
  PetscCall(GramBackendMeasurePeak(c->backend, work + 3));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, work, 4, MPI_DOUBLE, MPI_SUM, comm));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_DOUBLE, MPI_MAX, comm));
  GramJsonAddNumber(json, "evaluated_pairs", round(work[0]));
  GramJsonAddNumber(json, "evaluated_pairs_max_rank", round(most));
  GramJsonAddNumber(json, "skipped_pairs", round(work[1]));
  GramJsonAddNumber(json, "bytes_communicated", work[2]);
  if (work[3] > 0) { /* of the bound that multiply-adds set; a solve does more than products */
    GramJsonAddNumber(json, "fma_per_second", work[3]);
    if (!plan->solve && !c->is.kernel.gradients) {
      GramJsonAddNumber(json, "fma_fraction",
                        GramBackendFmaPerPair(c->backend, &c->is.kernel, c->is.q, c->is.symmetric) * work[0] /
                            c->seconds / work[3]);
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CasePrint(MPI_Comm comm, const GramPlan *plan, const Case *c)
{
  const PetscLogDouble n         = (PetscLogDouble)c->is.n;
  GramJson             json      = {"", 0};
  char                 grid[128] = "auto";
  const char          *backend, *simd;
  GramPrecision        precision;
  PetscMPIInt          ranks;
  PetscReal            error = 0;
  PetscLogDouble       peak  = 0;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(GramBackendGetInfo(c->backend, &backend, &simd, &precision));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-product_grid", grid, sizeof grid, NULL));
  PetscCall(GramSampleError(c->X, &c->is.kernel, c->V, c->Y, c->report.tail, &error));
  PetscCall(GramMemoryPeak(comm, &peak));
  GramJsonAddText(&json, "kind", plan->solve ? "solve" : "product");
  GramJsonAddText(&json, "kernel", c->is.name);
  GramJsonAddNumber(&json, "size", c->is.n);
  GramJsonAddNumber(&json, "dim", c->is.dim);
  GramJsonAddNumber(&json, "rhs", c->is.q);
  GramJsonAddText(&json, "precision", GramPrecisionName(precision));
  GramJsonAddBool(&json, "symmetric", c->is.symmetric);
  GramJsonAddBool(&json, "gradients", c->is.kernel.gradients);
  GramJsonAddText(&json, "backend", backend);
  GramJsonAddText(&json, "simd", simd);
  GramJsonAddNumber(&json, "ranks", ranks);
  GramJsonAddText(&json, "grid", grid);
  GramJsonAddNumber(&json, "repeats", plan->repeats);
  GramJsonAddNumber(&json, "seconds", c->seconds);
  GramJsonAddNumber(&json, "seconds_min", c->seconds_min);
  GramJsonAddNumber(&json, "seconds_max", c->seconds_max);
  if (c->device_seconds > 0 && !plan->solve) GramJsonAddNumber(&json, "device_seconds", c->device_seconds);
  GramJsonAddNumber(&json, "setup_seconds", plan->solve ? c->report.setup_seconds : c->setup_seconds);
  if (plan->solve) {
    GramJsonAddNumber(&json, "solve_seconds", c->report.solve_seconds);
    GramJsonAddText(&json, "method", c->report.method == GRAM_SOLVE_DIRECT ? "direct" : "iterative");
    GramJsonAddNumber(&json, "iterations", (PetscReal)c->report.iterations);
    if (c->report.pc[0]) {
      GramJsonAddText(&json, "pc", c->report.pc);
      GramJsonAddNumber(&json, "pc_rank", (PetscReal)c->report.pc_rank);
      GramJsonAddNumber(&json, "pc_neighbors", (PetscReal)c->report.pc_neighbors);
    }
    if (!PetscIsNanReal(c->report.eigenvalue_min)) {
      GramJsonAddNumber(&json, "eigenvalue_min", c->report.eigenvalue_min);
      GramJsonAddNumber(&json, "eigenvalue_max", c->report.eigenvalue_max);
    }
    GramJsonAddNumber(&json, "exact_from", (PetscReal)c->report.exact_from);
    GramJsonAddNumber(&json, "relative_residual", c->report.relative_residual);
    GramJsonAddBool(&json, "converged", c->report.converged);
    GramJsonAddText(&json, "reason", c->report.reason);
  }
  GramJsonAddNumber(&json, "pairs_per_second", n * n / c->seconds);
  PetscCall(AddWork(comm, plan, c, &json));
  GramJsonAddNumber(&json, "relative_error", error);
  GramJsonAddNumber(&json, "peak_memory_bytes", peak);
  GramJsonAddNumber(&json, "seed", SEED);
  GramJsonAddText(&json, "version", GRAM_VERSION);
  GramJsonAddText(&json, "git", GRAM_GIT);
  PetscCall(GramJsonPrint(comm, &json));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what the cases have set, to what it was */
static PetscErrorCode OptionRestore(const char *name, const char *before)
{
  PetscFunctionBegin;
  if (before[0]) PetscCall(PetscOptionsSetValue(NULL, name, before));
  else PetscCall(PetscOptionsClearValue(NULL, name));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramVerbBench(MPI_Comm comm, GramOutcome *outcome)
{
  GramPlan  plan; /* the lists: -bench_* */
  Case      c;    /* one combination of them, with -kernel_*, -ridge_*, -backend, -product_* */
  PetscBool more;
  char      symmetric[32] = "", precision[32] = "";

  PetscFunctionBegin;
  PetscCall(GramPlanFromOptions(comm, &plan));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-product_symmetric", symmetric, sizeof symmetric, NULL));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-product_precision", precision, sizeof precision, NULL));
  *outcome = GRAM_DONE;
  for (PetscInt64 i = 0;; i++) {
    PetscCall(PetscMemzero(&c, sizeof c));
    PetscCall(GramPlanGetCase(comm, &plan, i, &c.is, &more));
    if (!more) break;
    PetscCall(CaseSetOptions(&c));
    PetscCall(GramBackendCreateFromOptions(comm, &c.backend));
    PetscCall(CaseCheckMemory(comm, &plan, &c));
    PetscCall(CaseCreate(comm, &plan, &c));
    PetscCall(CaseRun(comm, &plan, &c));
    PetscCall(CasePrint(comm, &plan, &c));
    if (plan.solve && !c.report.converged) *outcome = GRAM_UNCONVERGED;
    PetscCall(CaseDestroy(&c));
  }
  PetscCall(OptionRestore("-product_symmetric", symmetric));
  PetscCall(OptionRestore("-product_precision", precision));
  PetscCall(GramPlanClear(&plan));
  PetscFunctionReturn(PETSC_SUCCESS);
}
