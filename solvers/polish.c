#include <math.h>

#include <petsctao.h>

#include "polish.h"
#include "progress.h"
#include "share.h"

typedef struct {
  MPI_Comm                comm;
  GramKernel              kernel;
  GramBackend             backend;
  GramMean                mean;
  PetscInt                block, dim, n, n_local;
  PetscReal               h;     /* spacing, the unit of variables */
  PetscReal               twice; /* I */
  const GramSolveControl *control;
  PetscInt                most; /* iterations */
  PetscBool               stopped;
  PetscReal               first; /* F of the first evaluation; NaN before */
} Problem;

/* (K + alpha I) w = z on the curve of X; F = I - 2 z'w + w'(K + alpha I) w */
static PetscErrorCode Weights(const Problem *p, GramPoints X, PetscInt n_local, const PetscReal *z, Mat *W,
                              PetscReal *F)
{
  const PetscReal *w;
  PetscReal       *y;
  long double      sum = 0;
  GramBackend      exact;
  GramReport       report;
  Mat              A, A_true, Z, P;
  const PetscReal *Aw;

  PetscFunctionBegin;
  PetscCall(GramMatCreate(X, &p->kernel, p->backend, &A));
  PetscCall(GramTrueOperatorCreate(X, &p->kernel, p->backend, A, &exact, &A_true));
  PetscCall(MatCreateDense(p->comm, n_local, PETSC_DECIDE, p->n, 1, NULL, &Z));
  PetscCall(GramMatMatchPanel(A, Z));
  PetscCall(MatDenseGetArrayWrite(Z, &y));
  PetscCall(PetscArraycpy(y, z, n_local));
  PetscCall(MatDenseRestoreArrayWrite(Z, &y));
  PetscCall(GramSolve(A, A_true, Z, NULL, W, &report));
  PetscCall(MatMatMult(A_true, *W, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &P));
  PetscCall(MatDenseGetArrayRead(*W, &w));
  PetscCall(MatDenseGetArrayRead(P, &Aw));
  for (PetscInt i = 0; i < n_local; i++) sum += (long double)w[i] * (2 * (long double)z[i] - Aw[i]);
  PetscCall(MatDenseRestoreArrayRead(P, &Aw));
  PetscCall(MatDenseRestoreArrayRead(*W, &w));
  PetscCall(MatDestroy(&P));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_LONG_DOUBLE, MPI_SUM, p->comm));
  *F = (PetscReal)(p->twice - sum);
  PetscCall(GramReportClear(&report));
  PetscCall(MatDestroy(&Z));
  PetscCall(MatDestroy(&A_true));
  PetscCall(MatDestroy(&A));
  PetscCall(GramBackendDestroy(&exact));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Evaluate(Tao tao, Vec u, PetscReal *F, Vec G, void *ctx)
{
  Problem         *p = (Problem *)ctx;
  const PetscReal *a, *w, *k;
  PetscReal       *x, *z, *dz, *curve, *g;
  PetscInt         n_curve, ldk;
  GramPoints       X;
  Mat              W, K, P;

  PetscFunctionBegin;
  (void)tao;
  PetscCall(PetscMalloc1(GramAt(p->n_local, p->dim, 0), &x));
  PetscCall(VecGetArrayRead(u, &a));
  for (PetscInt i = 0; i < p->n_local * p->dim; i++) x[i] = a[i] * p->h;
  PetscCall(VecRestoreArrayRead(u, &a));
  PetscCall(GramPointsCreate(p->comm, p->dim, p->n_local, x, p->kernel.length_scale, p->block, &X));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_curve, NULL));
  PetscCall(PetscMalloc3(n_curve, &z, GramAt(n_curve, p->dim, 0), &dz, GramAt(n_curve, p->dim, 0), &curve));
  PetscCall(GramMeanEvaluate(p->mean, X, z, dz));
  PetscCall(Weights(p, X, n_curve, z, &W, F));
  if (PetscIsNanReal(p->first)) p->first = PetscMax(*F, GRAM_POLISH_LEAST * p->twice);
  *F /= p->first;

  PetscCall(GramMatCreateCross(X, GRAM_GRADIENT, X, &p->kernel, p->backend, &K));
  PetscCall(MatMatMult(K, W, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &P)); /* sum_j w_j grad_1 k(x_i, x_j) */
  PetscCall(MatDenseGetLDA(P, &ldk));
  PetscCall(MatDenseGetArrayRead(P, &k));
  PetscCall(MatDenseGetArrayRead(W, &w));
  for (PetscInt i = 0; i < n_curve; i++) {
    for (PetscInt c = 0; c < p->dim; c++) {
      const size_t at = GramAt(i, p->dim, c);

      curve[at] = 2 * w[i] * (k[at] - dz[at]) * p->h / p->first;
    }
  }
  PetscCall(MatDenseRestoreArrayRead(W, &w));
  PetscCall(MatDenseRestoreArrayRead(P, &k));
  PetscCall(VecGetArrayWrite(G, &g));
  PetscCall(GramPointsToInput(X, p->dim, curve, g));
  PetscCall(VecRestoreArrayWrite(G, &g));
  PetscCall(MatDestroy(&P));
  PetscCall(MatDestroy(&K));
  PetscCall(MatDestroy(&W));
  PetscCall(PetscFree3(z, dz, curve));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* after each iteration: nothing is left to do, or someone wants it to end */
