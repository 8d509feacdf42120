#include "residual.h"

PetscErrorCode GramResidualCreate(Mat A, Mat B, GramResidual *res)
{
  PetscObject inner;

  PetscFunctionBegin;
  *res = (GramResidual){.A = A, .of = A};
  PetscCall(PetscObjectQuery((PetscObject)A, GRAM_MAT_INNER, &inner));
  if (inner) res->of = (Mat)inner;
  PetscCall(MatGetSize(B, NULL, &res->q));
  PetscCall(PetscCalloc3(res->q, &res->b, res->q, &res->r, res->q, &res->x));
  for (PetscInt c = 0; c < res->q; c++) {
    Vec b;

    PetscCall(MatDenseGetColumnVecRead(B, c, &b));
    PetscCall(VecNorm(b, NORM_2, res->b + c));
    PetscCall(MatDenseRestoreColumnVecRead(B, c, &b));
    res->r[c] = res->b[c];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramResidualClear(GramResidual *res)
{
  PetscFunctionBegin;
  PetscCall(PetscFree3(res->b, res->r, res->x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* v = 1 for values, 0 for derivatives */
static PetscErrorCode Ones(Mat A, PetscReal *v)
{
  PetscInt b, rows;

  PetscFunctionBegin;
  PetscCall(GramMatGetBlock(A, &b, NULL, NULL));
  PetscCall(MatGetLocalSize(A, &rows, NULL));
  for (PetscInt i = 0; i < rows; i++) v[i] = i % b == 0;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* AX = A [X, 1], the ones where ||A||_1 is not known yet and is A's own */
static PetscErrorCode Product(GramResidual *res, PetscInt n, Mat X, Mat *AX)
{
  const PetscInt   width = res->norm_A == 0 && res->of == res->A ? n + 1 : n;
  PetscInt         rows, lda, ldx;
  const PetscReal *x;
  PetscReal       *v;
  Mat              V;
  Vec              ones;

  PetscFunctionBegin;
  if (width == n) {
    PetscCall(MatMatMult(res->A, X, MAT_INITIAL_MATRIX, PETSC_DEFAULT, AX));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(MatGetLocalSize(res->A, &rows, NULL));
  PetscCall(MatCreateDense(PetscObjectComm((PetscObject)res->A), rows, PETSC_DECIDE, PETSC_DETERMINE, width,
                           NULL, &V));
  PetscCall(MatDenseGetLDA(V, &lda));
  PetscCall(MatDenseGetArrayWrite(V, &v));
  PetscCall(MatDenseGetLDA(X, &ldx));
  PetscCall(MatDenseGetArrayRead(X, &x));
  for (PetscInt c = 0; c < n; c++)
    PetscCall(PetscArraycpy(v + GramAt(c, lda, 0), x + GramAt(c, ldx, 0), rows));
  PetscCall(MatDenseRestoreArrayRead(X, &x));
  PetscCall(Ones(res->A, v + GramAt(n, lda, 0)));
  PetscCall(MatDenseRestoreArrayWrite(V, &v));
  PetscCall(MatMatMult(res->A, V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, AX));
  PetscCall(MatDenseGetColumnVecRead(*AX, n, &ones));
  PetscCall(VecNorm(ones, NORM_INFINITY, &res->norm_A));
  PetscCall(MatDenseRestoreColumnVecRead(*AX, n, &ones));
  PetscCall(MatDestroy(&V));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramResidualUpdate(GramResidual *res, PetscInt n, const PetscInt columns[], Mat B, Mat X,
                                  Mat R)
{
  Mat AX;

  PetscFunctionBegin;
  if (!n) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(Product(res, n, X, &AX));
  PetscCall(GramMatMatchPanel(res->A, AX));
  for (PetscInt c = 0; c < n; c++) {
    const PetscInt column = columns ? columns[c] : c;
    Vec            b, ax, r, x;

    PetscCall(MatDenseGetColumnVecRead(X, c, &x));
    PetscCall(VecNorm(x, NORM_2, res->x + column));
    PetscCall(MatDenseRestoreColumnVecRead(X, c, &x));
    PetscCall(MatDenseGetColumnVecRead(B, c, &b));
    PetscCall(MatDenseGetColumnVecRead(AX, c, &ax));
    PetscCall(MatDenseGetColumnVecWrite(R, c, &r));
    PetscCall(VecWAXPY(r, -1, ax, b)); /* r = b - A x */
    PetscCall(VecNorm(r, NORM_2, res->r + column));
    PetscCall(MatDenseRestoreColumnVecWrite(R, c, &r));
    PetscCall(MatDenseRestoreColumnVecRead(AX, c, &ax));
    PetscCall(MatDenseRestoreColumnVecRead(B, c, &b));
  }
  PetscCall(MatDestroy(&AX));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramResidualNormA(GramResidual *res, PetscReal *norm_A)
{
  PetscReal *v;
  Vec        ones, sums;

  PetscFunctionBegin;
  if (res->norm_A == 0) {
    PetscCall(MatCreateVecs(res->of, &ones, &sums));
    PetscCall(VecGetArrayWrite(ones, &v));
    PetscCall(Ones(res->of, v));
    PetscCall(VecRestoreArrayWrite(ones, &v));
    PetscCall(MatMult(res->of, ones, sums));
    PetscCall(VecNorm(sums, NORM_INFINITY, &res->norm_A));
    PetscCall(VecDestroy(&ones));
    PetscCall(VecDestroy(&sums));
  }
  *norm_A = res->norm_A;
  PetscFunctionReturn(PETSC_SUCCESS);
}
