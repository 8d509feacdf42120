/* gramarye bench: products and solves timed over lists of sizes, kernels, ...; one JSON object per line per case. */
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "progress.h"
#include "solve.h"
#include "verbs.h"
#include "version.h"

#define SEED    1
#define LIST    32   /* entries of a list */
#define SAMPLES 64   /* rows compared with the reference, at most */
#define CHUNK   1024 /* columns the reference takes at once: memory stays small at any size */

enum { POINTS, VALUES }; /* streams of random numbers */

/* What is asked for: every combination of the lists is a case. */
typedef struct {
  PetscBool solve; /* bench.kind */
  PetscInt  repeats;
  PetscInt  n_sizes, n_dims, n_rhs, n_kernels, n_precisions, n_symmetric;
  PetscInt  sizes[LIST + 1], dims[LIST + 1], rhs[LIST + 1]; /* one more shows that there are too many */
  char     *kernels[LIST + 1], *precisions[LIST + 1];
  PetscBool symmetric[2];
} Plan;

/* One case: its problem, all points uniform in the unit cube, and what it took. */
typedef struct {
  PetscInt    n, dim, q;
  PetscBool   symmetric;
  const char *precision;
  GramKernel  kernel;
  char        name[32]; /* of the kernel, nu included: matern32 */
  GramPoints  X;
  GramBackend backend, exact; /* as asked for; the same in double, for solves where that is another */
  Mat         A, A_true;
  Mat         V, Y;                              /* n x q: Y = A V, of a solve A V = Y */
  PetscReal   seconds, seconds_min, seconds_max; /* of a run on the slowest rank: median, least, most */
  PetscReal   setup_seconds;                     /* of points and operator on the slowest rank */
  GramReport  report;                            /* of the last solve, its seconds medians */
} Case;

/* Uniform numbers in [0, 1) by counter, so that any rank can make any of them: splitmix64 (Steele et al. 2014). */
static PetscReal Uniform(uint64_t stream, uint64_t i)
{
  uint64_t z = ((SEED + stream) << 40) + (i + 1) * 0x9E3779B97F4A7C15u;

  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (PetscReal)(z >> 11) * 0x1p-53;
}

/* the plan: -bench_* */