static PetscErrorCode Watch(Tao tao, void *ctx)
{
  Problem    *p       = (Problem *)ctx;
  GramRequest request = GRAM_GO_ON;
  PetscReal   F;
  PetscInt    iteration;
  char        note[64];

  PetscFunctionBegin;
  if (p->control) PetscCall(p->control->request(p->control->ctx, &request));
  p->stopped = (PetscBool)(request == GRAM_STOP);
  PetscCall(TaoGetSolutionStatus(tao, NULL, &F, NULL, NULL, NULL, NULL));
  PetscCall(TaoGetIterationNumber(tao, &iteration));
  PetscCall(PetscSNPrintf(note, sizeof note, "iteration %" PetscInt_FMT ", wce^2 %.3e", iteration,
                          (double)(F * p->first)));
  PetscCall(GramProgressUpdate((PetscReal)iteration / (PetscReal)p->most, note));
  if (p->stopped || !(F * p->first > GRAM_POLISH_LEAST * p->twice))
    PetscCall(TaoSetConvergedReason(tao, TAO_CONVERGED_USER));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* v [n_local][dim] = a bound, or x */
static PetscErrorCode Fill(const Problem *p, const PetscReal *from, PetscBool bound, Vec v)
{
  PetscReal *a;

  PetscFunctionBegin;
  PetscCall(VecGetArrayWrite(v, &a));
  for (PetscInt i = 0; i < p->n_local * p->dim; i++) a[i] = from[bound ? i % p->dim : i] / p->h;
  PetscCall(VecRestoreArrayWrite(v, &a));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPolish(MPI_Comm comm, const GramKernel *kernel, GramBackend backend, PetscInt block,
                          GramMean mean, const PetscReal lower[], const PetscReal upper[],
                          PetscInt iterations, PetscInt n, PetscReal *x, const GramSolveControl *control,
                          PetscReal *before, PetscReal *after, PetscInt *taken, PetscBool *stopped)
{
  const PetscInt   dim = kernel->dim;
  const PetscReal *a;
  PetscReal        volume = 1;
  PetscInt         first  = 0;
  Problem          p      = {.comm    = comm,
                             .kernel  = *kernel,
                             .backend = backend,
                             .mean    = mean,
                             .block   = block,
                             .dim     = dim,
                             .n       = n,
                             .control = control,
                             .most    = PetscMax(iterations, 1),
                             .first   = NAN};
  Vec              u, low, high;
  Tao              tao;

  PetscFunctionBegin;
  p.kernel.alpha = PetscMax(kernel->alpha, GRAM_POLISH_ALPHA * kernel->amplitude * kernel->amplitude);
  PetscCall(GramMeanGetDouble(mean, &p.twice));
  for (PetscInt k = 0; k < dim; k++) volume *= upper[k] - lower[k];
  p.h = PetscPowReal(volume / (PetscReal)n, 1 / (PetscReal)dim);
  PetscCall(GramShare(comm, n, &first, &p.n_local));
  PetscCall(VecCreateMPI(comm, p.n_local * dim, PETSC_DETERMINE, &u));
  PetscCall(VecDuplicate(u, &low));
  PetscCall(VecDuplicate(u, &high));
  PetscCall(Fill(&p, x + GramAt(first, dim, 0), PETSC_FALSE, u));
  PetscCall(Fill(&p, lower, PETSC_TRUE, low));
  PetscCall(Fill(&p, upper, PETSC_TRUE, high));
  PetscCall(TaoCreate(comm, &tao));
  PetscCall(TaoSetType(tao, TAOBLMVM));
  PetscCall(TaoSetSolution(tao, u));
  PetscCall(TaoSetObjectiveAndGradient(tao, NULL, Evaluate, &p));
  PetscCall(TaoSetVariableBounds(tao, low, high));
  PetscCall(TaoSetTolerances(tao, 0, 0, 0));
  PetscCall(TaoSetMaximumIterations(tao, iterations));
  PetscCall(TaoSetMaximumFunctionEvaluations(tao, 10 * iterations + 10));
  PetscCall(TaoSetMonitor(tao, Watch, &p, NULL));
  PetscCall(TaoSetFromOptions(tao)); /* -tao_* */
  PetscCall(TaoSolve(tao));
  PetscCall(TaoGetIterationNumber(tao, taken));
  PetscCall(TaoGetSolutionStatus(tao, NULL, after, NULL, NULL, NULL, NULL));
  *before = p.first;
  *after *= p.first;
  *stopped = p.stopped;

  PetscCall(VecGetArrayRead(u, &a));
  PetscCall(GramAllGather(comm, p.n_local, dim, a, x));
  PetscCall(VecRestoreArrayRead(u, &a));
  for (PetscInt i = 0; i < n * dim; i++)
    x[i] = PetscMin(PetscMax(x[i] * p.h, lower[i % dim]), upper[i % dim]);
  PetscCall(TaoDestroy(&tao));
  PetscCall(VecDestroy(&high));
  PetscCall(VecDestroy(&low));
  PetscCall(VecDestroy(&u));
  PetscFunctionReturn(PETSC_SUCCESS);
}
