#include "direct.h"
#include "gram_mat.h"

#define STRIP 64 /* columns evaluated at once */

struct _p_GramDirect {
  Mat        F;            /* the matrix, then its factor */
  Vec        b, x;         /* laid out as F */
  VecScatter from_A;       /* rows of A to rows of F */
};

/* One rank: the lower triangle straight into the array LAPACK will factor. */
static PetscErrorCode FillLAPACK(Mat A, Mat F)
{
  PetscInt   n, lda, *index;
  PetscReal *f;

  PetscFunctionBegin;
  PetscCall(MatGetSize(F, &n, NULL));
  PetscCall(MatDenseGetLDA(F, &lda));
  PetscCall(PetscMalloc1(n, &index));
  for (PetscInt i = 0; i < n; i++) index[i] = i;
  PetscCall(MatDenseGetArrayWrite(F, &f));
  for (PetscInt j = 0; j < n; j += STRIP) {
    PetscCall(GramMatGetEntries(A, n - j, index + j, PetscMin(STRIP, n - j), index + j, f + (size_t)j * (size_t)lda + (size_t)j, lda));
  }
  PetscCall(MatDenseRestoreArrayWrite(F, &f));
  PetscCall(PetscFree(index));
  PetscFunctionReturn(PETSC_SUCCESS);
}

#if defined(PETSC_HAVE_SCALAPACK)
/* Every rank evaluates its own block-cyclic entries on and below the diagonal: nothing travels. */
static PetscErrorCode FillScaLAPACK(Mat A, Mat F)
{
  IS              rows, cols;
  const PetscInt *row, *col;
  PetscInt        m, n;
  PetscReal      *strip;

  PetscFunctionBegin;
  PetscCall(MatGetOwnershipIS(F, &rows, &cols));
  PetscCall(ISGetLocalSize(rows, &m));
  PetscCall(ISGetLocalSize(cols, &n));
  PetscCall(ISGetIndices(rows, &row));
  PetscCall(ISGetIndices(cols, &col));
  PetscCall(PetscMalloc1((size_t)m * STRIP, &strip));
  PetscCall(MatSetOption(F, MAT_ROW_ORIENTED, PETSC_FALSE));
  for (PetscInt j = 0, i = 0; j < n; j += STRIP) { /* own rows and columns both ascend */
    const PetscInt width = PetscMin(STRIP, n - j);

    while (i < m && row[i] < col[j]) i++;
    if (i == m) break;
    PetscCall(GramMatGetEntries(A, m - i, row + i, width, col + j, strip, m - i));
    PetscCall(MatSetValues(F, m - i, row + i, width, col + j, strip, INSERT_VALUES));
  }
  PetscCall(PetscFree(strip));
  PetscCall(ISRestoreIndices(rows, &row));
  PetscCall(ISRestoreIndices(cols, &col));
  PetscCall(ISDestroy(&rows));
  PetscCall(ISDestroy(&cols));
  PetscCall(MatAssemblyBegin(F, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(F, MAT_FINAL_ASSEMBLY));
  PetscFunctionReturn(PETSC_SUCCESS);
}
#endif

/* A pivot that is not positive is an answer here, not an error: keep PETSc quiet about it. */
static PetscErrorCode Factor(Mat F, PetscBool *spd)
{
  MatFactorError error = MAT_FACTOR_NOERROR;
  PetscErrorCode ierr;

  PetscFunctionBegin;
  PetscCall(MatSetOption(F, MAT_SPD, PETSC_TRUE));
  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  ierr = MatCholeskyFactor(F, NULL, NULL);
  PetscCall(PetscPopErrorHandler());
  if (!ierr) PetscCall(MatFactorGetError(F, &error));
  *spd = (PetscBool)(!ierr && error == MAT_FACTOR_NOERROR);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectCreate(Mat A, GramDirect *direct, PetscBool *spd)
{
  MPI_Comm    comm;
  PetscMPIInt size;
  PetscInt    n;
  Vec         a;
  GramDirect  d;

  PetscFunctionBegin;
  PetscCall(PetscObjectGetComm((PetscObject)A, &comm));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(MatGetSize(A, &n, NULL));
  GramCheckResource((PetscReal)n * (PetscReal)n / size < (PetscReal)PETSC_MAX_INT, comm,
                    "solve.method direct: a rank's share of %" PetscInt_FMT " x %" PetscInt_FMT
                    " entries exceeds PETSc's integers; use more ranks or solve.method iterative",
                    n, n);
  PetscCall(PetscNew(&d));
  if (size == 1) {
    PetscCall(MatCreateSeqDense(PETSC_COMM_SELF, n, n, NULL, &d->F));
    PetscCall(FillLAPACK(A, d->F));
    PetscCall(MatAssemblyBegin(d->F, MAT_FINAL_ASSEMBLY));
    PetscCall(MatAssemblyEnd(d->F, MAT_FINAL_ASSEMBLY));
  } else {
#if defined(PETSC_HAVE_SCALAPACK)
    PetscCall(MatCreateScaLAPACK(comm, PETSC_DECIDE, PETSC_DECIDE, n, n, 0, 0, &d->F));
    PetscCall(FillScaLAPACK(A, d->F));
#else
    GramCheckResource(PETSC_FALSE, comm, "solve.method direct: this PETSc has no ScaLAPACK; use one rank");
#endif
  }
  PetscCall(Factor(d->F, spd));
  PetscCall(MatCreateVecs(d->F, &d->x, &d->b));
  PetscCall(MatCreateVecs(A, &a, NULL));
  PetscCall(VecScatterCreate(a, NULL, d->b, NULL, &d->from_A));
  PetscCall(VecDestroy(&a));
  *direct = d;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectDestroy(GramDirect *direct)
{
  PetscFunctionBegin;
  if (!*direct) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(VecScatterDestroy(&(*direct)->from_A));
  PetscCall(VecDestroy(&(*direct)->b));
  PetscCall(VecDestroy(&(*direct)->x));
  PetscCall(MatDestroy(&(*direct)->F));
  PetscCall(PetscFree(*direct));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectSolve(GramDirect d, Vec b, Vec x)
{
  PetscFunctionBegin;
  PetscCall(VecScatterBegin(d->from_A, b, d->b, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(VecScatterEnd(d->from_A, b, d->b, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(MatSolve(d->F, d->b, d->x));
  PetscCall(VecScatterBegin(d->from_A, d->x, x, INSERT_VALUES, SCATTER_REVERSE));
  PetscCall(VecScatterEnd(d->from_A, d->x, x, INSERT_VALUES, SCATTER_REVERSE));
  PetscFunctionReturn(PETSC_SUCCESS);
}
