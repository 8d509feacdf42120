static const char help[] = "M of the preconditioner lrv: symmetric, positive definite, with its determinant, "
                           "exact where it may be.\n";

#include <ctype.h>
#include <stdlib.h>

#include <petscksp.h>

#include <petscblaslapack.h>

#include "../check.h"
#include "lrv.h"

/* Uniform points, the second half equal to the first if so asked; all of them on rank 0 at first. */
static PetscErrorCode Problem(PetscInt n, PetscBool twice, const GramKernel *kernel, GramBackend backend,
                              GramPoints *X, Mat *A)
{
  PetscMPIInt rank;
  PetscReal  *x;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(PetscMalloc1(n * kernel->dim, &x));
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt d = 0; d < kernel->dim; d++)
      x[i * kernel->dim + d] = CheckUniform(1, (uint64_t)((twice ? i / 2 : i) * kernel->dim + d));
  }
  PetscCall(GramPointsCreate(PETSC_COMM_WORLD, kernel->dim, rank ? 0 : n, x, kernel->length_scale, 1, X));
  PetscCall(GramMatCreate(*X, kernel, backend, A));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* rank, neighbors: option values, or NULL */
static PetscErrorCode Preconditioner(Mat A, const char *rank, const char *neighbors, PC *pc)
{
  PetscFunctionBegin;
  if (rank) PetscCall(PetscOptionsSetValue(NULL, "-pc_lrv_rank", rank));
  if (neighbors) PetscCall(PetscOptionsSetValue(NULL, "-pc_lrv_neighbors", neighbors));
  PetscCall(GramPCRegister());
  PetscCall(PCCreate(PETSC_COMM_WORLD, pc));
  PetscCall(PCSetType(*pc, "lrv"));
  PetscCall(PCSetOperators(*pc, A, A));
  PetscCall(PCSetFromOptions(*pc));
  PetscCall(PCSetUp(*pc));
  if (rank) PetscCall(PetscOptionsClearValue(NULL, "-pc_lrv_rank"));
  if (neighbors) PetscCall(PetscOptionsClearValue(NULL, "-pc_lrv_neighbors"));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* W [n][n] = M^-1, column by column, on all ranks */
static PetscErrorCode Assemble(Mat A, PC pc, PetscInt n, PetscReal *W)
{
  Vec                e, z, all;
  VecScatter         scatter;
  const PetscScalar *column;

  PetscFunctionBegin;
  PetscCall(MatCreateVecs(A, &e, &z));
  PetscCall(VecScatterCreateToAll(z, &scatter, &all));
  for (PetscInt j = 0; j < n; j++) {
    PetscCall(VecSet(e, 0));
    PetscCall(VecSetValue(e, j, 1, INSERT_VALUES));
    PetscCall(VecAssemblyBegin(e));
    PetscCall(VecAssemblyEnd(e));
    PetscCall(PCApply(pc, e, z));
    PetscCall(VecScatterBegin(scatter, z, all, INSERT_VALUES, SCATTER_FORWARD));
    PetscCall(VecScatterEnd(scatter, z, all, INSERT_VALUES, SCATTER_FORWARD));
    PetscCall(VecGetArrayRead(all, &column));
    PetscCall(PetscArraycpy(W + j * n, column, n));
    PetscCall(VecRestoreArrayRead(all, &column));
  }
  PetscCall(VecScatterDestroy(&scatter));
  PetscCall(VecDestroy(&all));
  PetscCall(VecDestroy(&e));
  PetscCall(VecDestroy(&z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* largest entry of W S - I, S [n][n] symmetric = K + alpha I */
static PetscErrorCode OffIdentity(Mat A, PetscInt n, const PetscReal *W, PetscReal *largest)
{
  const PetscScalar one = 1, zero = 0;
  PetscBLASInt      ld = (PetscBLASInt)n;
  PetscReal        *S, *WS;
  PetscInt         *all;

  PetscFunctionBegin;
  PetscCall(PetscMalloc3(n * n, &S, n * n, &WS, n, &all));
  for (PetscInt i = 0; i < n; i++) all[i] = i;
  PetscCall(GramMatGetEntries(A, n, all, n, all, S, n));
  PetscCallBLAS("BLASgemm", BLASgemm_("N", "N", &ld, &ld, &ld, &one, W, &ld, S, &ld, &zero, WS, &ld));
  *largest = 0;
  for (PetscInt j = 0; j < n; j++) {
    for (PetscInt i = 0; i < n; i++) *largest = PetscMax(*largest, PetscAbsReal(WS[j * n + i] - (i == j)));
  }
  PetscCall(PetscFree3(S, WS, all));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* exact: M has to be K + alpha I */
static PetscErrorCode Check(const char *what, Mat A, const char *rank, const char *neighbors, PetscBool exact)
{
  PetscReal   *W, skew = 0, off = 0, expected = 0;
  PetscInt     n, r, m;
  GramLRVInfo  made;
  PetscBLASInt ld, info;
  PC           pc;

  PetscFunctionBegin;
  PetscCall(MatGetSize(A, &n, NULL));
  PetscCall(PetscBLASIntCast(n, &ld));
  PetscCall(Preconditioner(A, rank, neighbors, &pc));
  PetscCall(GramPCLRVGetInfo(pc, &made));
  r = made.rank;
  m = made.neighbors;
  if (rank && isdigit(rank[0]))
    CHECK(r <= PetscMin(n, atoi(rank)), "%s: rank %d, asked for %s", what, (int)r, rank);
  if (neighbors)
    CHECK(m == PetscMin(n - 1, atoi(neighbors)), "%s: %d neighbours, asked for %s", what, (int)m, neighbors);
  PetscCall(PetscMalloc1(n * n, &W));
  PetscCall(Assemble(A, pc, n, W));
  for (PetscInt j = 0; j < n; j++) {
    for (PetscInt i = 0; i < n; i++) skew = PetscMax(skew, PetscAbsReal(W[j * n + i] - W[i * n + j]));
  }
  /* entries of G' G go up to 1 / alpha, the condition of C to 1 + trace(K) / alpha */
  CHECK(skew <= PETSC_MACHINE_EPSILON * (1 + 4 * (PetscReal)n / made.alpha) / made.alpha,
        "%s: not symmetric by %.2e", what, skew);
  PetscCall(OffIdentity(A, n, W, &off));
  if (exact) CHECK(off <= 1e-8, "%s: M^-1 (K + alpha I) is not I by %.2e", what, off);
  PetscCallBLAS("LAPACKpotrf", LAPACKpotrf_("U", &ld, W, &ld, &info));
  CHECK(info == 0, "%s: M^-1 is not positive definite, in row %d", what, (int)info);
  for (PetscInt i = 0; i < n; i++) expected -= 2 * PetscLogReal(W[i * n + i]);
  CHECK(PetscAbsReal(made.logdet - expected) <= 1e-9 * n, "%s: log det %.15g, of the matrix %.15g", what,
        made.logdet, expected);
  PetscCall(PetscFree(W));
  PetscCall(PCDestroy(&pc));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Everything chosen here may grow, up to its limits; what was chosen by options may not. */
static PetscErrorCode Growth(const GramKernel *kernel, GramBackend backend)
{
  const PetscInt expected[][2] = {{128, 30}, {150, 60}, {150, 120}};
  GramPoints     X;
  GramLRVInfo    info;
  PetscBool      can;
  Mat            A;
  PC             pc;

  PetscFunctionBegin;
  PetscCall(Problem(300, PETSC_FALSE, kernel, backend, &X, &A));
  PetscCall(Preconditioner(A, NULL, NULL, &pc));
  for (int k = 0; k < 3; k++) {
    PetscCall(GramPCLRVGetInfo(pc, &info));
    CHECK(info.rank == expected[k][0] && info.neighbors == expected[k][1],
          "grown %d times: rank %d, %d neighbours", k, (int)info.rank, (int)info.neighbors);
    PetscCall(GramPCLRVCanGrow(pc, &can));
    CHECK(can == (k < 2), "grown %d times: can%s grow", k, can ? "" : "not");
    PetscCall(GramPCLRVGrow(pc));
    PetscCall(PCSetUp(pc));
  }
  PetscCall(PCDestroy(&pc));
  PetscCall(Preconditioner(A, "20", NULL, &pc));
  PetscCall(GramPCLRVCanGrow(pc, &can));
  CHECK(!can, "a chosen rank can grow");
  PetscCall(PCDestroy(&pc));
  PetscCall(MatDestroy(&A));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *rank, *neighbors;
    PetscBool   exact;
  } choices[] = {{NULL, NULL, PETSC_FALSE}, {"0", "0", PETSC_FALSE},    {"0", "10", PETSC_FALSE},
                 {"0", NULL, PETSC_FALSE},  {"20", "0", PETSC_FALSE},   {"20", "10", PETSC_FALSE},
                 {NULL, "0", PETSC_FALSE},  {"auto", "5", PETSC_FALSE}, {"120", "0", PETSC_TRUE},
                 {"0", "119", PETSC_TRUE},  {"20", "119", PETSC_TRUE},  {"1000", "1000", PETSC_TRUE}};
  static const char *const types[] = {"exponential", "matern52", "gaussian"};
  GramBackend              backend;
  GramPoints               X;
  PetscBool                found;
  Mat                      A;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_DOUBLE, &backend));
  for (int k = 0; k < 3; k++) {
    GramKernel kernel = {.dim = 2, .amplitude = 2, .alpha = 1e-3, .length_scale = {0.3, 0.2}};

    PetscCall(GramKernelSetType(&kernel, types[k], NAN, &found));
    for (int twice = 0; twice < 2; twice++) {
      PetscCall(Problem(120, (PetscBool)twice, &kernel, backend, &X, &A));
      for (size_t c = 0; c < PETSC_STATIC_ARRAY_LENGTH(choices); c++) {
        char what[80];

        PetscCall(PetscSNPrintf(what, sizeof what, "%s%s, rank %s, neighbours %s", types[k],
                                twice ? ", points twice" : "",
                                choices[c].rank ? choices[c].rank : "by default",
                                choices[c].neighbors ? choices[c].neighbors : "by default"));
        PetscCall(Check(what, A, choices[c].rank, choices[c].neighbors, choices[c].exact));
      }
      PetscCall(MatDestroy(&A));
      PetscCall(GramPointsDestroy(&X));
    }
    for (PetscInt n = 1; n <= 3; n += 2) { /* fewer points than ranks */
      char what[80];

      PetscCall(PetscSNPrintf(what, sizeof what, "%s, %d points", types[k], (int)n));
      PetscCall(Problem(n, PETSC_FALSE, &kernel, backend, &X, &A));
      PetscCall(Check(what, A, NULL, NULL, PETSC_TRUE));
      PetscCall(Check(what, A, "0", "0", PETSC_FALSE));
      PetscCall(Check(what, A, "0", "30", (PetscBool)(n > 1)));
      PetscCall(Check(what, A, "30", "0", PETSC_TRUE));
      PetscCall(MatDestroy(&A));
      PetscCall(GramPointsDestroy(&X));
    }
    if (k == 0) PetscCall(Growth(&kernel, backend));
  }
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
