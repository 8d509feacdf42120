static const char help[] = "Conjugate gradients on several columns do what PETSc's do on each.\n";

#include "../check.h"
#include "lrv.h"
#include "pcg.h"

#define N 400
#define Q 5

typedef struct {
  PetscReal goal[Q], last[Q];
  PetscInt  calls[Q], stop; /* stop: after so many iterations, of any column */
} Watch;

static PetscErrorCode Test(void *ctx, PetscInt column, const GramPCGState *state, KSPConvergedReason *reason)
{
  Watch *w = (Watch *)ctx;

  PetscFunctionBegin;
  CHECK(state->it == w->calls[column], "column %d: test %d at iteration %d", (int)column,
        (int)w->calls[column], (int)state->it);
  w->calls[column]++;
  w->last[column] = state->norm;
  if (state->norm <= w->goal[column]) *reason = KSP_CONVERGED_RTOL;
  else if (state->it >= w->stop) *reason = KSP_DIVERGED_ITS;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the same column by PETSc */
static PetscErrorCode Alone(Mat A, const char *pc_type, Vec b, Vec x, PetscReal rtol, PetscInt *its,
                            PetscReal *least, PetscReal *largest)
{
  KSP ksp;
  PC  pc;

  PetscFunctionBegin;
  PetscCall(KSPCreate(PETSC_COMM_WORLD, &ksp));
  PetscCall(KSPSetOperators(ksp, A, A));
  PetscCall(KSPSetType(ksp, KSPCG));
  PetscCall(KSPSetNormType(ksp, KSP_NORM_UNPRECONDITIONED));
  PetscCall(KSPSetTolerances(ksp, rtol, 0, PETSC_DEFAULT, 1000));
  PetscCall(KSPSetComputeSingularValues(ksp, PETSC_TRUE));
  PetscCall(KSPGetPC(ksp, &pc));
  PetscCall(PCSetType(pc, pc_type));
  PetscCall(KSPSolve(ksp, b, x));
  PetscCall(KSPGetIterationNumber(ksp, its));
  *least = *largest = NAN;
  if (*its) PetscCall(KSPComputeExtremeSingularValues(ksp, largest, least));
  PetscCall(KSPDestroy(&ksp));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ||b - A x|| of a column */
static PetscErrorCode ResidualNorm(Mat A, Vec b, Vec x, PetscReal *norm)
{
  Vec r;

  PetscFunctionBegin;
  PetscCall(VecDuplicate(b, &r));
  PetscCall(MatMult(A, x, r));
  PetscCall(VecAYPX(r, -1, b));
  PetscCall(VecNorm(r, NORM_2, norm));
  PetscCall(VecDestroy(&r));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Stopped on the way, with the directions kept, it goes on as if nothing had come between. */
static PetscErrorCode GoOn(Mat A, PC pc, Mat B, Watch *watch)
{
  PetscReal         rz[Q];
  GramPCGDirections directions = {.rz = rz};
  GramPCGColumn     done[Q];
  PetscInt          whole[Q], products;
  Mat               X;

  PetscFunctionBegin;
  PetscCall(MatDuplicate(B, MAT_DO_NOT_COPY_VALUES, &X));
  PetscCall(MatDuplicate(B, MAT_DO_NOT_COPY_VALUES, &directions.P));
  PetscCall(PetscArrayzero(watch->calls, Q));
  PetscCall(GramPCG(A, pc, B, X, PETSC_FALSE, NULL, Test, watch, done, &products));
  for (PetscInt c = 0; c < Q; c++) whole[c] = done[c].iterations;
  for (PetscInt stop = 1; stop < whole[1]; stop += 4) {
    PetscInt before[Q];

    PetscCall(PetscArrayzero(watch->calls, Q));
    watch->stop = stop;
    PetscCall(GramPCG(A, pc, B, X, PETSC_FALSE, &directions, Test, watch, done, &products));
    for (PetscInt c = 0; c < Q; c++) before[c] = done[c].iterations;
    PetscCall(PetscArrayzero(watch->calls, Q));
    watch->stop = 1000;
    PetscCall(GramPCG(A, pc, B, X, PETSC_TRUE, &directions, Test, watch, done, &products));
    for (PetscInt c = 0; c < Q; c++)
      CHECK(PetscAbsInt(before[c] + done[c].iterations - whole[c]) <= 1 + whole[c] / 20,
            "column %d stopped after %d iterations takes %d more, %d in all without", (int)c, (int)before[c],
            (int)done[c].iterations, (int)whole[c]);
  }
  PetscCall(MatDestroy(&directions.P));
  PetscCall(MatDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Columns of very different difficulty: 0 is smooth, 1 noise, 2 zero, 3 tiny, 4 asks for less. */
static PetscErrorCode Together(Mat A, const char *pc_type, Mat B)
{
  const PetscReal rtol[Q] = {1e-8, 1e-8, 1e-8, 1e-8, 1e-2};
  GramPCGColumn   done[Q];
  Watch           watch = {.stop = 1000};
  PetscInt        products, total = 0, fewest = PETSC_MAX_INT, most = 0;
  PC              pc;
  Mat             X;

  PetscFunctionBegin;
  PetscCall(PCCreate(PETSC_COMM_WORLD, &pc));
  PetscCall(PCSetType(pc, pc_type));
  PetscCall(PCSetOperators(pc, A, A));
  PetscCall(PCSetUp(pc));
  PetscCall(MatDuplicate(B, MAT_COPY_VALUES, &X)); /* nothing that is there may matter */
  for (PetscInt c = 0; c < Q; c++) {
    Vec b;

    PetscCall(MatDenseGetColumnVecRead(B, c, &b));
    PetscCall(VecNorm(b, NORM_2, watch.goal + c));
    watch.goal[c] *= rtol[c];
    PetscCall(MatDenseRestoreColumnVecRead(B, c, &b));
  }
  PetscCall(GramPCG(A, pc, B, X, PETSC_FALSE, NULL, Test, &watch, done, &products));
  for (PetscInt c = 0; c < Q; c++) {
    PetscReal least, largest, norm, off, size, tolerance = 1e-6;
    PetscInt  its;
    Vec       b, x, alone;

    total += done[c].iterations;
    fewest = c == 2 ? fewest : PetscMin(fewest, done[c].iterations);
    most   = PetscMax(most, done[c].iterations);
    PetscCall(MatDenseGetColumnVecRead(B, c, &b));
    PetscCall(MatDenseGetColumnVec(X, c, &x));
    PetscCall(VecDuplicate(b, &alone));
    PetscCall(Alone(A, pc_type, b, alone, rtol[c], &its, &least, &largest));
    CHECK(done[c].reason == KSP_CONVERGED_RTOL, "%s, column %d: reason %d", pc_type, (int)c,
          (int)done[c].reason);
    CHECK(PetscAbsInt(done[c].iterations - its) <= (its > 30), "%s, column %d: %d iterations, PETSc %d",
          pc_type, (int)c, (int)done[c].iterations, (int)its);
    PetscCall(ResidualNorm(A, b, x, &norm));
    CHECK(norm <= 1.01 * watch.goal[c] && PetscAbsReal(norm - watch.last[c]) <= 0.01 * watch.goal[c],
          "%s, column %d: residual %.3e, by recursion %.3e, goal %.3e", pc_type, (int)c, norm, watch.last[c],
          watch.goal[c]);
    PetscCall(VecAXPY(alone, -1, x));
    PetscCall(VecNorm(alone, NORM_2, &off));
    PetscCall(VecNorm(x, NORM_2, &size));
    CHECK(off <= 1e-5 * size || rtol[c] > 1e-3, "%s, column %d: off by %.1e", pc_type, (int)c, off / size);
    if (its > 15) tolerance = 1e-3; /* by then rounding has its way in either */
    if (its)
      CHECK(PetscAbsReal(done[c].eigenvalue_min - least) <= tolerance * least &&
                PetscAbsReal(done[c].eigenvalue_max - largest) <= tolerance * largest,
            "%s, column %d: eigenvalues %.10g ... %.10g, PETSc %.10g ... %.10g", pc_type, (int)c,
            done[c].eigenvalue_min, done[c].eigenvalue_max, least, largest);
    if (!its) CHECK(PetscIsNanReal(done[c].eigenvalue_min), "%s: eigenvalues of nothing", pc_type);
    PetscCall(VecDestroy(&alone));
    PetscCall(MatDenseRestoreColumnVec(X, c, &x));
    PetscCall(MatDenseRestoreColumnVecRead(B, c, &b));
  }
  CHECK(products == total, "%s: %d products, %d iterations of all columns", pc_type, (int)products,
        (int)total);
  CHECK(done[2].iterations == 0 && fewest < most, "%s: %d to %d iterations", pc_type, (int)fewest, (int)most);

  /* stopped on the way, and on from there */
  PetscCall(PetscArrayzero(watch.calls, Q));
  watch.stop = 2;
  PetscCall(GramPCG(A, pc, B, X, PETSC_FALSE, NULL, Test, &watch, done, &products));
  CHECK(done[1].reason == KSP_DIVERGED_ITS && done[1].iterations == 2, "%s: reason %d after %d iterations",
        pc_type, (int)done[1].reason, (int)done[1].iterations);
  PetscCall(PetscArrayzero(watch.calls, Q));
  watch.stop = 1000;
  PetscCall(GramPCG(A, pc, B, X, PETSC_TRUE, NULL, Test, &watch, done, &products));
  total = Q;
  for (PetscInt c = 0; c < Q; c++) {
    total += done[c].iterations;
    CHECK(done[c].reason == KSP_CONVERGED_RTOL, "%s, continued, column %d: reason %d", pc_type, (int)c,
          (int)done[c].reason);
  }
  CHECK(products == total, "%s, continued: %d products, expected %d", pc_type, (int)products, (int)total);
  PetscCall(MatDestroy(&X));
  PetscCall(GoOn(A, pc, B, &watch));
  PetscCall(PCDestroy(&pc));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A - 2 I has negative eigenvalues: a column that meets one ends, and leaves the last iterate before it */
static PetscErrorCode Indefinite(Mat A, Mat B)
{
  GramPCGColumn done[Q];
  Watch         watch = {.stop = 1000};
  PetscInt      products;
  PC            pc;
  Mat           X;

  PetscFunctionBegin;
  PetscCall(PCCreate(PETSC_COMM_WORLD, &pc));
  PetscCall(PCSetType(pc, PCNONE));
  PetscCall(PCSetOperators(pc, A, A));
  PetscCall(MatDuplicate(B, MAT_DO_NOT_COPY_VALUES, &X));
  PetscCall(MatShift(A, -2));
  PetscCall(GramPCG(A, pc, B, X, PETSC_FALSE, NULL, Test, &watch, done, &products));
  CHECK(done[1].reason == KSP_DIVERGED_INDEFINITE_MAT, "indefinite: reason %d", (int)done[1].reason);
  CHECK(done[2].reason == KSP_CONVERGED_RTOL, "indefinite, b = 0: reason %d", (int)done[2].reason);
  PetscCall(MatShift(A, 2));
  PetscCall(MatDestroy(&X));
  PetscCall(PCDestroy(&pc));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  static const char *const types[] = {PCNONE, PCJACOBI, "lrv"};
  GramKernel               kernel  = {.dim = 2, .amplitude = 1, .alpha = 1, .length_scale = {0.1, 0.1}};
  GramBackend              backend;
  GramPoints               points;
  PetscMPIInt              rank;
  PetscBool                found;
  PetscReal               *x, *y;
  Mat                      A, B;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_DOUBLE, &backend));
  PetscCall(GramKernelSetType(&kernel, "matern32", NAN, &found));
  PetscCall(GramPCRegister());
  for (PetscInt n = N; n > 0; n = n == N ? 3 : 0) { /* and fewer points than ranks */
    PetscCall(PetscMalloc2(n * 2, &x, n * Q, &y));
    for (PetscInt i = 0; i < 2 * n; i++) x[i] = CheckUniform(1, (uint64_t)i);
    for (PetscInt i = 0; i < n; i++) {
      y[i * Q]     = PetscCosReal(3 * x[2 * i]);
      y[i * Q + 1] = CheckUniform(2, (uint64_t)i) - 0.5;
      y[i * Q + 2] = 0;
      y[i * Q + 3] = 1e-150 * (CheckUniform(3, (uint64_t)i) - 0.5);
      y[i * Q + 4] = y[i * Q + 1];
    }
    PetscCall(GramPointsCreate(PETSC_COMM_WORLD, 2, rank ? 0 : n, x, kernel.length_scale, 1, &points));
    PetscCall(GramMatCreate(points, &kernel, backend, &A));
    PetscCall(GramPanelFromInput(points, 1, Q, y, &B));
    if (n == N) {
      for (int k = 0; k < 3; k++) PetscCall(Together(A, types[k], B));
      PetscCall(Indefinite(A, B));
    } else {
      GramPCGColumn done[Q];
      Watch         watch = {.stop = n + 1};
      PetscInt      products;
      PC            pc;
      Mat           X;

      PetscCall(PCCreate(PETSC_COMM_WORLD, &pc));
      PetscCall(PCSetType(pc, "lrv"));
      PetscCall(PCSetOperators(pc, A, A));
      PetscCall(MatDuplicate(B, MAT_DO_NOT_COPY_VALUES, &X));
      for (PetscInt c = 0; c < Q; c++) watch.goal[c] = c == 3 ? 1e-160 : 1e-10;
      PetscCall(GramPCG(A, pc, B, X, PETSC_FALSE, NULL, Test, &watch, done, &products));
      for (PetscInt c = 0; c < Q; c++)
        CHECK(done[c].reason == KSP_CONVERGED_RTOL, "3 points, column %d: reason %d", (int)c,
              (int)done[c].reason);
      PetscCall(MatDestroy(&X));
      PetscCall(PCDestroy(&pc));
    }
    PetscCall(MatDestroy(&B));
    PetscCall(MatDestroy(&A));
    PetscCall(GramPointsDestroy(&points));
    PetscCall(PetscFree2(x, y));
  }
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
