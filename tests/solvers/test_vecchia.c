static const char help[] =
    "The order covers evenly, neighbours are the nearest, and G inverts what it is given.\n";

#include <petscksp.h>
#include <petscblaslapack.h>

#include "../check.h"
#include "vecchia.h"

enum { UNIFORM, CLUSTERED, COLLINEAR, LATTICE, N_KINDS }; /* all but the first with duplicates */
static const char *const kinds[] = {"uniform", "clustered", "collinear", "lattice"};

static PetscReal Coordinate(int kind, PetscInt dim, PetscInt i, PetscInt c)
{
  const uint64_t at = (uint64_t)(i * dim + c), twin = (uint64_t)(i % 5 ? i : i / 2);

  switch (kind) {
  case CLUSTERED: /* seven of them, of radius 1e-6 .. 1 */
    return CheckUniform(2, (twin % 7) * 200 + (uint64_t)c) +
           CheckUniform(1, twin * (uint64_t)dim + (uint64_t)c) * PetscPowReal(10, -(PetscReal)(twin % 7));
  case COLLINEAR:
    return (PetscReal)(c + 1) * (PetscReal)(twin * twin % 211) / 256; /* exact, many distances are equal */
  case LATTICE: return PetscFloorReal(8 * CheckUniform(3, at)) / 8;
  default: return CheckUniform(1, at);
  }
}

