#include <math.h>

#include "loo.h"

#include <petscblaslapack.h> /* does not include what it needs */

#define PROBES      30
#define SEED_PROBES 11
#define FORM_TO     1e-6 /* of the quadratic form of a probe */

/* ---- exact */

/* E [n_local][q] = Z' of the unit vectors of rows [q] */
static PetscErrorCode Units(GramTail tail, const PetscInt rows[], Mat E)
{
  PetscInt   start, end, q, ld;
  PetscReal *e;

  PetscFunctionBegin;
  PetscCall(MatZeroEntries(E));
  PetscCall(MatGetOwnershipRange(E, &start, &end));
  PetscCall(MatGetSize(E, NULL, &q));
  PetscCall(MatDenseGetLDA(E, &ld));
  PetscCall(MatDenseGetArray(E, &e));
  for (PetscInt c = 0; c < q; c++) {
    if (rows[c] >= start && rows[c] < end) e[GramAt(c, ld, rows[c] - start)] = 1;
  }
  PetscCall(MatDenseRestoreArray(E, &e));
  if (tail) PetscCall(GramTailProject(tail, E));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* blocks [q][b]: of column c the rows of its own point in E' X, q a multiple of b */
static PetscErrorCode Blocks(Mat E, Mat X, PetscInt b, PetscReal *blocks)
{
  PetscInt         n, q, lde, ldx;
  PetscMPIInt      count;
  const PetscReal *e, *x;

  PetscFunctionBegin;
  PetscCall(MatGetLocalSize(E, &n, NULL));
  PetscCall(MatGetSize(E, NULL, &q));
  PetscCall(PetscMPIIntCast(q * b, &count));
  PetscCall(MatDenseGetLDA(E, &lde));
  PetscCall(MatDenseGetLDA(X, &ldx));
  PetscCall(MatDenseGetArrayRead(E, &e));
  PetscCall(MatDenseGetArrayRead(X, &x));
  for (PetscInt c = 0; c < q; c++) {
    for (PetscInt p = 0; p < b; p++) {
      const PetscReal *ec = e + GramAt(c - c % b + p, lde, 0), *xc = x + GramAt(c, ldx, 0);
      PetscReal        sum = 0;

      for (PetscInt i = 0; i < n; i++) sum += ec[i] * xc[i];
      blocks[GramAt(c, b, p)] = sum;
    }
  }
  PetscCall(MatDenseRestoreArrayRead(X, &x));
  PetscCall(MatDenseRestoreArrayRead(E, &e));
  PetscCallMPI(
      MPI_Allreduce(MPI_IN_PLACE, blocks, count, MPIU_REAL, MPI_SUM, PetscObjectComm((PetscObject)E)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a = block^-1 a, block [b][b] overwritten: symmetric, and definite but for rounding */
static PetscErrorCode BlockSolve(PetscInt b, PetscReal *block, PetscReal *a)
{
  PetscBLASInt size, one = 1, info, *pivots;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(b, &size));
  PetscCall(PetscMalloc1(b, &pivots));
  PetscCallBLAS("LAPACKgesv", LAPACKgesv_(&size, &one, block, &size, pivots, a, &size, &info));
  if (info) a[0] = NAN;
  PetscCall(PetscFree(pivots));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Exact(GramSolver solver, PetscInt b, Mat C, GramLeaveOneOut *loo)
{
  const PetscInt   step = PetscMax(1, GRAM_INVERSE_COLUMNS / b) * b; /* whole points */
  PetscInt         N, n, start, end, q, ldc, *rows;
  const PetscReal *c;
  PetscReal       *blocks, *forms, *errors, *a;
  GramTail         tail;
  Mat              B, E, X;

  PetscFunctionBegin;
  PetscCall(GramSolverGetReduced(solver, &tail, &B));
  PetscCall(MatGetSize(C, &N, &q));
  PetscCall(MatGetOwnershipRange(C, &start, &end));
  n = end - start;
  PetscCall(PetscMalloc1(GramAt(n / b, q, 0), &loo->value));
  if (b > 1) PetscCall(PetscMalloc1(n / b, &loo->block));
  PetscCall(PetscMalloc5(GramAt(step, b, 0), &blocks, step, &rows, step, &forms, step, &errors, b, &a));
  PetscCall(MatDenseGetLDA(C, &ldc));
  PetscCall(MatDenseGetArrayRead(C, &c));
  for (PetscInt first = 0; first < N; first += step) {
    const PetscInt width = PetscMin(step, N - first);

    PetscCall(MatCreateDense(PetscObjectComm((PetscObject)C), n, PETSC_DECIDE, N, width, NULL, &E));
    for (PetscInt k = 0; k < width; k++) rows[k] = first + k;
    PetscCall(Units(tail, rows, E));
    PetscCall(MatDuplicate(E, MAT_DO_NOT_COPY_VALUES, &X));
    PetscCall(GramSolverInverse(solver, E, NULL, NULL, X, forms, errors));
    PetscCall(Blocks(E, X, b, blocks));
    for (PetscInt i = PetscMax(first, start); i < PetscMin(first + width, end);
         i += b) { /* points have one owner */
      PetscReal *block = blocks + GramAt(i - first, b, 0);

      for (PetscInt r = 0; r < q; r++)
        loo->value[GramAt((i - start) / b, q, r)] = c[GramAt(r, ldc, i - start)] / block[0];
      if (b == 1) continue;
      PetscCall(PetscArraycpy(a, c + (i - start), b));
      PetscCall(BlockSolve(b, block, a));
      loo->block[(i - start) / b] = a[0];
    }
    PetscCall(MatDestroy(&E));
    PetscCall(MatDestroy(&X));
  }
  PetscCall(MatDenseRestoreArrayRead(C, &c));
  PetscCall(PetscFree5(blocks, rows, forms, errors, a));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- estimated */

static PetscErrorCode ProbeTest(void *ctx, PetscInt column, PetscReal form, PetscReal bound, PetscBool *done)
{
  PetscFunctionBegin;
  (void)ctx;
  (void)column;
  *done = (PetscBool)(bound <= FORM_TO * form);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* sum and square [n] over the probes of z (B^-1 z - M^-1 z), row by row */
static PetscErrorCode Probe(GramSolver solver, PC pc, PetscBool lrv, GramTail tail, PetscInt n,
                            PetscInt start, Mat B, PetscReal *sum, PetscReal *square)
{
  PetscReal        forms[PROBES], errors[PROBES];
  PetscInt         N, ld;
  PetscReal       *z;
  const PetscReal *x, *m;
  Mat              Z, X, M;

  PetscFunctionBegin;
  PetscCall(MatGetSize(B, &N, NULL));
  PetscCall(MatCreateDense(PetscObjectComm((PetscObject)B), n, PETSC_DECIDE, N, PROBES, NULL, &Z));
  PetscCall(MatDenseGetLDA(Z, &ld));
  PetscCall(MatDenseGetArrayWrite(Z, &z));
  for (PetscInt c = 0; c < PROBES; c++) {
    for (PetscInt i = 0; i < n; i++)
      z[GramAt(c, ld, i)] = GramHash(SEED_PROBES + (uint64_t)c, (uint64_t)start + (uint64_t)i) >> 63 ? 1 : -1;
  }
  PetscCall(MatDenseRestoreArrayWrite(Z, &z));
  if (tail) PetscCall(GramTailZeroSpecial(tail, Z));
  PetscCall(MatDuplicate(Z, MAT_DO_NOT_COPY_VALUES, &X));
  PetscCall(MatDuplicate(Z, MAT_COPY_VALUES, &M));
  PetscCall(GramSolverInverse(solver, Z, ProbeTest, NULL, X, forms, errors));
  if (lrv) PetscCall(PCMatApply(pc, Z, M));
  else PetscCall(MatZeroEntries(M));
  PetscCall(MatDenseGetArray(Z, &z));
  PetscCall(MatDenseGetArrayRead(X, &x));
  PetscCall(MatDenseGetArrayRead(M, &m));
  for (PetscInt c = 0; c < PROBES; c++) {
    for (PetscInt i = 0; i < n; i++) {
      const size_t    at = GramAt(c, ld, i);
      const PetscReal d  = z[at] * (x[at] - m[at]);

      sum[i] += d;
      square[i] += d * d;
    }
  }
  PetscCall(MatDenseRestoreArrayRead(M, &m));
  PetscCall(MatDenseRestoreArrayRead(X, &x));
  PetscCall(MatDenseRestoreArray(Z, &z));
  PetscCall(MatDestroy(&M));
  PetscCall(MatDestroy(&X));
  PetscCall(MatDestroy(&Z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the rows of the tail, for which M says nothing: diagonal by CG, without an error */
static PetscErrorCode Special(GramSolver solver, GramTail tail, Mat B, PetscReal *diagonal, PetscReal *error)
{
  const PetscInt *rows;
  PetscInt        m, start, end, N;
  PetscReal       forms[GRAM_PANEL], errors[GRAM_PANEL];
  Mat             E, X;

  PetscFunctionBegin;
  PetscCall(GramTailGetSpecial(tail, &m, &rows));
  PetscCall(MatGetSize(B, &N, NULL));
  PetscCall(MatGetOwnershipRange(B, &start, &end));
  for (PetscInt first = 0; first < m; first += GRAM_PANEL) {
    const PetscInt width = PetscMin(GRAM_PANEL, m - first);

    PetscCall(MatCreateDense(PetscObjectComm((PetscObject)B), end - start, PETSC_DECIDE, N, width, NULL, &E));
    PetscCall(Units(tail, rows + first, E));
    PetscCall(MatDuplicate(E, MAT_DO_NOT_COPY_VALUES, &X));
    PetscCall(GramSolverInverse(solver, E, ProbeTest, NULL, X, forms, errors));
    for (PetscInt c = 0; c < width; c++) {
      const PetscInt i = rows[first + c] - start;

      if (i < 0 || i >= end - start) continue;
      diagonal[i] = forms[c];
      error[i]    = 0;
    }
    PetscCall(MatDestroy(&E));
    PetscCall(MatDestroy(&X));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Estimate(GramSolver solver, PetscInt b, Mat C, GramLeaveOneOut *loo)
{
  PetscInt         n, start, end, q, ldc;
  PetscReal       *sum, *square, *diagonal;
  const PetscReal *c, *bii;
  PetscBool        lrv;
  GramTail         tail;
  Mat              B;
  Vec              d;
  PC               pc;

  PetscFunctionBegin;
  PetscCall(GramSolverGetReduced(solver, &tail, &B));
  PetscCall(GramSolverGetPC(solver, &pc));
  PetscCall(PetscObjectTypeCompare((PetscObject)pc, "lrv", &lrv));
  PetscCall(MatGetSize(C, NULL, &q));
  PetscCall(MatGetOwnershipRange(C, &start, &end));
  n = end - start;
  PetscCall(PetscMalloc1(GramAt(n / b, q, 0), &loo->value));
  PetscCall(PetscMalloc1(GramAt(n / b, q, 0), &loo->error));
  PetscCall(PetscCalloc3(n, &sum, n, &square, n, &diagonal));
  PetscCall(Probe(solver, pc, lrv, tail, n, start, B, sum, square));
  if (lrv) PetscCall(GramPCLRVGetInverseDiagonal(pc, diagonal));
  PetscCall(MatCreateVecs(B, &d, NULL));
  PetscCall(MatGetDiagonal(B, d));
  PetscCall(VecGetArrayRead(d, &bii));
  for (PetscInt i = 0; i < n; i++) {
    const PetscReal mean = sum[i] / PROBES, variance = PetscMax(square[i] / PROBES - mean * mean, 0);

    diagonal[i] = PetscMax(diagonal[i] + mean, 1 / bii[i]);
    square[i]   = PetscSqrtReal(variance / (PROBES - 1)); /* of the mean */
  }
  PetscCall(VecRestoreArrayRead(d, &bii));
  PetscCall(VecDestroy(&d));
  if (tail) PetscCall(Special(solver, tail, B, diagonal, square));
  PetscCall(MatDenseGetLDA(C, &ldc));
  PetscCall(MatDenseGetArrayRead(C, &c));
  for (PetscInt i = 0; i < n; i += b) {
    for (PetscInt r = 0; r < q; r++) {
      const size_t at = GramAt(i / b, q, r);

      loo->value[at] = c[GramAt(r, ldc, i)] / diagonal[i];
      loo->error[at] = PetscAbsReal(loo->value[at]) * square[i] / diagonal[i];
    }
  }
  PetscCall(MatDenseRestoreArrayRead(C, &c));
  PetscCall(PetscFree3(sum, square, diagonal));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramLeaveOneOutCreate(GramSolver solver, Mat C, GramLeaveOneOut *loo)
{
  GramSolveMethod method;
  PetscInt        b;
  GramTail        tail;
  Mat             B;

  PetscFunctionBegin;
  *loo = (GramLeaveOneOut){0};
  PetscCall(GramSolverGetReduced(solver, &tail, &B));
  PetscCall(GramSolverGetMethod(solver, &method));
  PetscCall(GramMatGetBlock(B, &b, NULL, NULL));
  if (method == GRAM_SOLVE_DIRECT) PetscCall(Exact(solver, b, C, loo));
  else PetscCall(Estimate(solver, b, C, loo));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramLeaveOneOutDestroy(GramLeaveOneOut *loo)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(loo->value));
  PetscCall(PetscFree(loo->block));
  PetscCall(PetscFree(loo->error));
  PetscFunctionReturn(PETSC_SUCCESS);
}
