#include <petsctime.h>

#include "gram_mat.h"
#include "progress.h"

#define BLOCK_SIZE 1024 /* points a block, about */
#define BATCH      8192 /* tiles at once: their whole list would grow with N^2 */

typedef struct {
  MPI_Comm     comm;
  GramKernel   kernel;
  GramTiles    tiles;
  PetscBool    square, cover;
  PetscInt     m_local, n_local, n;     /* rows and columns of this rank, columns in all */
  PetscInt     m_start;                 /* first row of this rank in y: 0 for targets */
  PetscInt     m_y;                     /* rows of y: N on the square matrix, this rank's for targets */
  PetscMPIInt *counts, *offsets;        /* columns of each rank */
  PetscInt     n_cols, n_strips, first; /* column blocks in all, row blocks of this rank, the first of them */
  PetscInt    *cols, *strips;           /* [n_cols + 1], [n_strips + 1] where each begins, in x and in y */
  GramTile    *list;                    /* [BATCH] what is handed to the backend at once */
  size_t       n_v, n_y;                /* numbers in the buffers */
  PetscReal   *v, *y, *packed;          /* [N][q] gathered, [m_y][q] summed, [n_local][q] */
  GramMatStats stats;
} GramShell;

static PetscLogEvent GRAM_Product, GRAM_Gather, GRAM_Tiles, GRAM_Reduce;

static PetscErrorCode RegisterEvents(void)
{
  PetscFunctionBegin;
  if (GRAM_Product) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscLogEventRegister("GramProduct", MAT_CLASSID, &GRAM_Product));
  PetscCall(PetscLogEventRegister("GramGather", MAT_CLASSID, &GRAM_Gather));
  PetscCall(PetscLogEventRegister("GramTiles", MAT_CLASSID, &GRAM_Tiles));
  PetscCall(PetscLogEventRegister("GramReduce", MAT_CLASSID, &GRAM_Reduce));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The turn-th tile of row block i, counted from the diagonal when there is a cover. With the cover each unordered
   pair of blocks comes up once; with an even number of blocks those half a turn apart come up from both ends: the
   parity of the lower block decides, which spreads them over all ranks. */
static PetscBool TileAt(const GramShell *s, PetscInt i, PetscInt turn, GramTile *tile)
{
  const PetscInt  block = s->first + i, j = s->cover ? (block + turn) % s->n_cols : turn;
  const PetscBool half = (PetscBool)(s->cover && turn > 0 && 2 * turn == s->n_cols);

  *tile = (GramTile){s->strips[i], s->strips[i + 1] - s->strips[i], s->cols[j], s->cols[j + 1] - s->cols[j],
                     !s->cover ? GRAM_TILE_ONCE
                     : turn    ? GRAM_TILE_BOTH
                               : GRAM_TILE_DIAGONAL};
  return (PetscBool)(!half || (PetscMin(block, j) % 2 == 0) == (block < j));
}

static PetscErrorCode ApplyTiles(GramShell *s, PetscInt q)
{
  const PetscInt turns = s->cover ? s->n_cols / 2 + 1 : s->n_cols;
  PetscInt       count = 0;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < s->n_strips; i++) {
    for (PetscInt turn = 0; turn < turns; turn++) {
      GramTile *tile = s->list + count;

      if (!TileAt(s, i, turn, tile)) continue;
      s->stats.evaluated += (PetscLogDouble)tile->n_rows * (PetscLogDouble)tile->n_cols /
                            (tile->use == GRAM_TILE_DIAGONAL ? 2 : 1);
      if (++count < BATCH) continue;
      PetscCall(GramTilesApply(s->tiles, count, s->list, q, s->v, s->y, s->cover ? s->v : NULL,
                               s->cover ? s->y : NULL));
      count = 0;
    }
  }
  PetscCall(GramTilesApply(s->tiles, count, s->list, q, s->v, s->y, s->cover ? s->v : NULL,
                           s->cover ? s->y : NULL));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y = A v for a panel: v and y column-major with leading dimensions ldv, ldy. The three phases of a product. */
