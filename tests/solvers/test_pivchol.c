static const char help[] =
    "A partial Cholesky leaves a positive semidefinite residual with the diagonal it says, near the best of "
    "its rank,\n"
    "the same on any number of ranks and in any number of steps, and ends where the matrix does. Greedy "
    "pivots\n"
    "are those of exact arithmetic and of a plain loop, ties go by label.\n";

#include "../check.h"
#include "../data/sbq.h"
#include "design.h"
#include "gram_mat.h"
#include "pivchol.h"

#include <petscblaslapack.h>

typedef struct {
  const char *name;
  PetscInt    n, dim, copies; /* every point that many times */
  const char *type;
  PetscReal   nu, length, amplitude, alpha;
  PetscInt    rank;
  PetscInt    most; /* rank that is there to find, 0: all that is asked for */
} Case;

static const Case cases[] = {
    {"exponential, line", 400, 1, 1, "exponential", 0, 0.3, 1, 1e-3, 150, 0},
    {"exponential, plane", 401, 2, 1, "exponential", 0, 0.1, 3, 1e4, 200, 0},
    {"matern, cube", 390, 3, 1, "matern", 1.5, 0.5, 0.1, 0, 130, 0},
    {"matern 7/2, line", 400, 1, 1, "matern", 3.5, 0.2, 1, 1e-6, 60, 0},
    {"gaussian, plane", 400, 2, 1, "gaussian", 0, 0.1, 1, 1e-6, 100, 0},
    {"gaussian, wide", 400, 2, 1, "gaussian", 0, 0.3, 2, 1e-6, 400, 200},
    {"gaussian, wide line", 400, 1, 1, "gaussian", 0, 0.3, 1, 0, 400, 40},
    {"four of each", 400, 2, 4, "exponential", 0, 0.5, 1, 0.1, 400, 100},
    {"all of it", 300, 2, 1, "exponential", 0, 0.5, 1, 0.1, 300, 0},
    {"one point", 70, 2, 70, "exponential", 0, 0.5, 1, 0.1, 70, 1},
    {"three points", 3, 2, 1, "matern", 2.5, 0.5, 1, 0.1, 3, 0},
};

