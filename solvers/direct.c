#include "direct.h"
#include "gram_mat.h"

#define STRIP 64 /* columns evaluated at once */

struct _p_GramDirect {
  MPI_Comm     active;            /* the ranks that hold the matrix; MPI_COMM_NULL on the others */
  Mat          F;                 /* the matrix, then its factor; NULL on ranks that are not active */
  PetscMPIInt *counts, *from;     /* rows of F on each rank of A's communicator, and the first of them */
  PetscMPIInt *counts_A, *from_A; /* those of A */
};

/* One rank: straight into the array LAPACK will factor. */
static PetscErrorCode FillLAPACK(Mat A, PetscBool lower, Mat F)
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
    const PetscInt i = lower ? j : 0;

    PetscCall(GramMatGetEntries(A, n - i, index + i, PetscMin(STRIP, n - j), index + j, f + GramAt(j, lda, i),
                                lda));
  }
  PetscCall(MatDenseRestoreArrayWrite(F, &f));
  PetscCall(PetscFree(index));
  PetscFunctionReturn(PETSC_SUCCESS);
}

#if defined(PETSC_HAVE_SCALAPACK)
/* Every rank evaluates its own block-cyclic entries, or those on and below the diagonal: nothing travels. */
static PetscErrorCode FillScaLAPACK(Mat A, PetscBool lower, Mat F)
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

    while (lower && i < m && row[i] < col[j]) i++;
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
static PetscErrorCode Factor(Mat F, PetscBool lu, PetscBool *found)
{
  MatFactorError error = MAT_FACTOR_NOERROR;
  PetscErrorCode ierr;

  PetscFunctionBegin;
  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  ierr = lu ? MatLUFactor(F, NULL, NULL, NULL) : MatCholeskyFactor(F, NULL, NULL);
  PetscCall(PetscPopErrorHandler());
  if (!ierr) PetscCall(MatFactorGetError(F, &error));
  if (ierr != PETSC_ERR_MAT_CH_ZRPVT && ierr != PETSC_ERR_MAT_LU_ZRPVT && ierr != PETSC_ERR_LIB)
    PetscCall(ierr); /* LAPACK's and ScaLAPACK's info > 0 */
  *found = (PetscBool)(!ierr && error == MAT_FACTOR_NOERROR);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* MATSCALAPACK wants equal local sizes but for the last rank: as many ranks as allow that. */
static PetscMPIInt ActiveRanks(PetscInt n, PetscMPIInt size)
{
  while (size > 1 && (PetscInt64)(size - 1) * ((n + size - 1) / size) >= n) size--;
  return size;
}

static PetscErrorCode FactorActive(Mat A, PetscBool lu, PetscInt n, PetscMPIInt ranks, GramDirect d,
                                   PetscBool *found)
{
  PetscFunctionBegin;
  if (ranks == 1) {
    PetscCall(MatCreateSeqDense(d->active, n, n, NULL, &d->F));
    if (!lu) PetscCall(MatSetOption(d->F, MAT_SPD, PETSC_TRUE)); /* potrf, not sytrf */
    PetscCall(FillLAPACK(A, (PetscBool)!lu, d->F));
  } else {
#if defined(PETSC_HAVE_SCALAPACK)
    PetscCall(MatCreateScaLAPACK(d->active, PETSC_DECIDE, PETSC_DECIDE, n, n, 0, 0, &d->F));
    PetscCall(FillScaLAPACK(A, (PetscBool)!lu, d->F));
#endif
  }
  PetscCall(MatAssemblyBegin(d->F, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(d->F, MAT_FINAL_ASSEMBLY));
  PetscCall(Factor(d->F, lu, found));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Layout(MPI_Comm comm, PetscInt n_local, PetscMPIInt counts[], PetscMPIInt at[])
{
  const PetscMPIInt mine = (PetscMPIInt)n_local;
  PetscMPIInt       size;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCallMPI(MPI_Allgather(&mine, 1, MPI_INT, counts, 1, MPI_INT, comm));
  for (PetscMPIInt r = 0, total = 0; r < size; total += counts[r], r++) at[r] = total;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectCreate(Mat A, PetscBool lu, GramDirect *direct, PetscBool *found)
{
  MPI_Comm    comm;
  PetscMPIInt size, rank, ranks;
  PetscInt    n, n_local = 0;
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
  if (rank < ranks) PetscCall(FactorActive(A, lu, n, ranks, d, found));
  PetscCallMPI(MPI_Bcast(found, 1, MPIU_BOOL, 0, comm));
  PetscCall(PetscMalloc4(size, &d->counts, size, &d->from, size, &d->counts_A, size, &d->from_A));
  if (d->F) PetscCall(MatGetLocalSize(d->F, &n_local, NULL));
  PetscCall(Layout(comm, n_local, d->counts, d->from));
  PetscCall(MatGetLocalSize(A, &n_local, NULL));
  PetscCall(Layout(comm, n_local, d->counts_A, d->from_A));
  *direct = d;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectDestroy(GramDirect *direct)
{
  GramDirect d = *direct;

  PetscFunctionBegin;
  if (!d) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatDestroy(&d->F));
  PetscCall(PetscFree4(d->counts, d->from, d->counts_A, d->from_A));
  if (d->active != MPI_COMM_NULL) PetscCallMPI(MPI_Comm_free(&d->active));
  PetscCall(PetscFree(*direct));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The layouts of A and F differ and F may live on fewer ranks, so right-hand sides pass through all rows on every
   rank: 8 N bytes a column, as a product with A takes too. all [q][n], part of them on this rank in layout counts, at */
static PetscErrorCode GatherColumns(MPI_Comm comm, PetscInt q, PetscInt n, const PetscMPIInt counts[],
                                    const PetscMPIInt at[], const PetscReal *part, PetscInt ld,
                                    PetscReal *all)
{
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  for (PetscInt c = 0; c < q; c++)
    PetscCallMPI(MPI_Allgatherv(part ? part + GramAt(c, ld, 0) : NULL, counts[rank], MPIU_REAL,
                                all + GramAt(c, n, 0), counts, at, MPIU_REAL, comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* X = F^-1 of this rank's rows of all [q][n]; ranks must have equal numbers of columns: there may be some of zeros more */
static PetscErrorCode SolveActive(GramDirect d, PetscInt q, PetscInt n, const PetscReal *all, Mat *X)
{
  PetscMPIInt rank, size;
  PetscInt    rows, ld;
  PetscBool   spread = PETSC_FALSE;
  PetscReal  *b;
  Mat         B;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(d->active, &rank));
  PetscCallMPI(MPI_Comm_size(d->active, &size));
  PetscCall(MatGetLocalSize(d->F, &rows, NULL));
  PetscCall(MatCreateDense(d->active, rows, PETSC_DECIDE, n, (q + size - 1) / size * size, NULL, &B));
  PetscCall(MatDenseGetLDA(B, &ld));
  PetscCall(MatDenseGetArrayWrite(B, &b));
  for (PetscInt c = 0; c < q; c++)
    PetscCall(PetscArraycpy(b + GramAt(c, ld, 0), all + GramAt(c, n, d->from[rank]), rows));
  PetscCall(MatDenseRestoreArrayWrite(B, &b));
  PetscCall(MatAssemblyBegin(B, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(B, MAT_FINAL_ASSEMBLY));
#if defined(PETSC_HAVE_SCALAPACK)
  PetscCall(PetscObjectTypeCompare((PetscObject)d->F, MATSCALAPACK, &spread));
  if (spread) PetscCall(MatConvert(B, MATSCALAPACK, MAT_INPLACE_MATRIX, &B));
#endif
  PetscCall(MatDuplicate(B, MAT_DO_NOT_COPY_VALUES, X));
  PetscCall(MatMatSolve(d->F, B, *X));
  if (spread) PetscCall(MatConvert(*X, MATDENSE, MAT_INPLACE_MATRIX, X));
  PetscCall(MatDestroy(&B));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDirectSolve(GramDirect d, Mat B, Mat X)
{
  MPI_Comm         comm = PetscObjectComm((PetscObject)B);
  PetscInt         first, n_local, n, q, ld;
  PetscReal       *all, *x;
  const PetscReal *part   = NULL;
  Mat              solved = NULL;

  PetscFunctionBegin;
  PetscCall(MatGetSize(B, &n, &q));
  PetscCall(MatGetLocalSize(B, &n_local, NULL));
  PetscCall(MatGetOwnershipRange(B, &first, NULL));
  PetscCall(PetscMalloc1(GramAt(q, n, 0), &all));
  PetscCall(MatDenseGetLDA(B, &ld));
  PetscCall(MatDenseGetArrayRead(B, &part));
  PetscCall(GatherColumns(comm, q, n, d->counts_A, d->from_A, part, ld, all));
  PetscCall(MatDenseRestoreArrayRead(B, &part));
  if (d->F) {
    PetscCall(SolveActive(d, q, n, all, &solved));
    PetscCall(MatDenseGetLDA(solved, &ld));
    PetscCall(MatDenseGetArrayRead(solved, &part));
  }
  PetscCall(GatherColumns(comm, q, n, d->counts, d->from, part, ld, all));
  if (d->F) {
    PetscCall(MatDenseRestoreArrayRead(solved, &part));
    PetscCall(MatDestroy(&solved));
  }
  PetscCall(MatDenseGetLDA(X, &ld));
  PetscCall(MatDenseGetArrayWrite(X, &x));
  for (PetscInt c = 0; c < q; c++)
    PetscCall(PetscArraycpy(x + GramAt(c, ld, 0), all + GramAt(c, n, first), n_local));
  PetscCall(MatDenseRestoreArrayWrite(X, &x));
  PetscCall(PetscFree(all));
  PetscFunctionReturn(PETSC_SUCCESS);
}