static PetscErrorCode ShellApply(GramShell *s, PetscInt q, const PetscReal *v, PetscInt ldv, PetscReal *y,
                                 PetscInt ldy)
{
  const size_t     n_v = (size_t)s->n * (size_t)q, n_y = (size_t)s->m_y * (size_t)q;
  const PetscReal  s2 = s->kernel.amplitude * s->kernel.amplitude, alpha = s->square ? s->kernel.alpha : 0;
  const PetscReal *sum;
  PetscLogDouble   begin, end;
  MPI_Datatype     row;
  PetscMPIInt      size;

  PetscFunctionBegin;
  PetscCall(PetscLogEventBegin(GRAM_Product, 0, 0, 0, 0));
  PetscCall(PetscTime(&begin));
  PetscCallMPI(MPI_Comm_size(s->comm, &size));
  PetscCallMPI(MPI_Type_contiguous((int)q, MPIU_REAL, &row));
  PetscCallMPI(MPI_Type_commit(&row));
  if (n_v > s->n_v || n_y > s->n_y) {
    PetscCall(PetscFree3(s->v, s->y, s->packed));
    PetscCall(PetscMalloc3(n_v, &s->v, n_y, &s->y, (size_t)PetscMax(s->n_local, s->m_local) * (size_t)q,
                           &s->packed));
    s->n_v = n_v;
    s->n_y = n_y;
  }

  /* gather V */
  PetscCall(PetscLogEventBegin(GRAM_Gather, 0, 0, 0, 0));
  for (PetscInt i = 0; i < s->n_local; i++) {
    for (PetscInt r = 0; r < q; r++) s->packed[GramAt(i, q, r)] = v[GramAt(r, ldv, i)];
  }
  PetscCallMPI(
      MPI_Allgatherv(s->packed, (PetscMPIInt)s->n_local, row, s->v, s->counts, s->offsets, row, s->comm));
  PetscCall(PetscLogEventEnd(GRAM_Gather, 0, 0, 0, 0));

  /* tiles */
  PetscCall(PetscLogEventBegin(GRAM_Tiles, 0, 0, 0, 0));
  PetscCall(PetscArrayzero(s->y, n_y));
  PetscCall(ApplyTiles(s, q));
  PetscCall(PetscLogEventEnd(GRAM_Tiles, 0, 0, 0, 0));

  /* reduce Y */
  sum = s->y + GramAt(s->m_start, q, 0);
  if (s->cover && size > 1) {
    PetscMPIInt *numbers;

    PetscCall(PetscLogEventBegin(GRAM_Reduce, 0, 0, 0, 0));
    PetscCall(PetscMalloc1(size, &numbers));
    for (PetscMPIInt r = 0; r < size; r++) numbers[r] = s->counts[r] * (PetscMPIInt)q;
    PetscCallMPI(MPI_Reduce_scatter(s->y, s->packed, numbers, MPIU_REAL, MPI_SUM, s->comm));
    PetscCall(PetscFree(numbers));
    PetscCall(PetscLogEventEnd(GRAM_Reduce, 0, 0, 0, 0));
    sum = s->packed;
  }
  for (PetscInt i = 0; i < s->m_local; i++) {
    for (PetscInt r = 0; r < q; r++)
      y[GramAt(r, ldy, i)] = s2 * sum[GramAt(i, q, r)] + (alpha > 0 ? alpha * v[GramAt(r, ldv, i)] : 0);
  }
  PetscCallMPI(MPI_Type_free(&row));
  PetscCall(PetscTime(&end));
  s->stats.products++;
  s->stats.seconds += end - begin;
  PetscCall(PetscLogEventEnd(GRAM_Product, 0, 0, 0, 0));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatMult_Gram(Mat A, Vec v, Vec y)
{
  GramShell       *s;
  const PetscReal *va;
  PetscReal       *ya;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(VecGetArrayRead(v, &va));
  PetscCall(VecGetArrayWrite(y, &ya));
  PetscCall(ShellApply(s, 1, va, s->n_local, ya, s->m_local));
  PetscCall(VecRestoreArrayWrite(y, &ya));
  PetscCall(VecRestoreArrayRead(v, &va));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatMatMultNumeric_Gram(Mat A, Mat V, Mat Y, void *ctx)
{
  GramShell       *s;
  const PetscReal *va;
  PetscReal       *ya;
  PetscInt         q, ldv, ldy;

  PetscFunctionBegin;
  (void)ctx;
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(MatGetSize(V, NULL, &q));
  PetscCall(MatDenseGetLDA(V, &ldv));
  PetscCall(MatDenseGetLDA(Y, &ldy));
  PetscCall(MatDenseGetArrayRead(V, &va));
  PetscCall(MatDenseGetArrayWrite(Y, &ya));
  PetscCall(ShellApply(s, q, va, ldv, ya, ldy));
  PetscCall(MatDenseRestoreArrayWrite(Y, &ya));
  PetscCall(MatDenseRestoreArrayRead(V, &va));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatGetDiagonal_Gram(Mat A, Vec d)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(
      VecSet(d, s->kernel.amplitude * s->kernel.amplitude + s->kernel.alpha)); /* phi(0) = 1 at order 0 */
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatDestroy_Gram(Mat A)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(GramTilesDestroy(&s->tiles));
  PetscCall(PetscFree3(s->v, s->y, s->packed));
  PetscCall(PetscFree2(s->counts, s->offsets));
  PetscCall(PetscFree(s->list));
  PetscCall(PetscFree(s->cols));
  PetscCall(PetscFree(s->strips));
  PetscCall(PetscCommDestroy(&s->comm));
  PetscCall(PetscFree(s));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where the row blocks of this rank and all column blocks begin. Without the cover rows may be any m_local. */
static PetscErrorCode BlocksCreate(GramShell *s, GramPoints points)
{
  PetscInt   *first;
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(s->comm, &rank));
  PetscCall(GramPointsGetBlocks(points, BLOCK_SIZE, &s->n_cols, &s->cols, &first));
  s->first    = first[rank];
  s->n_strips = s->cover ? first[rank + 1] - first[rank] : (s->m_local + BLOCK_SIZE - 1) / BLOCK_SIZE;
  PetscCall(PetscMalloc1(s->n_strips + 1, &s->strips));
  for (PetscInt i = 0; i <= s->n_strips; i++) {
    s->strips[i] = s->cover ? s->cols[s->first + i]
                            : s->m_start + (PetscInt)((PetscInt64)i * s->m_local / PetscMax(1, s->n_strips));
  }
  PetscCall(PetscMalloc1(BATCH, &s->list));
  PetscCall(PetscFree(first));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CoverFromOptions(MPI_Comm comm, PetscBool *cover)
{
  char      symmetric[16] = "auto";
  PetscBool automatic;

  PetscFunctionBegin;
  PetscOptionsBegin(comm, "product_", "Products with the kernel matrix", NULL);
  PetscCall(PetscOptionsString("-symmetric", "Evaluate each pair once, use it twice: auto, true, false",
                               "GramMatCreate", symmetric, symmetric, sizeof symmetric, NULL));
  PetscOptionsEnd();
  PetscCall(PetscStrcmp(symmetric, "auto", &automatic));
  *cover = PETSC_TRUE;
  if (!automatic) PetscCall(PetscOptionsStringToBool(symmetric[0] ? symmetric : "true", cover));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* targets: NULL for the square matrix */
static PetscErrorCode ShellCreate(GramPoints targets, GramPoints points, const GramKernel *kernel,
                                  GramBackend backend, Mat *A)
{
  GramShell       *s;
  PetscInt         dim, m, start;
  PetscReal       *z, *t = NULL;
  const PetscReal *local;
  PetscMPIInt      size, mine;

  PetscFunctionBegin;
  PetscCall(RegisterEvents());
  PetscCall(PetscNew(&s));
  PetscCall(GramPointsGetSizes(points, &s->comm, &dim, &s->n, &s->n_local, &start));
  PetscCall(PetscCommDuplicate(s->comm, &s->comm, NULL));
  PetscCheck(dim == kernel->dim, s->comm, PETSC_ERR_ARG_SIZ,
             "points have %" PetscInt_FMT " coordinates, the kernel %" PetscInt_FMT, dim, kernel->dim);
  PetscCallMPI(MPI_Comm_size(s->comm, &size));
  s->kernel  = *kernel;
  s->square  = (PetscBool)!targets;
  s->m_local = s->n_local;
  m          = s->n;
  if (targets) PetscCall(GramPointsGetSizes(targets, NULL, NULL, &m, &s->m_local, NULL));

  PetscCall(PetscMalloc2(size, &s->counts, size, &s->offsets));
  mine = (PetscMPIInt)s->n_local;
  PetscCallMPI(MPI_Allgather(&mine, 1, MPI_INT, s->counts, 1, MPI_INT, s->comm));
  for (PetscMPIInt r = 0, total = 0; r < size; total += s->counts[r], r++) s->offsets[r] = total;

  PetscCall(GramPointsAllGather(points, kernel->length_scale, &z));
  if (targets) {
    PetscCall(GramPointsGetArrayRead(targets, &local));
    PetscCall(PetscMalloc1((size_t)s->m_local * (size_t)dim, &t));
    for (PetscInt i = 0; i < s->m_local; i++) {
      for (PetscInt c = 0; c < dim; c++)
        t[GramAt(i, dim, c)] = local[GramAt(i, dim, c)] / kernel->length_scale[c];
    }
    PetscCall(GramTilesCreate(backend, kernel, GRAM_VALUE, s->m_local, t, GRAM_VALUE, s->n, z, &s->tiles));
    PetscCall(PetscFree(t));
  } else {
    PetscCall(CoverFromOptions(s->comm, &s->cover));
    PetscCall(GramTilesCreate(backend, kernel, GRAM_VALUE, s->n, z, GRAM_VALUE, 0, NULL, &s->tiles));
  }
  PetscCall(PetscFree(z));
  s->m_y     = targets ? s->m_local : s->n;
  s->m_start = targets ? 0 : start;
  PetscCall(BlocksCreate(s, points));

  PetscCall(MatCreateShell(s->comm, s->m_local, s->n_local, m, s->n, s, A));
  PetscCall(MatShellSetOperation(*A, MATOP_MULT, (void (*)(void))MatMult_Gram));
  PetscCall(MatShellSetOperation(*A, MATOP_DESTROY, (void (*)(void))MatDestroy_Gram));
  PetscCall(MatShellSetMatProductOperation(*A, MATPRODUCT_AB, NULL, MatMatMultNumeric_Gram, NULL, MATDENSE,
                                           MATDENSE));
  PetscCall(PetscObjectSetName((PetscObject)*A, targets ? "GramCross" : "Gram"));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatCreate(GramPoints points, const GramKernel *kernel, GramBackend backend, Mat *A)
{
  PetscFunctionBegin;
  PetscCall(ShellCreate(NULL, points, kernel, backend, A));
  PetscCall(MatShellSetOperation(*A, MATOP_MULT_TRANSPOSE, (void (*)(void))MatMult_Gram));
  PetscCall(MatShellSetOperation(*A, MATOP_GET_DIAGONAL, (void (*)(void))MatGetDiagonal_Gram));
  PetscCall(MatSetOption(*A, MAT_SYMMETRIC, PETSC_TRUE));
  PetscCall(MatSetOption(*A, MAT_SPD, PETSC_TRUE));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatCreateCross(GramPoints targets, GramPoints points, const GramKernel *kernel,
                                  GramBackend backend, Mat *K)
{
  PetscFunctionBegin;
  PetscCall(ShellCreate(targets, points, kernel, backend, K));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetEntries(Mat A, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                 const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(GramTilesEntries(s->tiles, n_rows, rows, n_cols, cols, a, lda));
  for (PetscInt j = 0; j < n_cols; j++) {
    PetscReal *aj = a + (size_t)j * (size_t)lda;

    for (PetscInt i = 0; i < n_rows; i++) {
      aj[i] *= s->kernel.amplitude * s->kernel.amplitude;
      if (s->square && rows[i] == cols[j]) aj[i] += s->kernel.alpha;
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetStats(Mat A, GramMatStats *stats)
{
  GramShell *s;
  PetscInt   m, n;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(MatGetSize(A, &m, &n));
  s->stats.pairs = (PetscLogDouble)s->stats.products * (PetscLogDouble)m * (PetscLogDouble)n;
  *stats         = s->stats;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetKernel(Mat A, GramKernel *kernel)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  *kernel = s->kernel;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPanelFromInput(GramPoints points, PetscInt q, const PetscReal *input, Mat *panel)
{
  PetscInt   n, lda;
  PetscReal *rows, *a;
  MPI_Comm   comm;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(points, &comm, NULL, NULL, &n, NULL));
  PetscCall(PetscMalloc1((size_t)n * (size_t)q, &rows));
  PetscCall(GramPointsToCurve(points, q, input, rows));
  PetscCall(MatCreateDense(comm, n, PETSC_DECIDE, PETSC_DETERMINE, q, NULL, panel));
  PetscCall(MatDenseGetLDA(*panel, &lda));
  PetscCall(MatDenseGetArrayWrite(*panel, &a));
  for (PetscInt r = 0; r < q; r++) {
    for (PetscInt i = 0; i < n; i++) a[GramAt(r, lda, i)] = rows[GramAt(i, q, r)];
  }
  PetscCall(MatDenseRestoreArrayWrite(*panel, &a));
  PetscCall(MatAssemblyBegin(*panel, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(*panel, MAT_FINAL_ASSEMBLY));
  PetscCall(PetscFree(rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPanelToInput(GramPoints points, Mat panel, PetscReal *input)
{
  PetscInt         n, lda, q;
  PetscReal       *rows;
  const PetscReal *a;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(points, NULL, NULL, NULL, &n, NULL));
  PetscCall(MatGetSize(panel, NULL, &q));
  PetscCall(PetscMalloc1((size_t)n * (size_t)q, &rows));
  PetscCall(MatDenseGetLDA(panel, &lda));
  PetscCall(MatDenseGetArrayRead(panel, &a));
  for (PetscInt r = 0; r < q; r++) {
    for (PetscInt i = 0; i < n; i++) rows[GramAt(i, q, r)] = a[GramAt(r, lda, i)];
  }
  PetscCall(MatDenseRestoreArrayRead(panel, &a));
  PetscCall(GramPointsToInput(points, q, rows, input));
  PetscCall(PetscFree(rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}
