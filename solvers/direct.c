#include "direct.h"
#include "gram_mat.h"

#define STRIP 64 /* columns evaluated at once */

struct _p_GramDirect {
  MPI_Comm     active;        /* the ranks that hold the matrix; MPI_COMM_NULL on the others */
  Mat          F;             /* the matrix, then its factor; NULL on ranks that are not active */
  Vec          b, x;          /* laid out as F; likewise */
  PetscMPIInt *counts, *from; /* rows of F on each rank of A's communicator, and the first of them */
  VecScatter   gather;        /* a Vec of A to all its rows on every rank */
  Vec          all;
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
    PetscCall(GramMatGetEntries(A, n - j, index + j, PetscMin(STRIP, n - j), index + j,
                                f + (size_t)j * (size_t)lda + (size_t)j, lda));
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
  PetscFunctionReturn(PETSC_SUCCESS);
}
#endif

/* A pivot that is not positive is an answer here, not an error: keep PETSc quiet about it. */
static PetscErrorCode Factor(Mat F, PetscBool *spd)
{
  MatFactorError error = MAT_FACTOR_NOERROR;
  PetscErrorCode ierr;

  PetscFunctionBegin;
  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  ierr = MatCholeskyFactor(F, NULL, NULL);
  PetscCall(PetscPopErrorHandler());
  if (!ierr) PetscCall(MatFactorGetError(F, &error));
  if (ierr != PETSC_ERR_MAT_CH_ZRPVT && ierr != PETSC_ERR_LIB)
    PetscCall(ierr); /* LAPACK's and ScaLAPACK's info > 0 */
  *spd = (PetscBool)(!ierr && error == MAT_FACTOR_NOERROR);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* MATSCALAPACK wants equal local sizes but for the last rank: as many ranks as allow that. */
static PetscMPIInt ActiveRanks(PetscInt n, PetscMPIInt size)
{
  while (size > 1 && (PetscInt64)(size - 1) * ((n + size - 1) / size) >= n) size--;
  return size;
}

static PetscErrorCode FactorActive(Mat A, PetscInt n, PetscMPIInt ranks, GramDirect d, PetscBool *spd)
{
  PetscFunctionBegin;
  if (ranks == 1) {
    PetscCall(MatCreateSeqDense(d->active, n, n, NULL, &d->F));
    PetscCall(MatSetOption(d->F, MAT_SPD, PETSC_TRUE)); /* potrf, not sytrf */
    PetscCall(FillLAPACK(A, d->F));
  } else {
#if defined(PETSC_HAVE_SCALAPACK)
    PetscCall(MatCreateScaLAPACK(d->active, PETSC_DECIDE, PETSC_DECIDE, n, n, 0, 0, &d->F));
    PetscCall(FillScaLAPACK(A, d->F));
#endif
  }
  PetscCall(MatAssemblyBegin(d->F, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(d->F, MAT_FINAL_ASSEMBLY));
  PetscCall(Factor(d->F, spd));
  PetscCall(MatCreateVecs(d->F, &d->x, &d->b));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectCreate(Mat A, GramDirect *direct, PetscBool *spd)
{
  MPI_Comm    comm;
  PetscMPIInt size, rank, ranks, mine;
  PetscInt    n, n_local = 0;
  Vec         a;
  GramDirect  d;

  PetscFunctionBegin;
  PetscCall(PetscObjectGetComm((PetscObject)A, &comm));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(MatGetSize(A, &n, NULL));
  ranks = ActiveRanks(n, size);
  GramCheckResource(ranks == 1 || PetscDefined(HAVE_SCALAPACK), comm,
                    "solve.method direct: this PETSc has no ScaLAPACK; use one rank");
  GramCheckResource((PetscReal)n * (PetscReal)n / ranks < (PetscReal)PETSC_MAX_INT, comm,
                    "solve.method direct: a rank's share of %" PetscInt_FMT " x %" PetscInt_FMT
                    " entries exceeds PETSc's integers; use more ranks or solve.method iterative",
                    n, n);
  PetscCall(PetscNew(&d));
  PetscCallMPI(MPI_Comm_split(comm, rank < ranks ? 0 : MPI_UNDEFINED, rank, &d->active));
  if (rank < ranks) PetscCall(FactorActive(A, n, ranks, d, spd));
  PetscCallMPI(MPI_Bcast(spd, 1, MPIU_BOOL, 0, comm));
  if (d->b) PetscCall(VecGetLocalSize(d->b, &n_local));

  PetscCall(PetscMalloc2(size, &d->counts, size, &d->from));
  mine = (PetscMPIInt)n_local;
  PetscCallMPI(MPI_Allgather(&mine, 1, MPI_INT, d->counts, 1, MPI_INT, comm));
  for (PetscMPIInt r = 0, total = 0; r < size; total += d->counts[r], r++) d->from[r] = total;
  PetscCall(MatCreateVecs(A, &a, NULL));
  PetscCall(VecScatterCreateToAll(a, &d->gather, &d->all));
  PetscCall(VecDestroy(&a));
  *direct = d;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectDestroy(GramDirect *direct)
{
  GramDirect d = *direct;

  PetscFunctionBegin;
  if (!d) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(VecScatterDestroy(&d->gather));
  PetscCall(VecDestroy(&d->all));
  PetscCall(VecDestroy(&d->b));
  PetscCall(VecDestroy(&d->x));
  PetscCall(MatDestroy(&d->F));
  PetscCall(PetscFree2(d->counts, d->from));
  if (d->active != MPI_COMM_NULL) PetscCallMPI(MPI_Comm_free(&d->active));
  PetscCall(PetscFree(*direct));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The layouts of A and F differ and F may live on fewer ranks, so right-hand sides pass through all rows on every
   rank: 8 N bytes, as a product with A takes too. */
PetscErrorCode GramDirectSolve(GramDirect d, Vec b, Vec x)
{
  MPI_Comm         comm;
  PetscMPIInt      rank;
  PetscInt         first, n;
  PetscReal       *all, *part;
  const PetscReal *solved = NULL;

  PetscFunctionBegin;
  PetscCall(PetscObjectGetComm((PetscObject)b, &comm));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(VecScatterBegin(d->gather, b, d->all, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(VecScatterEnd(d->gather, b, d->all, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(VecGetArray(d->all, &all));
  if (d->F) {
    PetscCall(VecGetArrayWrite(d->b, &part));
    PetscCall(PetscArraycpy(part, all + d->from[rank], d->counts[rank]));
    PetscCall(VecRestoreArrayWrite(d->b, &part));
    PetscCall(MatSolve(d->F, d->b, d->x));
    PetscCall(VecGetArrayRead(d->x, &solved));
  }
  PetscCallMPI(MPI_Allgatherv(solved, d->counts[rank], MPIU_REAL, all, d->counts, d->from, MPIU_REAL, comm));
  if (d->F) PetscCall(VecRestoreArrayRead(d->x, &solved));
  PetscCall(VecGetOwnershipRange(x, &first, NULL));
  PetscCall(VecGetLocalSize(x, &n));
  PetscCall(VecGetArrayWrite(x, &part));
  PetscCall(PetscArraycpy(part, all + first, n));
  PetscCall(VecRestoreArrayWrite(x, &part));
  PetscCall(VecRestoreArray(d->all, &all));
  PetscFunctionReturn(PETSC_SUCCESS);
}