static PetscErrorCode Points(MPI_Comm comm, int kind, PetscInt dim, PetscInt n, GramPoints *points)
{
  PetscMPIInt rank;
  PetscReal  *x;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(PetscMalloc1(n * dim, &x));
  for (PetscInt i = 0; i < n * dim; i++) x[i] = Coordinate(kind, dim, i / dim, i % dim);
  PetscCall(GramPointsCreate(comm, dim, rank ? 0 : n, x, NULL, 1, points));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscReal Distance(PetscInt dim, const PetscReal *x, const PetscReal *z)
{
  PetscReal sum = 0;

  for (PetscInt c = 0; c < dim; c++) sum += (x[c] - z[c]) * (x[c] - z[c]);
  return sum;
}

/* ---- the order */

/* The definition, level by level: a cell that holds none yet takes its point of least hash. */
static PetscErrorCode OrderPlain(PetscInt dim, PetscInt n, const PetscReal *x, PetscInt order[])
{
  PetscReal lower[GRAM_MAX_DIM], width = 0;
  PetscInt *hashed, n_entered          = 0;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(n, &hashed));
  for (PetscInt i = 0; i < n; i++) { /* insertion sort */
    PetscInt k = i;

    for (; k && CheckUniform(77, (uint64_t)hashed[k - 1]) > CheckUniform(77, (uint64_t)i); k--)
      hashed[k] = hashed[k - 1];
    hashed[k] = i;
  }
  for (PetscInt c = 0; c < dim; c++) {
    PetscReal upper = x[c];

    lower[c] = x[c];
    for (PetscInt i = 0; i < n; i++) lower[c] = PetscMin(lower[c], x[i * dim + c]);
    for (PetscInt i = 0; i < n; i++) upper = PetscMax(upper, x[i * dim + c]);
    width = PetscMax(width, upper - lower[c]);
  }
  for (int level = 0; level <= 40; level++) {
    for (PetscInt k = 0; k < n; k++) {
      PetscBool occupied = PETSC_FALSE;

      if (hashed[k] < 0) continue;
      for (PetscInt e = 0; e < n_entered && !occupied && level < 40; e++) {
        occupied = PETSC_TRUE;
        for (PetscInt c = 0; c < dim && occupied; c++) {
          const PetscReal cells = PetscPowReal(2, level) / (width > 0 ? width * (1 + 1e-12) : 1);

          if (PetscFloorReal((x[order[e] * dim + c] - lower[c]) * cells) !=
              PetscFloorReal((x[hashed[k] * dim + c] - lower[c]) * cells))
            occupied = PETSC_FALSE;
        }
      }
      if (occupied) continue;
      order[n_entered++] = hashed[k];
      hashed[k]          = -1;
    }
  }
  PetscCall(PetscFree(hashed));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The first 2^(l dim) points have all cells of level l: nothing is farther from them than a cell's diagonal. */
static PetscErrorCode Order(int kind, PetscInt dim, PetscInt n)
{
  GramPoints  points;
  PetscReal  *x, *nearest, width = 0;
  PetscInt   *order, *plain;
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  if (rank) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(Points(PETSC_COMM_SELF, kind, dim, n, &points));
  PetscCall(GramPointsAllGather(points, NULL, &x));
  PetscCall(PetscMalloc3(n, &order, n, &plain, n, &nearest));
  PetscCall(GramVoxelOrder(dim, n, x, order));
  PetscCall(OrderPlain(dim, n, x, plain));
  for (PetscInt k = 0; k < n; k++) {
    CHECK(order[k] == plain[k], "order of %d %s points in %d-D: %d at %d, not %d", (int)n, kinds[kind],
          (int)dim, (int)order[k], (int)k, (int)plain[k]);
    if (order[k] != plain[k]) break;
  }
  for (PetscInt i = 0; i < n; i++) {
    nearest[i] = PETSC_MAX_REAL;
    for (PetscInt c = 0; c < dim; c++) {
      for (PetscInt j = 0; j < (i ? 0 : n); j++)
        for (PetscInt k = 0; k < j; k++)
          width = PetscMax(width, PetscAbsReal(x[j * dim + c] - x[k * dim + c]));
    }
  }
  for (PetscInt k = 0, level = 0; k < n; k++) {
    PetscReal fill = 0;

    for (PetscInt i = 0; i < n; i++) {
      nearest[i] = PetscMin(nearest[i], Distance(dim, x + i * dim, x + order[k] * dim));
      fill       = PetscMax(fill, nearest[i]);
    }
    if (k + 1 < PetscPowReal(2, (PetscReal)(level * dim))) continue;
    CHECK(PetscSqrtReal(fill) <=
              PetscSqrtReal((PetscReal)dim) * width * PetscPowReal(2, -(PetscReal)level) * (1 + 1e-11),
          "%s, %d-D: the first %d points fill to %g only", kinds[kind], (int)dim, (int)k + 1,
          PetscSqrtReal(fill));
    level++;
  }
  PetscCall(PetscFree3(order, plain, nearest));
  PetscCall(PetscFree(x));
  PetscCall(GramPointsDestroy(&points));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- neighbours */

static PetscErrorCode CheckNeighbours(GramVecchia vecchia, GramPoints points, const PetscReal *scale,
                                      PetscInt m, int kind)
{
  PetscInt        dim, n, n_local, start, *position, *best, wrong = 0;
  const PetscInt *order;
  PetscReal      *x, *distance;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(points, NULL, &dim, &n, &n_local, &start));
  PetscCall(GramPointsAllGather(points, scale, &x));
  PetscCall(GramVecchiaGetOrder(vecchia, &order));
  PetscCall(PetscMalloc3(n, &position, m + 1, &best, m + 1, &distance));
  for (PetscInt k = 0; k < n; k++) position[k] = -1;
  for (PetscInt k = 0; k < n; k++) position[order[k]] = k;
  for (PetscInt k = 0; k < n; k++) CHECK(position[k] >= 0, "%d is not in the order", (int)k);
  for (PetscInt i = start; i < start + n_local; i++) {
    const PetscInt *columns;
    PetscInt        found = 0, count;

    for (PetscInt p = 0; p < position[i]; p++) { /* insertion sort, equal distances in order of positions */
      const PetscReal d = Distance(dim, x + i * dim, x + order[p] * dim);
      PetscInt        k = found;

      for (; k && distance[k - 1] > d; k--) {
        distance[k] = distance[k - 1];
        best[k]     = best[k - 1];
      }
      distance[k] = d;
      best[k]     = order[p];
      found       = PetscMin(found + 1, m);
    }
    PetscCall(PetscSortInt(found, best));
    PetscCall(GramVecchiaGetNeighbours(vecchia, i - start, &count, &columns));
    wrong += count != found;
    for (PetscInt k = 0; k < PetscMin(count, found); k++) wrong += columns[k] != best[k];
  }
  CHECK(!wrong, "%d wrong neighbours of %d %s points in %d-D, m = %d", (int)wrong, (int)n, kinds[kind],
        (int)dim, (int)m);
  PetscCall(PetscFree3(position, best, distance));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Neighbours(int kind, PetscInt dim, PetscInt n)
{
  const PetscInt  m[]     = {3, 30, 0, n + 2, 1};
  const PetscReal scale[] = {0.5, 2, 1, 0.25, 1, 1, 1, 1, 1, 1, 1}; /* powers of 2: ties stay ties */
  GramPoints      points;
  GramVecchia     vecchia;

  PetscFunctionBegin;
  PetscCall(Points(PETSC_COMM_WORLD, kind, dim, n, &points));
  PetscCall(GramVecchiaCreate(points, scale, &vecchia));
  for (size_t k = 0; k < sizeof m / sizeof m[0]; k++) {
    PetscCall(GramVecchiaSetNeighbours(vecchia, m[k]));
    PetscCall(CheckNeighbours(vecchia, points, scale, m[k], kind));
  }
  PetscCall(GramVecchiaDestroy(&vecchia));
  PetscCall(GramPointsDestroy(&points));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- the factor */

typedef struct {
  GramPoints  points;
  GramBackend backend;
  Mat         A;
  GramVecchia vecchia;
  PetscInt    n, n_local, start;
  PetscInt    r;
  PetscReal  *F, *delta; /* [n][r] by columns, all rows; [n] */
} Problem;

static PetscErrorCode ProblemCreate(MPI_Comm comm, int kind, PetscInt n, const GramKernel *kernel, PetscInt m,
                                    Problem *p)
{
  PetscFunctionBegin;
  PetscCall(PetscMemzero(p, sizeof *p));
  PetscCall(Points(comm, kind, kernel->dim, n, &p->points));
  PetscCall(GramPointsGetSizes(p->points, NULL, NULL, &p->n, &p->n_local, &p->start));
  PetscCall(GramBackendCreate(comm, "cpu", GRAM_DOUBLE, &p->backend));
  PetscCall(GramMatCreate(p->points, kernel, p->backend, &p->A));
  PetscCall(GramVecchiaCreate(p->points, kernel->length_scale, &p->vecchia));
  PetscCall(GramVecchiaSetNeighbours(p->vecchia, m));
  PetscCall(PetscMalloc1(n, &p->delta));
  for (PetscInt i = 0; i < n; i++) p->delta[i] = kernel->alpha;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* F = K_S L^-T, K_SS = L L': Nystrom's factor with every other of the first 2 r points as landmarks; ridge ten times as
   large there, since they have nothing else */
static PetscErrorCode ProblemProject(Problem *p, PetscInt r, PetscReal alpha)
{
  const PetscReal    one = 1;
  const PetscBLASInt n = (PetscBLASInt)p->n, rank = (PetscBLASInt)r;
  PetscBLASInt       info;
  PetscReal         *L;
  PetscInt          *all, *landmarks;

  PetscFunctionBegin;
  p->r = r;
  PetscCall(PetscMalloc3(p->n, &all, r, &landmarks, r * r, &L));
  PetscCall(PetscMalloc1(p->n * r, &p->F));
  for (PetscInt i = 0; i < p->n; i++) all[i] = i;
  for (PetscInt c = 0; c < r; c++) landmarks[c] = 2 * c;
  PetscCall(GramMatGetEntries(p->A, p->n, all, r, landmarks, p->F, p->n));
  for (PetscInt c = 0; c < r; c++) {
    p->F[c * p->n + landmarks[c]] -= alpha;
    p->delta[landmarks[c]] *= 10;
    for (PetscInt k = 0; k < r; k++) L[c * r + k] = p->F[c * p->n + landmarks[k]];
  }
  PetscCallBLAS("LAPACKpotrf", LAPACKpotrf_("L", &rank, L, &rank, &info));
  CHECK(!info, "landmarks are degenerate");
  PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "L", "T", "N", &n, &rank, &one, L, &rank, p->F, &n));
  PetscCall(PetscFree3(all, landmarks, L));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ProblemFactor(const Problem *p, Mat *G, PetscReal *logdet, PetscInt *shifted)
{
  PetscFunctionBegin;
  PetscCall(GramVecchiaFactor(p->vecchia, p->A, p->r, p->F ? p->F + p->start : NULL, p->n,
                              p->delta + p->start, G, NULL, logdet, shifted));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ProblemDestroy(Problem *p)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(p->F));
  PetscCall(PetscFree(p->delta));
  PetscCall(GramVecchiaDestroy(&p->vecchia));
  PetscCall(MatDestroy(&p->A));
  PetscCall(GramBackendDestroy(&p->backend));
  PetscCall(GramPointsDestroy(&p->points));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* S = K - F F' + diag(delta), and G; all of them on every rank. */
static PetscErrorCode Dense(const Problem *p, PetscReal alpha, Mat G, PetscReal *S, PetscReal *g)
{
  PetscInt *all;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(p->n, &all));
  for (PetscInt i = 0; i < p->n; i++) all[i] = i;
  PetscCall(GramMatGetEntries(p->A, p->n, all, p->n, all, S, p->n));
  for (PetscInt j = 0; j < p->n; j++) {
    S[j * p->n + j] += p->delta[j] - alpha;
    for (PetscInt c = 0; c < p->r; c++) {
      for (PetscInt i = 0; i < p->n; i++) S[j * p->n + i] -= p->F[c * p->n + i] * p->F[c * p->n + j];
    }
  }
  PetscCall(PetscArrayzero(g, p->n * p->n));
  for (PetscInt i = p->start; i < p->start + p->n_local; i++) {
    const PetscInt    *columns;
    const PetscScalar *values;
    PetscInt           count;

    PetscCall(MatGetRow(G, i, &count, &columns, &values));
    for (PetscInt k = 0; k < count; k++) g[i * p->n + columns[k]] = values[k];
    PetscCall(MatRestoreRow(G, i, &count, &columns, &values));
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, g, (int)(p->n * p->n), MPIU_REAL, MPIU_SUM,
                             PetscObjectComm((PetscObject)G)));
  PetscCall(PetscFree(all));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* With all earlier points as neighbours nothing is approximated: G S G' = I, and the determinant is LAPACK's. */
static PetscErrorCode Exact(int kind, PetscInt n, PetscInt r, const GramKernel *kernel)
{
  Problem            p;
  Mat                G;
  PetscReal         *S, *g, *SG, *GSG, logdet, expected = 0, error = 0;
  const PetscReal    one = 1, zero = 0;
  const PetscBLASInt size = (PetscBLASInt)n;
  PetscBLASInt       info;
  PetscInt           shifted;

  PetscFunctionBegin;
  PetscCall(ProblemCreate(PETSC_COMM_WORLD, kind, n, kernel, n - 1, &p));
  if (r) PetscCall(ProblemProject(&p, r, kernel->alpha));
  PetscCall(ProblemFactor(&p, &G, &logdet, &shifted));
  PetscCall(PetscMalloc4(n * n, &S, n * n, &g, n * n, &SG, n * n, &GSG));
  PetscCall(Dense(&p, kernel->alpha, G, S, g)); /* by rows, which BLAS takes for G' */
  PetscCallBLAS("BLASgemm",
                BLASgemm_("N", "N", &size, &size, &size, &one, S, &size, g, &size, &zero, SG, &size));
  PetscCallBLAS("BLASgemm",
                BLASgemm_("T", "N", &size, &size, &size, &one, g, &size, SG, &size, &zero, GSG, &size));
  for (PetscInt k = 0; k < n * n; k++) error = PetscMax(error, PetscAbsReal(GSG[k] - (k % (n + 1) == 0)));
  /* eps times the condition number: n, the trace of K, over the least delta */
  CHECK(error <= 10 * PETSC_MACHINE_EPSILON * (PetscReal)n / kernel->alpha,
        "|G S G' - I| = %g of %d points, r = %d", error, (int)n, (int)r);
  CHECK(!shifted, "%d rows shifted", (int)shifted);
  PetscCallBLAS("LAPACKpotrf", LAPACKpotrf_("L", &size, S, &size, &info));
  CHECK(!info, "the test's matrix is indefinite");
  for (PetscInt i = 0; i < n; i++) expected += 2 * PetscLogReal(S[i * n + i]);
  CHECK_CLOSE("logdet", logdet, expected, 1e-9);
  PetscCall(PetscFree4(S, g, SG, GSG));
  PetscCall(MatDestroy(&G));
  PetscCall(ProblemDestroy(&p));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The same bits as of one rank; 70 columns are more than travel at once. */
static PetscErrorCode SameOnOne(int kind, PetscInt n, PetscInt m, PetscInt r, const GramKernel *kernel)
{
  Problem    p, alone;
  Mat        G, G_alone;
  PetscReal *S, *g, *g_alone, logdet, logdet_alone;
  PetscBool  same;
  PetscInt   begin, end;

  PetscFunctionBegin;
  PetscCall(ProblemCreate(PETSC_COMM_WORLD, kind, n, kernel, m, &p));
  PetscCall(ProblemCreate(PETSC_COMM_SELF, kind, n, kernel, m, &alone));
  if (r) PetscCall(ProblemProject(&p, r, kernel->alpha));
  if (r) PetscCall(ProblemProject(&alone, r, kernel->alpha));
  PetscCall(ProblemFactor(&p, &G, &logdet, NULL));
  PetscCall(ProblemFactor(&alone, &G_alone, &logdet_alone, NULL));
  PetscCall(MatGetOwnershipRange(G, &begin, &end));
  CHECK(begin == p.start && end == p.start + p.n_local, "rows of G are not laid out as points");
  PetscCall(PetscMalloc3(n * n, &S, n * n, &g, n * n, &g_alone));
  PetscCall(Dense(&p, kernel->alpha, G, S, g));
  PetscCall(Dense(&alone, kernel->alpha, G_alone, S, g_alone));
  PetscCall(PetscArraycmp(g, g_alone, n * n, &same));
  CHECK(same, "G depends on the ranks: %d %s points, m = %d, r = %d", (int)n, kinds[kind], (int)m, (int)r);
  CHECK(PetscAbsReal(logdet - logdet_alone) <= 1e-12 * (PetscReal)n * (1 + PetscAbsReal(logdet)),
        "logdet %g, not %g", logdet, logdet_alone);
  PetscCall(PetscFree3(S, g, g_alone));
  PetscCall(MatDestroy(&G));
  PetscCall(MatDestroy(&G_alone));
  PetscCall(ProblemDestroy(&p));
  PetscCall(ProblemDestroy(&alone));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Ten points twice and no ridge: S is singular, G finite. */
static PetscErrorCode Duplicates(GramKernel kernel)
{
  Problem   p;
  Mat       G;
  PetscReal logdet, norm;
  PetscInt  shifted;

  PetscFunctionBegin;
  kernel.alpha = 0;
  PetscCall(ProblemCreate(PETSC_COMM_WORLD, CLUSTERED, 100, &kernel, 10, &p));
  PetscCall(ProblemFactor(&p, &G, &logdet, &shifted));
  PetscCall(MatNorm(G, NORM_FROBENIUS, &norm));
  CHECK(shifted >= 10 && shifted <= 60, "%d rows shifted, where 10 points are there twice", (int)shifted);
  CHECK(norm > 0 && norm < 1e9 && logdet < 0, "duplicates: |G| = %g, logdet %g", norm, logdet);
  PetscCall(MatDestroy(&G));
  PetscCall(ProblemDestroy(&p));
  PetscFunctionReturn(PETSC_SUCCESS);
}

typedef struct {
  Mat G;
  Vec z;
} Inverse;

/* y = G' G x */
static PetscErrorCode InverseApply(PC pc, Vec x, Vec y)
{
  Inverse *inverse;

  PetscFunctionBegin;
  PetscCall(PCShellGetContext(pc, &inverse));
  PetscCall(MatMult(inverse->G, x, inverse->z));
  PetscCall(MatMultTranspose(inverse->G, inverse->z, y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* CG on A x = b, until 1e-8; condition: of the operator it sees, from its Lanczos values */
static PetscErrorCode Iterate(Mat A, Inverse *inverse, PetscInt *iterations, PetscReal *condition)
{
  KSP       ksp;
  PC        pc;
  Vec       b, x;
  PetscReal largest, least;
  PetscInt  begin, end;

  PetscFunctionBegin;
  PetscCall(MatCreateVecs(A, &x, &b));
  PetscCall(VecGetOwnershipRange(b, &begin, &end));
  for (PetscInt i = begin; i < end; i++)
    PetscCall(VecSetValue(b, i, CheckUniform(5, (uint64_t)i) - 0.5, INSERT_VALUES));
  PetscCall(VecAssemblyBegin(b));
  PetscCall(VecAssemblyEnd(b));
  PetscCall(KSPCreate(PETSC_COMM_WORLD, &ksp));
  PetscCall(KSPSetOperators(ksp, A, A));
  PetscCall(KSPSetType(ksp, KSPCG));
  PetscCall(KSPSetNormType(ksp, KSP_NORM_UNPRECONDITIONED));
  PetscCall(KSPSetTolerances(ksp, 1e-8, PETSC_DEFAULT, PETSC_DEFAULT, 400));
  PetscCall(KSPSetComputeSingularValues(ksp, PETSC_TRUE));
  PetscCall(KSPGetPC(ksp, &pc));
  PetscCall(PCSetType(pc, inverse ? PCSHELL : PCNONE));
  if (inverse) {
    PetscCall(PCShellSetContext(pc, inverse));
    PetscCall(PCShellSetApply(pc, InverseApply));
  }
  PetscCall(KSPSolve(ksp, b, x));
  PetscCall(KSPGetIterationNumber(ksp, iterations));
  PetscCall(KSPComputeExtremeSingularValues(ksp, &largest, &least));
  *condition = largest / least;
  PetscCall(KSPDestroy(&ksp));
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&b));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* As a preconditioner, with 30 neighbours. */
static PetscErrorCode Precondition(PetscInt n, const GramKernel *kernel, PetscInt most, PetscReal gain)
{
  Problem   p;
  Inverse   inverse;
  PetscReal logdet, condition, plain;
  PetscInt  iterations;

  PetscFunctionBegin;
  PetscCall(ProblemCreate(PETSC_COMM_WORLD, UNIFORM, n, kernel, 30, &p));
  PetscCall(ProblemFactor(&p, &inverse.G, &logdet, NULL));
  PetscCall(MatCreateVecs(inverse.G, NULL, &inverse.z));
  PetscCall(Iterate(p.A, &inverse, &iterations, &condition));
  CHECK(iterations <= most, "%s: %d iterations with 30 neighbours", kernel->type, (int)iterations);
  if (gain > 0) {
    PetscCall(Iterate(p.A, NULL, &iterations, &plain));
    CHECK(plain > gain * condition, "%s: condition %g with G, %g without", kernel->type, condition, plain);
  }
  PetscCall(VecDestroy(&inverse.z));
  PetscCall(MatDestroy(&inverse.G));
  PetscCall(ProblemDestroy(&p));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Kernel(const char *type, PetscReal length_scale, PetscReal alpha, GramKernel *kernel)
{
  PetscBool found;

  PetscFunctionBegin;
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, 2, kernel));
  PetscCall(GramKernelSetType(kernel, type, 1.5, &found));
  kernel->length_scale[0] = kernel->length_scale[1] = length_scale;
  kernel->alpha                                     = alpha;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Factors(void)
{
  GramKernel rough, smooth;

  PetscFunctionBegin;
  PetscCall(Kernel("exponential", 0.2, 1e-3, &rough));
  PetscCall(Kernel("matern", 0.3, 1e-6, &smooth));
  PetscCall(Exact(UNIFORM, 60, 0, &smooth));
  PetscCall(Exact(UNIFORM, 60, 7, &smooth));
  PetscCall(Exact(LATTICE, 45, 0, &rough));
  PetscCall(Exact(UNIFORM, 150, 70, &rough));
  for (int kind = 0; kind < N_KINDS; kind++) {
    PetscCall(SameOnOne(kind, 201, 12, 0, &rough));
    PetscCall(SameOnOne(kind, 100, 0, 0, &rough));
  }
  PetscCall(SameOnOne(UNIFORM, 201, 12, 70, &rough));
  PetscCall(SameOnOne(UNIFORM, 201, 0, 70, &rough));
  PetscCall(SameOnOne(UNIFORM, 3, 30, 1, &rough)); /* ranks without rows */
  PetscCall(SameOnOne(UNIFORM, 1, 5, 0, &smooth));
  PetscCall(Duplicates(rough));
  PetscCall(Precondition(3000, &smooth, 16, 0)); /* the prototype: 11 to 13 */
  PetscCall(Kernel("exponential", 1, 1e-6, &rough));
  PetscCall(Precondition(700, &rough, 12, 100));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  for (int kind = 0; kind < N_KINDS; kind++) {
    const PetscInt dims[] = {1, 2, 3, 5};

    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
      PetscCall(Order(kind, dims[d], 300));
      PetscCall(Neighbours(kind, dims[d], 300 + (PetscInt)d));
    }
    PetscCall(Neighbours(kind, 2, 1));
    PetscCall(Neighbours(kind, 3, 17));
  }
  PetscCall(Neighbours(UNIFORM, 11, 200));
  PetscCall(Factors());
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