static PetscErrorCode NumbersFromOptions(PetscOptionItems *PetscOptionsObject, const char *option,
                                         const char *help, PetscInt fallback, PetscInt list[], PetscInt *n)
{
  PetscBool set;

  PetscFunctionBegin;
  *n      = LIST + 1;
  list[0] = fallback;
  PetscCall(PetscOptionsIntArray(option, help, NULL, list, n, &set));
  if (!set) *n = 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Without the list: the one word of another key, or a fallback. */
static PetscErrorCode WordsFromOptions(PetscOptionItems *PetscOptionsObject, const char *option,
                                       const char *help, const char *other, const char *fallback,
                                       char *list[], PetscInt *n)
{
  char      word[64];
  PetscBool set;

  PetscFunctionBegin;
  *n = LIST + 1;
  PetscCall(PetscOptionsStringArray(option, help, NULL, list, n, &set));
  if (set) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscStrncpy(word, fallback, sizeof word));
  PetscCall(PetscOptionsGetString(NULL, NULL, other, word, sizeof word, NULL));
  PetscCall(PetscStrallocpy(word, list));
  *n = 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckNumbers(MPI_Comm comm, const char *key, const PetscInt list[], PetscInt n,
                                   PetscInt most)
{
  PetscFunctionBegin;
  GramCheckInput(n <= LIST, comm, "bench.%s: more than %d numbers", key, LIST);
  for (PetscInt i = 0; i < n; i++) {
    GramCheckInput(list[i] >= 1 && list[i] <= most, comm,
                   "bench.%s: %" PetscInt_FMT " is not in 1 ... %" PetscInt_FMT, key, list[i], most);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckPrecisions(MPI_Comm comm, const Plan *plan)
{
  PetscFunctionBegin;
  GramCheckInput(plan->n_precisions <= LIST, comm, "bench.precisions: more than %d words", LIST);
  for (PetscInt i = 0; i < plan->n_precisions; i++) {
    int p = 0;

    while (GramPrecisionName(p) && strcmp(plan->precisions[i], GramPrecisionName(p)) != 0) p++;
    GramCheckInput(GramPrecisionName(p), comm, "bench.precisions: '%s' is none of double, mixed, single",
                   plan->precisions[i]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* kernel.*, ridge.* with a profile of the list */
static PetscErrorCode KernelByName(MPI_Comm comm, const char *name, PetscInt dim, Case *c)
{
  PetscReal nu = 1.5;
  PetscBool found;

  PetscFunctionBegin;
  PetscCall(GramKernelSetFromOptions(comm, dim, &c->kernel));
  PetscCall(PetscOptionsGetReal(NULL, NULL, "-kernel_nu", &nu, NULL));
  PetscCall(GramKernelSetType(&c->kernel, name, nu, &found));
  GramCheckInput(found || strcmp(name, "matern") != 0, comm,
                 "kernel.nu: %.6g is none of 0.5, 1.5, 2.5, 3.5, 4.5", (double)nu);
  GramCheckInput(found, comm,
                 "bench.kernels: '%s' is none of gaussian, exponential, matern, matern12 ... matern92", name);
  PetscCall(PetscStrncpy(c->name, name, sizeof c->name));
  if (!strcmp(name, "matern")) PetscCall(PetscSNPrintf(c->name, sizeof c->name, "matern%d2", (int)(2 * nu)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SymmetricFromWord(MPI_Comm comm, const char *word, Plan *plan)
{
  PetscFunctionBegin;
  plan->n_symmetric = 0;
  if (strcmp(word, "false") != 0) plan->symmetric[plan->n_symmetric++] = PETSC_TRUE;
  if (strcmp(word, "true") != 0) plan->symmetric[plan->n_symmetric++] = PETSC_FALSE;
  GramCheckInput(plan->n_symmetric == 1 || !strcmp(word, "both"), comm,
                 "bench.symmetric: '%s' is none of true, false, both", word);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PlanCheck(MPI_Comm comm, const Plan *plan)
{
  GramBackend backend;
  Case        c;

  PetscFunctionBegin;
  PetscCall(CheckNumbers(comm, "sizes", plan->sizes, plan->n_sizes, PETSC_MAX_INT));
  PetscCall(CheckNumbers(comm, "dims", plan->dims, plan->n_dims, GRAM_MAX_DIM));
  PetscCall(CheckNumbers(comm, "rhs", plan->rhs, plan->n_rhs, PETSC_MAX_INT));
  PetscCall(CheckNumbers(comm, "repeats", &plan->repeats, 1, 1000000));
  for (PetscInt i = 0; i < plan->n_sizes; i++) {
    for (PetscInt j = 0; j < plan->n_rhs; j++)
      GramCheckInput(plan->rhs[j] <= PETSC_MAX_INT / plan->sizes[i], comm,
                     "bench.rhs: %" PetscInt_FMT " columns of bench.sizes %" PetscInt_FMT
                     " are more than %" PetscInt_FMT " numbers",
                     plan->rhs[j], plan->sizes[i], PETSC_MAX_INT);
  }
  PetscCall(GramBackendCreateFromOptions(comm, &backend)); /* is it there? */
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(CheckPrecisions(comm, plan));
  GramCheckInput(plan->n_kernels <= LIST, comm, "bench.kernels: more than %d words", LIST);
  for (PetscInt i = 0; i < plan->n_kernels; i++) {
    for (PetscInt j = 0; j < plan->n_dims; j++)
      PetscCall(KernelByName(comm, plan->kernels[i], plan->dims[j], &c));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PlanFromOptions(MPI_Comm comm, Plan *plan)
{
  char kind[16] = "product", symmetric[16] = "both";

  PetscFunctionBegin;
  PetscCall(PetscMemzero(plan, sizeof *plan));
  plan->repeats = 5;
  PetscOptionsBegin(comm, "bench_", "Benchmarks: every combination of the lists is a case", NULL);
  PetscCall(PetscOptionsString("-kind", "product, solve", NULL, kind, kind, sizeof kind, NULL));
  PetscCall(NumbersFromOptions(PetscOptionsObject, "-sizes", "Points", 20000, plan->sizes, &plan->n_sizes));
  PetscCall(
      NumbersFromOptions(PetscOptionsObject, "-dims", "Coordinates per point", 3, plan->dims, &plan->n_dims));
  PetscCall(NumbersFromOptions(PetscOptionsObject, "-rhs", "Columns", 1, plan->rhs, &plan->n_rhs));
  PetscCall(WordsFromOptions(PetscOptionsObject, "-kernels", "As kernel_type", "-kernel_type", "gaussian",
                             plan->kernels, &plan->n_kernels));
  PetscCall(WordsFromOptions(PetscOptionsObject, "-precisions", "As product_precision", "-product_precision",
                             "double", plan->precisions, &plan->n_precisions));
  PetscCall(PetscOptionsString("-symmetric", "Each pair evaluated once, used twice: true, false, both", NULL,
                               symmetric, symmetric, sizeof symmetric, NULL));
  PetscCall(PetscOptionsInt("-repeats", "Timed runs, after one that is not", NULL, plan->repeats,
                            &plan->repeats, NULL));
  PetscOptionsEnd();
  plan->solve = (PetscBool)!strcmp(kind, "solve");
  GramCheckInput(plan->solve || !strcmp(kind, "product"), comm, "bench.kind: '%s' is none of product, solve",
                 kind);
  PetscCall(SymmetricFromWord(comm, symmetric, plan));
  PetscCall(PlanCheck(comm, plan));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PlanClear(Plan *plan)
{
  PetscFunctionBegin;
  for (PetscInt i = 0; i < plan->n_kernels; i++) PetscCall(PetscFree(plan->kernels[i]));
  for (PetscInt i = 0; i < plan->n_precisions; i++) PetscCall(PetscFree(plan->precisions[i]));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The i-th combination, the last list running fastest; found PETSC_FALSE after the last. */
static PetscErrorCode PlanGetCase(MPI_Comm comm, const Plan *plan, PetscInt64 i, Case *c, PetscBool *found)
{
  const PetscInt counts[] = {plan->n_symmetric, plan->n_rhs,  plan->n_precisions,
                             plan->n_sizes,     plan->n_dims, plan->n_kernels};
  PetscInt       at[PETSC_STATIC_ARRAY_LENGTH(counts)];

  PetscFunctionBegin;
  for (size_t list = 0; list < PETSC_STATIC_ARRAY_LENGTH(counts); i /= counts[list], list++)
    at[list] = (PetscInt)(i % counts[list]);
  *found = (PetscBool)(i == 0);
  if (!*found) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMemzero(c, sizeof *c));
  c->symmetric = plan->symmetric[at[0]];
  c->q         = plan->rhs[at[1]];
  c->precision = plan->precisions[at[2]];
  c->n         = plan->sizes[at[3]];
  c->dim       = plan->dims[at[4]];
  PetscCall(KernelByName(comm, plan->kernels[at[5]], c->dim, c));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the problem of a case */

/* Refused before it is made: points gathered and transposed and two panels on every rank; spread, the sort, panels and
   their copies. */
static PetscErrorCode CaseCheckMemory(MPI_Comm comm, const Plan *plan, const Case *c)
{
  PetscMPIInt ranks;
  char        line[256];

  PetscFunctionBegin;
  if (plan->solve) PetscCall(GramSolveEstimate(comm, c->n, 0, c->dim, c->q, line, sizeof line));
  else {
    PetscCallMPI(MPI_Comm_size(comm, &ranks));
    PetscCall(GramMemoryCheck(comm, c->n,
                              8.0 * (PetscLogDouble)c->n *
                                  ((2.0 * c->dim + 3.0 * c->q) + (4.0 * c->dim + 3.0 * c->q + 8.0) / ranks),
                              "bench.kind product", NULL, 0));
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
  PetscCall(PetscLayoutCreateFromSizes(comm, PETSC_DECIDE, c->n, 1, &rows));
  PetscCall(PetscLayoutGetRange(rows, &first, &end));
  PetscCall(PetscLayoutDestroy(&rows));
  PetscCall(PetscMalloc1(GramAt(end - first, c->dim, 0), &x));
  for (PetscInt i = first; i < end; i++) {
    for (PetscInt k = 0; k < c->dim; k++)
      x[GramAt(i - first, c->dim, k)] = Uniform(POINTS, GramAt(i, c->dim, k));
  }
  PetscCallMPI(MPI_Barrier(comm));
  c->setup_seconds = -MPI_Wtime();
  PetscCall(GramPointsCreate(comm, c->dim, end - first, x, c->kernel.length_scale, schedule.block, &c->X));
  c->setup_seconds += MPI_Wtime();
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Uniform in [-1/2, 1/2), or for solves a smooth function and a twentieth of that as noise. */
static PetscErrorCode PanelCreate(MPI_Comm comm, const Case *c, PetscBool smooth, Mat *panel)
{
  PetscInt         start, n, lda;
  const PetscReal *x;
  PetscReal       *a;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(c->X, NULL, NULL, NULL, &n, &start));
  PetscCall(GramPointsGetArrayRead(c->X, &x));
  PetscCall(MatCreateDense(comm, n, PETSC_DECIDE, PETSC_DETERMINE, c->q, NULL, panel));
  PetscCall(MatDenseGetLDA(*panel, &lda));
  PetscCall(MatDenseGetArrayWrite(*panel, &a));
  for (PetscInt r = 0; r < c->q; r++) {
    for (PetscInt i = 0; i < n; i++) {
      PetscReal sum = 0, value = Uniform(VALUES, GramAt(r, c->n, start + i)) - 0.5;

      for (PetscInt k = 0; k < c->dim; k++) sum += x[GramAt(i, c->dim, k)];
      if (smooth) value = PetscSinReal(5 * sum / PetscSqrtReal(c->dim) + r) + value / 20;
      a[GramAt(r, lda, i)] = value;
    }
  }
  PetscCall(MatDenseRestoreArrayWrite(*panel, &a));
  PetscCall(MatAssemblyBegin(*panel, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(*panel, MAT_FINAL_ASSEMBLY));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CaseCreate(MPI_Comm comm, const Plan *plan, Case *c)
{
  const char   *name;
  GramPrecision precision;

  PetscFunctionBegin;
  GramMemoryPeakReset();
  PetscCall(PetscOptionsSetValue(NULL, "-product_symmetric", c->symmetric ? "true" : "false"));
  PetscCall(PetscOptionsSetValue(NULL, "-product_precision", c->precision));
  PetscCall(GramBackendCreateFromOptions(comm, &c->backend));
  PetscCall(GramBackendGetInfo(c->backend, &name, NULL, &precision));
  PetscCall(PointsCreate(comm, c));
  PetscCallMPI(MPI_Barrier(comm));
  c->setup_seconds -= MPI_Wtime();
  PetscCall(GramMatCreate(c->X, &c->kernel, c->backend, &c->A));
  c->setup_seconds += MPI_Wtime();
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &c->setup_seconds, 1, MPIU_REAL, MPI_MAX, comm));
  if (!plan->solve) PetscCall(PanelCreate(comm, c, PETSC_FALSE, &c->V));
  else {
    PetscCall(PanelCreate(comm, c, PETSC_TRUE, &c->Y));
    if (precision == GRAM_DOUBLE) PetscCall(PetscObjectReference((PetscObject)(c->A_true = c->A)));
    else {
      PetscCall(GramBackendCreate(comm, name, GRAM_DOUBLE, &c->exact));
      PetscCall(GramMatCreate(c->X, &c->kernel, c->exact, &c->A_true));
    }
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
  if (c->q > 1) {
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
  PetscCall(GramSolve(c->A, c->A_true, c->Y, &c->V, &c->report));
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
static PetscErrorCode CaseRun(MPI_Comm comm, const Plan *plan, Case *c)
{
  PetscReal *seconds, *setup, *solve;

  PetscFunctionBegin;
  PetscCall(PetscMalloc3(plan->repeats, &seconds, plan->repeats, &setup, plan->repeats, &solve));
  if (!plan->solve) PetscCall(GramProgressBegin("bench", 0));
  for (PetscInt run = -1; run < plan->repeats; run++) {
    PetscReal clocks[3];
    char      note[80];

    PetscCallMPI(MPI_Barrier(comm));
    clocks[0] = -MPI_Wtime();
    PetscCall(plan->solve ? Solve(c) : Multiply(c));
    clocks[0] += MPI_Wtime();
    clocks[1] = c->report.setup_seconds;
    clocks[2] = c->report.solve_seconds;
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, clocks, 3, MPIU_REAL, MPI_MAX, comm));
    if (!plan->solve) {
      PetscCall(PetscSNPrintf(note, sizeof note, "%s, %" PetscInt_FMT " points", c->name, c->n));
      PetscCall(GramProgressUpdate((PetscReal)(run + 2) / (PetscReal)(plan->repeats + 1), note));
    }
    if (run < 0) continue;
    seconds[run] = clocks[0];
    setup[run]   = clocks[1];
    solve[run]   = clocks[2];
  }
  if (!plan->solve) PetscCall(GramProgressEnd());
  PetscCall(Median(plan->repeats, seconds, &c->seconds));
  PetscCall(Median(plan->repeats, setup, &c->report.setup_seconds));
  PetscCall(Median(plan->repeats, solve, &c->report.solve_seconds));
  c->seconds_min = seconds[0];
  c->seconds_max = seconds[plan->repeats - 1];
  PetscCall(PetscFree3(seconds, setup, solve));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* its error */

/* [SAMPLES] rows spread over the whole curve, the first and the last included */
static PetscInt SampleRows(const Case *c, PetscInt rows[])
{
  const PetscInt count = PetscMin(SAMPLES, c->n);

  for (PetscInt k = 0; k < count; k++)
    rows[k] = count > 1 ? (PetscInt)((PetscInt64)k * (c->n - 1) / (count - 1)) : 0;
  return count;
}

/* n points in units of the length scale */
static void Scale(const Case *c, PetscInt n, const PetscReal *x, PetscReal *scaled)
{
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt k = 0; k < c->dim; k++)
      scaled[GramAt(i, c->dim, k)] = x[GramAt(i, c->dim, k)] / c->kernel.length_scale[k];
  }
}

/* sum[k][r] = sum_j phi(x_k, x_j) v[j][r] over the columns of this rank, by the plain loops of ref. A sum of n terms
   is itself wrong by eps sqrt(n) or so: this one has more digits than what it is compared with. */
static PetscErrorCode ReferenceSums(const Case *c, PetscInt count, const PetscReal *samples, long double *sum)
{
  PetscInt         n, lda, index[CHUNK];
  GramBackend      ref;
  const PetscReal *x, *v;
  PetscReal       *z, *entries;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(c->X, NULL, NULL, NULL, &n, NULL));
  PetscCall(GramPointsGetArrayRead(c->X, &x));
  PetscCall(GramBackendCreate(PETSC_COMM_SELF, "ref", GRAM_DOUBLE, &ref));
  PetscCall(PetscMalloc2(GramAt(CHUNK, c->dim, 0), &z, GramAt(CHUNK, count, 0), &entries));
  for (PetscInt j = 0; j < CHUNK; j++) index[j] = j;
  PetscCall(MatDenseGetLDA(c->V, &lda));
  PetscCall(MatDenseGetArrayRead(c->V, &v));
  for (PetscInt first = 0; first < n; first += CHUNK) {
    const PetscInt width = PetscMin(CHUNK, n - first);
    GramTiles      tiles;

    Scale(c, width, x + GramAt(first, c->dim, 0), z);
    PetscCall(GramTilesCreate(ref, &c->kernel, GRAM_VALUE, count, samples, GRAM_VALUE, width, z, &tiles));
    PetscCall(GramTilesEntries(tiles, count, index, width, index, entries, count));
    PetscCall(GramTilesDestroy(&tiles));
    for (PetscInt r = 0; r < c->q; r++) {
      for (PetscInt j = 0; j < width; j++) {
        for (PetscInt k = 0; k < count; k++)
          sum[GramAt(k, c->q, r)] += (long double)entries[GramAt(j, count, k)] * v[GramAt(r, lda, first + j)];
      }
    }
  }
  PetscCall(MatDenseRestoreArrayRead(c->V, &v));
  PetscCall(PetscFree2(z, entries));
  PetscCall(GramBackendDestroy(&ref));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* max |y - y_ref| / max |y_ref| over the sampled rows, y_ref = A V by ref: of a product its error, of a solve the
   residual that ref sees. */
static PetscErrorCode CaseError(MPI_Comm comm, const Case *c, PetscReal *relative)
{
  PetscInt         rows[SAMPLES], n, start, lda, count = SampleRows(c, rows);
  PetscReal       *samples, largest[2] = {0, 0}; /* error, value */
  const PetscReal *x, *v, *y;
  long double     *sum;
  const PetscReal  s2 = c->kernel.amplitude * c->kernel.amplitude;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(c->X, NULL, NULL, NULL, &n, &start));
  PetscCall(GramPointsGetArrayRead(c->X, &x));
  PetscCall(PetscCalloc2(GramAt(count, c->dim, 0), &samples, GramAt(count, c->q, 0), &sum));
  for (PetscInt k = 0; k < count; k++) {
    if (rows[k] < start || rows[k] >= start + n) continue;
    Scale(c, 1, x + GramAt(rows[k] - start, c->dim, 0), samples + GramAt(k, c->dim, 0));
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, samples, (PetscMPIInt)(count * c->dim), MPIU_REAL, MPI_SUM, comm));
  PetscCall(ReferenceSums(c, count, samples, sum));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sum, (PetscMPIInt)(count * c->q), MPI_LONG_DOUBLE, MPI_SUM, comm));
  PetscCall(MatDenseGetLDA(c->V, &lda)); /* that of Y too: both have n rows here */
  PetscCall(MatDenseGetArrayRead(c->V, &v));
  PetscCall(MatDenseGetArrayRead(c->Y, &y));
  for (PetscInt k = 0; k < count; k++) {
    if (rows[k] < start || rows[k] >= start + n) continue;
    for (PetscInt r = 0; r < c->q; r++) {
      const size_t      at    = GramAt(r, lda, rows[k] - start);
      const long double exact = s2 * sum[GramAt(k, c->q, r)] + (long double)c->kernel.alpha * v[at];
      const PetscReal   error = (PetscReal)fabsl(y[at] - exact);

      if (!(error <= largest[0])) largest[0] = error; /* NaN included */
      largest[1] = PetscMax(largest[1], (PetscReal)fabsl(exact));
    }
  }
  PetscCall(MatDenseRestoreArrayRead(c->Y, &y));
  PetscCall(MatDenseRestoreArrayRead(c->V, &v));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, largest, 2, MPIU_REAL, MPI_MAX, comm));
  *relative = largest[0] / largest[1];
  PetscCall(PetscFree2(samples, sum));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* its line */

typedef struct {
  char   text[4096];
  size_t length;
} Line;

static void Add(Line *line, const char *name, const char *value, PetscBool quoted)
{
  const char *quote = quoted ? "\"" : "";
  char       *at    = line->text + line->length;
  size_t      left  = sizeof line->text - line->length;
  char        plain[256];
  size_t      n = 0;

  for (const char *v = value; *v && n + 3 < sizeof plain; v++) {
    if (quoted && (*v == '"' || *v == '\\')) plain[n++] = '\\';
    plain[n++] = (unsigned char)*v < ' ' ? ' ' : *v;
  }
  plain[n] = '\0';
  line->length +=
      (size_t)snprintf(at, left, "%s\"%s\": %s%s%s", line->length ? ", " : "", name, quote, plain, quote);
}

static void AddText(Line *line, const char *name, const char *value) { Add(line, name, value, PETSC_TRUE); }

static void AddBool(Line *line, const char *name, PetscBool value)
{
  Add(line, name, value ? "true" : "false", PETSC_FALSE);
}

/* whole numbers with all their digits; JSON knows neither NaN nor infinity */
static void AddNumber(Line *line, const char *name, double value)
{
  char text[64];

  (void)snprintf(text, sizeof text, value == floor(value) && fabs(value) < 1e15 ? "%.0f" : "%.9g", value);
  Add(line, name, PetscIsInfOrNanReal(value) ? "null" : text, PETSC_FALSE);
}

/* The work of one product, over all ranks. */
static PetscErrorCode AddWork(MPI_Comm comm, const Plan *plan, const Case *c, Line *line)
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
  AddNumber(line, "evaluated_pairs", work[0]);
  AddNumber(line, "evaluated_pairs_max_rank", most);
  AddNumber(line, "skipped_pairs", work[1]);
  AddNumber(line, "bytes_communicated", work[2]);
  if (work[3] > 0 &&
      stats.products) { /* of the bound that multiply-adds set; a solve does more than products */
    AddNumber(line, "fma_per_second", work[3]);
    if (!plan->solve) {
      AddNumber(line, "fma_fraction",
                GramBackendFmaPerPair(c->backend, &c->kernel, c->q, c->symmetric) * work[0] / c->seconds /
                    work[3]);
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CasePrint(MPI_Comm comm, const Plan *plan, const Case *c)
{
  const PetscLogDouble n         = (PetscLogDouble)c->n;
  Line                 line      = {"", 0};
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
  PetscCall(CaseError(comm, c, &error));
  PetscCall(GramMemoryPeak(comm, &peak));
  AddText(&line, "kind", plan->solve ? "solve" : "product");
  AddText(&line, "kernel", c->name);
  AddNumber(&line, "size", c->n);
  AddNumber(&line, "dim", c->dim);
  AddNumber(&line, "rhs", c->q);
  AddText(&line, "precision", GramPrecisionName(precision));
  AddBool(&line, "symmetric", c->symmetric);
  AddText(&line, "backend", backend);
  AddText(&line, "simd", simd);
  AddNumber(&line, "ranks", ranks);
  AddText(&line, "grid", grid);
  AddNumber(&line, "repeats", plan->repeats);
  AddNumber(&line, "seconds", c->seconds);
  AddNumber(&line, "seconds_min", c->seconds_min);
  AddNumber(&line, "seconds_max", c->seconds_max);
  AddNumber(&line, "setup_seconds", plan->solve ? c->report.setup_seconds : c->setup_seconds);
  if (plan->solve) {
    AddNumber(&line, "solve_seconds", c->report.solve_seconds);
    AddText(&line, "method", c->report.method == GRAM_SOLVE_DIRECT ? "direct" : "iterative");
    AddNumber(&line, "iterations", c->report.iterations);
    AddNumber(&line, "relative_residual", c->report.relative_residual);
    AddBool(&line, "converged", c->report.converged);
    AddText(&line, "reason", c->report.reason);
  }
  AddNumber(&line, "pairs_per_second", n * n / c->seconds);
  PetscCall(AddWork(comm, plan, c, &line));
  AddNumber(&line, "relative_error", error);
  AddNumber(&line, "peak_memory_bytes", peak);
  AddNumber(&line, "seed", SEED);
  AddText(&line, "version", GRAM_VERSION);
  AddText(&line, "git", GRAM_GIT);
  PetscCall(PetscPrintf(comm, "{%s}\n", line.text));
  (void)fflush(stdout);
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

PetscErrorCode GramVerbBench(MPI_Comm comm, PetscBool *converged)
{
  Plan      plan; /* the lists: -bench_* */
  Case      c;    /* one combination of them, with -kernel_*, -ridge_*, -backend, -product_* */
  PetscBool more;
  char      symmetric[32] = "", precision[32] = "";

  PetscFunctionBegin;
  PetscCall(PlanFromOptions(comm, &plan));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-product_symmetric", symmetric, sizeof symmetric, NULL));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-product_precision", precision, sizeof precision, NULL));
  *converged = PETSC_TRUE;
  for (PetscInt64 i = 0;; i++) {
    PetscCall(PlanGetCase(comm, &plan, i, &c, &more));
    if (!more) break;
    PetscCall(CaseCheckMemory(comm, &plan, &c));
    PetscCall(CaseCreate(comm, &plan, &c));
    PetscCall(CaseRun(comm, &plan, &c));
    PetscCall(CasePrint(comm, &plan, &c));
    if (plan.solve && !c.report.converged) *converged = PETSC_FALSE;
    PetscCall(CaseDestroy(&c));
  }
  PetscCall(OptionRestore("-product_symmetric", symmetric));
  PetscCall(OptionRestore("-product_precision", precision));
  PetscCall(PlanClear(&plan));
  PetscFunctionReturn(PETSC_SUCCESS);
}