static PetscErrorCode Problem(MPI_Comm comm, const Case *c, GramBackend *backend, GramPoints *X, Mat *A)
{
  GramKernel  kernel;
  PetscMPIInt rank;
  PetscReal  *x;
  PetscBool   found;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(PetscMalloc1(c->n * c->dim, &x));
  for (PetscInt i = 0; i < c->n * c->dim; i++)
    x[i] = CheckUniform(1, (uint64_t)(i / c->dim % (c->n / c->copies) * c->dim + i % c->dim));
  PetscCall(GramKernelSetFromOptions(comm, c->dim, &kernel));
  PetscCall(GramKernelSetType(&kernel, c->type, c->nu, &found));
  for (PetscInt k = 0; k < c->dim; k++) kernel.length_scale[k] = c->length;
  kernel.amplitude = c->amplitude;
  kernel.alpha     = c->alpha;
  PetscCall(GramBackendCreate(comm, "cpu", GRAM_DOUBLE, backend));
  PetscCall(GramPointsCreate(comm, c->dim, rank ? 0 : c->n, x, kernel.length_scale, 1, X));
  PetscCall(GramMatCreate(*X, &kernel, *backend, A));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* r [n][n] = K - F_r F_r' on one rank; F [n][r] */
static PetscErrorCode Residual(Mat A, PetscReal k0, PetscInt n, PetscInt r, const PetscReal *F, PetscInt ldf,
                               PetscReal *R)
{
  const PetscReal one = 1, minus = -1;
  PetscBLASInt    m = (PetscBLASInt)n, l = (PetscBLASInt)r, ld = (PetscBLASInt)ldf;
  PetscInt       *index;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(n, &index));
  for (PetscInt i = 0; i < n; i++) index[i] = i;
  PetscCall(GramMatGetEntries(A, n, index, n, index, R, n));
  for (PetscInt i = 0; i < n; i++) R[GramAt(i, n, i)] = k0;
  if (r) PetscCallBLAS("BLASgemm", BLASgemm_("N", "T", &m, &m, &l, &minus, F, &ld, F, &ld, &one, R, &m));
  PetscCall(PetscFree(index));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ascending; R is overwritten */
static PetscErrorCode Eigenvalues(PetscInt n, PetscReal *R, PetscReal *values)
{
  PetscBLASInt m = (PetscBLASInt)n, lwork = 64 * m + 64, info;
  PetscReal   *work;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(lwork, &work));
  PetscCallBLAS("LAPACKsyev", LAPACKsyev_("N", "L", &m, R, &m, values, work, &lwork, &info));
  CHECK(!info, "LAPACK syev: %d", (int)info);
  PetscCall(PetscFree(work));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What one rank holds against the dense matrix */
static PetscErrorCode Dense(const Case *c, Mat A, GramPivChol p)
{
  const PetscReal  k0 = c->amplitude * c->amplitude, noise = (PetscReal)c->n * PETSC_MACHINE_EPSILON * k0;
  const PetscReal *F, *d;
  const PetscInt  *pivots;
  PetscInt         r, ldf;
  PetscReal       *R, *exact, *values, least, smallest = PETSC_MAX_REAL, trace = 0, best = 0, lambda;

  PetscFunctionBegin;
  PetscCall(GramPivCholGetFactor(p, &r, &F, &ldf));
  PetscCall(GramPivCholGetPivots(p, &pivots, &least));
  PetscCall(GramPivCholGetResidual(p, &d));
  PetscCall(PetscMalloc3(GramAt(c->n, c->n, 0), &R, c->n, &exact, c->n, &values));
  PetscCall(Residual(A, k0, c->n, 0, NULL, 1, R));
  PetscCall(Eigenvalues(c->n, R, exact));
  PetscCall(Residual(A, k0, c->n, r, F, ldf, R));
  for (PetscInt i = 0; i < c->n; i++) {
    trace += d[i];
    CHECK(d[i] >= 0, "%s: d[%d] = %g", c->name, (int)i, d[i]);
    /* r squares that add up to k0 */
    CHECK(PetscAbsReal(R[GramAt(i, c->n, i)] - d[i]) <= noise, "%s: residual %g, d[%d] = %g", c->name,
          R[GramAt(i, c->n, i)], (int)i, d[i]);
  }
  for (PetscInt j = 0; j < r; j++) {
    const PetscReal pivot = F[GramAt(j, ldf, pivots[j])];

    CHECK(d[pivots[j]] == 0, "%s: %g at a pivot", c->name, d[pivots[j]]);
    for (PetscInt k = 0; k < j; k++)
      CHECK(pivots[j] != pivots[k], "%s: pivot %d twice", c->name, (int)pivots[j]);
    smallest = PetscMin(smallest, pivot * pivot);
  }
  /* near the end values are rounding of k0 that the two forms do not share */
  CHECK(PetscAbsReal(least - smallest) <= 1e-12 * least + noise, "%s: smallest pivot %g, not %g", c->name,
        least, smallest);
  CHECK(least > 1e-14 * k0, "%s: smallest pivot %g", c->name, least);
  PetscCall(Eigenvalues(c->n, R, values));
  /* eigenvalues of K reach n k0 and LAPACK's are good to eps of that; an exhausted residual is rounding below the
     pivots, up to 1e-14 k0 an entry */
  CHECK(values[0] >= -(r < c->rank ? (PetscReal)c->n * 1e-14 * k0 : noise),
        "%s: eigenvalue %g of the residual", c->name, values[0]);
  for (PetscInt i = 0; i < c->n - r / 2; i++) best += PetscMax(exact[i], 0);
  /* half the rank at three times the error is less than what theory has in the mean; deterministic here */
  CHECK(trace <= 3 * best + noise, "%s: trace %g of the residual, best of rank %d %g", c->name, trace,
        (int)(r / 2), best);

  for (PetscInt k = 0; k <= r; k += PetscMax(1, r / 3)) {
    PetscCall(GramPivCholEstimate(p, k, &lambda));
    PetscCall(Residual(A, k0, c->n, k, F, ldf, R));
    PetscCall(Eigenvalues(c->n, R, values));
    if (values[c->n - 1] <= 100 * noise) continue;
    CHECK(lambda >= values[c->n - 1] / 2 && lambda <= 4 * values[c->n - 1], "%s, rank %d: lambda %g, not %g",
          c->name, (int)k, lambda, values[c->n - 1]);
  }
  PetscCall(PetscFree3(R, exact, values));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* rows of q that begin at row start of p, bit by bit */
static PetscErrorCode Same(const Case *c, const char *what, GramPivChol p, GramPivChol q, PetscInt start,
                           PetscInt n)
{
  const PetscReal *F, *G, *d, *e;
  const PetscInt  *s, *t;
  PetscInt         r, u, ldf, ldg, same = 0;

  PetscFunctionBegin;
  PetscCall(GramPivCholGetFactor(p, &r, &F, &ldf));
  PetscCall(GramPivCholGetFactor(q, &u, &G, &ldg));
  PetscCall(GramPivCholGetPivots(p, &s, NULL));
  PetscCall(GramPivCholGetPivots(q, &t, NULL));
  PetscCall(GramPivCholGetResidual(p, &d));
  PetscCall(GramPivCholGetResidual(q, &e));
  CHECK(r == u, "%s, %s: rank %d, not %d", c->name, what, (int)u, (int)r);
  if (r != u) PetscFunctionReturn(PETSC_SUCCESS);
  while (same < r && s[same] == t[same]) same++;
  CHECK(same == r, "%s, %s: pivots differ from %d on, of %d", c->name, what, (int)same, (int)r);
  for (PetscInt j = 0; j <= r && n; j++) {
    const PetscReal *f = j < r ? F + GramAt(j, ldf, start) : d + start,
                    *g = j < r ? G + GramAt(j, ldg, 0) : e;

    if (memcmp(f, g, (size_t)n * sizeof *f)) {
      CHECK(0, "%s, %s: bits differ from column %d on, of %d", c->name, what, (int)j, (int)r);
      break;
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Ends by the trace, and asking again changes nothing */
static PetscErrorCode Tolerance(const Case *c, Mat A)
{
  const PetscReal  tolerance = 0.05 * (PetscReal)c->n * c->amplitude * c->amplitude;
  const PetscReal *d;
  PetscReal        trace = 0;
  PetscInt         r, again, n;
  GramPivChol      p;

  PetscFunctionBegin;
  PetscCall(MatGetLocalSize(A, &n, NULL));
  PetscCall(GramPivCholCreate(A, &p));
  PetscCall(GramPivCholGrow(p, c->n, tolerance));
  PetscCall(GramPivCholGetFactor(p, &r, NULL, NULL));
  PetscCall(GramPivCholGetResidual(p, &d));
  for (PetscInt i = 0; i < n; i++) trace += d[i];
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &trace, 1, MPIU_REAL, MPI_SUM, PETSC_COMM_WORLD));
  CHECK(r > 0 && trace <= tolerance, "%s: trace %g after %d columns, not %g", c->name, trace, (int)r,
        tolerance);
  PetscCall(GramPivCholGrow(p, r / 2, 0));
  PetscCall(GramPivCholGrow(p, c->n, tolerance));
  PetscCall(GramPivCholGetFactor(p, &again, NULL, NULL));
  CHECK(again == r, "%s: rank %d, then %d", c->name, (int)r, (int)again);
  PetscCall(GramPivCholDestroy(&p));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Try(const Case *c)
{
  GramBackend one, all;
  GramPoints  X_one, X_all;
  GramPivChol p, steps, q;
  Mat         A_one, A_all;
  PetscMPIInt rank;
  PetscInt    r, start, end;
  PetscReal   here, there;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(Problem(PETSC_COMM_SELF, c, &one, &X_one, &A_one));
  PetscCall(Problem(PETSC_COMM_WORLD, c, &all, &X_all, &A_all));
  PetscCall(GramPivCholCreate(A_one, &p));
  PetscCall(GramPivCholCreate(A_one, &steps));
  PetscCall(GramPivCholCreate(A_all, &q));

  PetscCall(GramPivCholGrow(p, c->rank, 0));
  PetscCall(GramPivCholGetFactor(p, &r, NULL, NULL));
  CHECK(c->most ? r <= c->most : r == c->rank, "%s: rank %d", c->name, (int)r);
  if (!rank) PetscCall(Dense(c, A_one, p));

  for (PetscInt k = 0; k <= c->rank; k += PetscMax(1, c->rank / 7)) {
    PetscCall(GramPivCholGrow(steps, k, 0));
    PetscCall(GramPivCholGetFactor(steps, &r, NULL, NULL));
    CHECK(c->most ? r <= k : r == k, "%s: rank %d of %d", c->name, (int)r, (int)k);
  }
  PetscCall(GramPivCholGrow(steps, c->rank, 0));
  PetscCall(Same(c, "in steps", p, steps, 0, c->n));

  PetscCall(GramPivCholGrow(q, c->rank, 0));
  PetscCall(MatGetOwnershipRange(A_all, &start, &end));
  PetscCall(Same(c, "on all ranks", p, q, start, end - start));
  PetscCall(GramPivCholGetFactor(p, &r, NULL, NULL));
  PetscCall(GramPivCholEstimate(p, r / 2, &here));
  PetscCall(GramPivCholEstimate(q, r / 2, &there));
  CHECK(PetscAbsReal(here - there) <= 1e-12 * here + 1e-14 * c->amplitude * c->amplitude,
        "%s: lambda %g on one rank, %g on all", c->name, here, there);

  PetscCall(Tolerance(c, A_all));

  PetscCall(GramPivCholDestroy(&p));
  PetscCall(GramPivCholDestroy(&steps));
  PetscCall(GramPivCholDestroy(&q));
  PetscCall(MatDestroy(&A_one));
  PetscCall(MatDestroy(&A_all));
  PetscCall(GramPointsDestroy(&X_one));
  PetscCall(GramPointsDestroy(&X_all));
  PetscCall(GramBackendDestroy(&one));
  PetscCall(GramBackendDestroy(&all));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Candidates of a greedy rule */
typedef struct {
  const char *name;
  GramDesign  design;
  PetscInt    n;
  const char *type;
  PetscReal   nu, length;
} Candidates;

#define BOX \
  {         \
    1, 1, 1 \
  }
static const Candidates plane = {
    "grid, plane", {GRAM_DESIGN_GRID, 2, {0}, BOX, 0, {50, 50}}, 2500, "gaussian", 0, PETSC_SQRT2 / 2};
static const Candidates cube = {
    "grid, cube", {GRAM_DESIGN_GRID, 3, {0}, BOX, 0, {20, 20, 20}}, 8000, "gaussian", 0, PETSC_SQRT2 / 2};
static const Candidates small = {
    "small grid", {GRAM_DESIGN_GRID, 2, {0}, BOX, 0, {15, 13}}, 195, "matern", 1.5, 0.5};
static const Candidates scattered = {
    "scattered", {GRAM_DESIGN_RANDOM, 2, {0}, BOX, 3, {0}}, 201, "exponential", 0, 0.4};
static const Candidates wide = {"wide line", {GRAM_DESIGN_RANDOM, 1, {0}, BOX, 4, {0}}, 300, "gaussian", 0,
                                0.3};
static const Candidates two  = {"two points", {GRAM_DESIGN_GRID, 2, {0}, BOX, 0, {2, 1}}, 2, "gaussian", 0,
                                0.5};

enum {
  BACKWARDS  = 1,
  RELABELLED = 2
}; /* candidates are handed in last first; number i is labelled n - 1 - i */

typedef struct {
  GramBackend backend;
  GramPoints  X;
  Mat         A;
  PetscInt    n, *label;
  PetscReal  *z;
  GramPivChol p;
} Greedy;

/* exp(-|x - y|^2) in the mean over the unit cube */
static PetscReal Mean(PetscInt dim, const PetscReal *x)
{
  PetscReal mean = 1;

  for (PetscInt k = 0; k < dim; k++) mean *= PetscSqrtReal(PETSC_PI) / 2 * (erf(1 - x[k]) + erf(x[k]));
  return mean;
}

static PetscErrorCode GreedyCreate(MPI_Comm comm, const Candidates *c, int order, GramPivotRule rule,
                                   Greedy *g)
{
  const PetscInt   dim = c->design.dim;
  GramKernel       kernel;
  PetscMPIInt      rank, size;
  PetscInt         first, end;
  PetscReal       *x, *number, *label;
  const PetscReal *at;
  PetscBool        found;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  first = c->n * rank / size;
  end   = c->n * (rank + 1) / size;
  PetscCall(PetscMalloc2((end - first) * dim, &x, end - first, &number));
  for (PetscInt i = first; i < end; i++) {
    const PetscInt j = order & BACKWARDS ? c->n - 1 - i : i;

    PetscCall(GramDesignPoints(&c->design, j, 1, x + (i - first) * dim));
    number[i - first] = (PetscReal)(order & RELABELLED ? c->n - 1 - j : j);
  }
  PetscCall(GramKernelSetFromOptions(comm, dim, &kernel));
  PetscCall(GramKernelSetType(&kernel, c->type, c->nu, &found));
  for (PetscInt k = 0; k < dim; k++) kernel.length_scale[k] = c->length;
  PetscCall(GramBackendCreate(comm, "cpu", GRAM_DOUBLE, &g->backend));
  PetscCall(GramPointsCreate(comm, dim, end - first, x, kernel.length_scale, 1, &g->X));
  PetscCall(GramMatCreate(g->X, &kernel, g->backend, &g->A));
  PetscCall(GramPivCholCreate(g->A, &g->p));

  PetscCall(GramPointsGetSizes(g->X, NULL, NULL, NULL, &g->n, NULL));
  PetscCall(GramPointsGetArrayRead(g->X, &at));
  PetscCall(PetscMalloc2(g->n, &g->label, g->n, &g->z));
  PetscCall(PetscMalloc1(g->n, &label));
  PetscCall(GramPointsToCurve(g->X, 1, number, label));
  for (PetscInt i = 0; i < g->n; i++) {
    g->label[i] = (PetscInt)label[i];
    g->z[i]     = Mean(dim, at + i * dim);
  }
  PetscCall(GramPivCholSetRule(g->p, rule, g->label, g->z));
  PetscCall(PetscFree(label));
  PetscCall(PetscFree2(x, number));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode GreedyDestroy(Greedy *g)
{
  PetscFunctionBegin;
  PetscCall(GramPivCholDestroy(&g->p));
  PetscCall(MatDestroy(&g->A));
  PetscCall(GramPointsDestroy(&g->X));
  PetscCall(GramBackendDestroy(&g->backend));
  PetscCall(PetscFree2(g->label, g->z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* labels of the pivots in order [r], on all ranks; free with PetscFree() */
static PetscErrorCode GreedyLabels(const Greedy *g, PetscInt *r, PetscInt **labels)
{
  const PetscInt *pivots;
  PetscInt        start, end;

  PetscFunctionBegin;
  PetscCall(GramPivCholGetFactor(g->p, r, NULL, NULL));
  PetscCall(GramPivCholGetPivots(g->p, &pivots, NULL));
  PetscCall(MatGetOwnershipRange(g->A, &start, &end));
  PetscCall(PetscCalloc1(*r, labels));
  for (PetscInt j = 0; j < *r; j++) {
    if (start <= pivots[j] && pivots[j] < end) (*labels)[j] = g->label[pivots[j] - start];
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, *labels, (PetscMPIInt)*r, MPIU_INT, MPI_SUM,
                             PetscObjectComm((PetscObject)g->A)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Every index and error of exact arithmetic, in steps and at once, in any order. The grid and its mean are symmetric:
   labels in reverse have the same sequence of labels, that of the mirror images. */
static PetscErrorCode Exact(const Candidates *c, PetscInt count, const SbqStep steps[], PetscReal noise)
{
  const PetscReal one = exp(-1) - 1 + PetscSqrtReal(PETSC_PI) * erf(1);

  PetscFunctionBegin;
  for (int order = 0; order <= (BACKWARDS | RELABELLED); order++) {
    PetscReal        left = PetscPowRealInt(one, (int)c->design.dim);
    const PetscReal *reductions;
    PetscInt         r, *labels;
    Greedy           g;

    PetscCall(GreedyCreate(PETSC_COMM_WORLD, c, order, GRAM_PIVOT_MEAN, &g));
    for (PetscInt k = 1; k < count && order == BACKWARDS; k += k) PetscCall(GramPivCholGrow(g.p, k, 0));
    PetscCall(GramPivCholGrow(g.p, count, 0));
    PetscCall(GreedyLabels(&g, &r, &labels));
    PetscCall(GramPivCholGetReductions(g.p, &reductions));
    CHECK(r == count, "%s, order %d: rank %d", c->name, order, (int)r);
    for (PetscInt j = 0; j < r; j++) {
      left -= reductions[j];
      CHECK(labels[j] == steps[j].index, "%s, order %d, step %d: %d, not %d", c->name, order, (int)j,
            (int)labels[j], steps[j].index);
      CHECK(PetscAbsReal(left - steps[j].wce2) <= noise, "%s, order %d, step %d: error %g, not %g", c->name,
            order, (int)j, left, steps[j].wce2);
    }
    PetscCall(PetscFree(labels));
    PetscCall(GreedyDestroy(&g));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* K_S^-1 [K_S. z_S], r by n + 1 */
static PetscErrorCode Inverse(PetscInt n, const PetscReal *K, const PetscReal *z, PetscInt r,
                              const PetscInt S[], PetscReal *W)
{
  PetscBLASInt m = (PetscBLASInt)r, nrhs = (PetscBLASInt)n + 1, info;
  PetscReal   *B;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(r * r, &B));
  for (PetscInt s = 0; s < r; s++) {
    for (PetscInt t = 0; t < r; t++) B[s * r + t] = K[S[s] * n + S[t]];
    for (PetscInt i = 0; i < n; i++) W[i * r + s] = K[S[s] * n + i];
    W[n * r + s] = z[S[s]];
  }
  PetscCallBLAS("LAPACKpotrf", LAPACKpotrf_("L", &m, B, &m, &info));
  CHECK(!info, "LAPACK potrf: %d", (int)info);
  PetscCallBLAS("LAPACKpotrs", LAPACKpotrs_("L", &m, &nrhs, B, &m, W, &m, &info));
  PetscCall(PetscFree(B));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Pivots [r] by number of the candidate, the definition in plain loops with a solve of its own for every step */
static PetscErrorCode Plain(const Candidates *c, GramPivotRule rule, PetscInt r, PetscInt S[])
{
  const PetscInt n = c->n, dim = c->design.dim;
  PetscReal     *x, *K, *z, *W;

  PetscFunctionBegin;
  PetscCall(PetscMalloc4(n * dim, &x, n * n, &K, n, &z, r * (n + 1), &W));
  PetscCall(GramDesignPoints(&c->design, 0, n, x));
  for (PetscInt i = 0; i < n; i++) {
    z[i] = Mean(dim, x + i * dim);
    for (PetscInt j = 0; j < n; j++) {
      PetscReal r2 = 0, t;

      for (PetscInt k = 0; k < dim; k++)
        r2 += PetscSqr(x[i * dim + k] - x[j * dim + k]) / PetscSqr(c->length);
      t            = PetscSqrtReal(3 * r2);
      K[i * n + j] = strcmp(c->type, "matern") ? exp(-PetscSqrtReal(r2)) : (1 + t) * exp(-t);
    }
  }
  for (PetscInt s = 0; s < r; s++) {
    PetscReal largest = 0;

    if (s) PetscCall(Inverse(n, K, z, s, S, W));
    for (PetscInt i = 0; i < n; i++) {
      PetscReal d = K[i * n + i], mean = z[i], gain;
      PetscBool taken = PETSC_FALSE;

      for (PetscInt j = 0; j < s; j++) {
        d -= K[S[j] * n + i] * W[i * s + j];
        mean -= K[S[j] * n + i] * W[n * s + j];
        if (S[j] == i) taken = PETSC_TRUE;
      }
      gain = rule == GRAM_PIVOT_MEAN ? mean * mean / d : d;
      if (taken || gain <= (1 + 1e-9) * largest) continue;
      largest = gain;
      S[s]    = i;
    }
  }
  PetscCall(PetscFree4(x, K, z, W));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Against plain loops; the bits of one rank and of all */
static PetscErrorCode Loops(const Candidates *c, GramPivotRule rule, PetscInt rank)
{
  const Case named = {.name = c->name};
  PetscInt   S[64], r, *labels, start, end;
  Greedy     one, all;

  PetscFunctionBegin;
  PetscCall(GreedyCreate(PETSC_COMM_SELF, c, 0, rule, &one));
  PetscCall(GreedyCreate(PETSC_COMM_WORLD, c, BACKWARDS, rule, &all));
  PetscCall(GramPivCholGrow(one.p, rank, 0));
  PetscCall(GramPivCholGrow(all.p, rank, 0));
  PetscCall(MatGetOwnershipRange(all.A, &start, &end));
  PetscCall(Same(&named, "greedy, on all ranks", one.p, all.p, start, end - start));
  PetscCall(GreedyLabels(&all, &r, &labels));
  PetscCall(Plain(c, rule, rank, S));
  CHECK(r == rank, "%s, rule %d: rank %d", c->name, (int)rule, (int)r);
  for (PetscInt j = 0; j < r; j++)
    CHECK(labels[j] == S[j], "%s, rule %d, step %d: %d, not %d", c->name, (int)rule, (int)j, (int)labels[j],
          (int)S[j]);
  PetscCall(PetscFree(labels));
  PetscCall(GreedyDestroy(&one));
  PetscCall(GreedyDestroy(&all));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Ends where the matrix does, no candidate twice, and where the gain is small */
static PetscErrorCode Ends(const Candidates *c, GramPivotRule rule, PetscInt least, PetscInt most)
{
  const PetscReal  tolerance = 1e-3;
  const PetscReal *d, *reductions = NULL;
  PetscReal        largest = 0, value;
  PetscInt         r, exhausted, *labels;
  PetscErrorCode   ierr;
  Greedy           g;

  PetscFunctionBegin;
  PetscCall(GreedyCreate(PETSC_COMM_WORLD, c, 0, rule, &g));
  PetscCall(GramPivCholGrow(g.p, c->n, tolerance));
  PetscCall(GramPivCholGetFactor(g.p, &r, NULL, NULL));
  PetscCall(GramPivCholGetPivots(g.p, NULL, &value));
  PetscCall(GramPivCholGetResidual(g.p, &d));
  if (rule == GRAM_PIVOT_MEAN) {
    PetscCall(GramPivCholGetReductions(g.p, &reductions));
    value = reductions[r - 1];
  }
  for (PetscInt i = 0; i < g.n; i++) largest = PetscMax(largest, d[i]);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPIU_REAL, MPI_MAX, PETSC_COMM_WORLD));
  CHECK(value >= tolerance, "%s, rule %d: the last of %d columns gained %g", c->name, (int)rule, (int)r,
        value);
  CHECK(reductions || largest < tolerance, "%s: d %g after %d columns", c->name, largest, (int)r);

  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  ierr = GramPivCholSetRule(g.p, GRAM_PIVOT_RANDOM, NULL, NULL);
  PetscCall(PetscPopErrorHandler());
  CHECK(ierr == PETSC_ERR_ARG_WRONGSTATE, "%s: another rule after columns, error %d", c->name, (int)ierr);

  PetscCall(GramPivCholGrow(g.p, c->n, 0));
  PetscCall(GramPivCholGrow(g.p, c->n, 0));
  PetscCall(GramPivCholGetNumericalRank(g.p, &exhausted));
  PetscCall(GreedyLabels(&g, &r, &labels));
  CHECK(least <= r && r <= most, "%s, rule %d: rank %d", c->name, (int)rule, (int)r);
  CHECK(exhausted == (r < c->n ? r : -1), "%s, rule %d: numerical rank %d of %d", c->name, (int)rule,
        (int)exhausted, (int)r);
  PetscCall(PetscSortInt(r, labels));
  for (PetscInt j = 1; j < r; j++)
    CHECK(labels[j] > labels[j - 1], "%s, rule %d: candidate %d twice", c->name, (int)rule, (int)labels[j]);
  PetscCall(PetscFree(labels));
  PetscCall(GreedyDestroy(&g));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) PetscCall(Try(cases + k));
  /* eps (sum |w|)^2 is what rounding of K makes of the error: sums of magnitudes of weights are up to 32, and 4 */
  PetscCall(Exact(&plane, sizeof sbq_2d / sizeof *sbq_2d, sbq_2d, 5e-14));
  PetscCall(Exact(&cube, sizeof sbq_3d / sizeof *sbq_3d, sbq_3d, 2e-15));
  for (int rule = GRAM_PIVOT_LARGEST; rule <= GRAM_PIVOT_MEAN; rule++) {
    PetscCall(Loops(&small, (GramPivotRule)rule, 40));
    PetscCall(Loops(&scattered, (GramPivotRule)rule, 60));
    PetscCall(Ends(&small, (GramPivotRule)rule, small.n, small.n));
    PetscCall(Ends(&wide, (GramPivotRule)rule, 10, 30));
    PetscCall(Ends(&two, (GramPivotRule)rule, 2, 2));
  }
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
