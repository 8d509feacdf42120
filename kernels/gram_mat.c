#include <math.h>
#include <stdio.h>

#include <petsctime.h>

#include "gram_mat.h"
#include "progress.h"
#include "reproducible.h"
#include "skip.h"

#define BLOCK_SIZE 1024 /* points a block, about */
#define BATCH      8192 /* tiles at once: their whole list would grow with N^2 */

/* The ranks in one row or one column of the grid, and the points they exchange. */
typedef struct {
  MPI_Comm     comm;
  PetscMPIInt  size;
  PetscInt     n, own;      /* points of all its ranks; where this rank's begin in what the tiles hold */
  PetscMPIInt *counts, *at; /* [size] points of each, and where they begin in what the tiles hold */
} Side;

typedef struct {
  MPI_Comm      comm;
  GramPoints    points; /* borrowed */
  GramKernel    kernel;
  GramPrecision precision;
  GramSchedule  schedule;
  GramBackend   backend;    /* borrowed */
  GramTiles     tiles, all; /* for products, and for any entries: the same, or all points once more */
  GramSkip      skip;
  PetscBool     in_order;         /* a reproducible Cross: every row sums all blocks, in their order */
  PetscBool square, cover, apart; /* apart: the tiles' rows are the points of R, their columns those of C */
  GramPart  rows, cols;           /* what points stand for */
  PetscInt  a, b;                 /* numbers that a row point and a column point carry */
  PetscReal out[1 + GRAM_MAX_DIM],
      in[1 + GRAM_MAX_DIM];          /* [a], [b] from the tiles' coordinates, and to them */
  PetscReal ridge[1 + GRAM_MAX_DIM]; /* [a] on the diagonal; 0 where it is not square */
  PetscInt  m_local, n_local, n;     /* points of the rows and columns of this rank, of columns in all */
  Side      R, C;                    /* rows are shared along a row of the grid, columns along a column */
  PetscInt  n_x, n_z;                /* points that the tiles hold as rows and as columns */
  PetscInt  n_cols, *block,
      *held;        /* column blocks in all, where each begins on the curve and in C (-1: not in C) */
  PetscInt  *first; /* [size + 1] first column block of each rank */
  PetscInt   n_strips, *strips;          /* row blocks of R, where each begins in the tiles' rows */
  PetscInt   first_strip;                /* the first of them as a block of the curve; 0 for targets */
  PetscInt   own_strips[2], own_cols[2]; /* first and last + 1 of the row and column blocks of this rank */
  GramTile  *list;                       /* [BATCH or n_strips] what is handed to the backend at once */
  PetscInt  *list_held;                  /* held of their columns */
  PetscInt   width;                      /* columns that the buffers have room for */
  PetscInt   shares;                     /* panels of the product under way */
  PetscReal *v, *w, *y,
      *u; /* [n_z][b][q] gathered, [n_x][a][q] likewise; [n_x][a][q] summed, [n_z][b][q] likewise */
  PetscReal   *packed, *sum_R, *sum_C; /* [n_local][b][q], and what comes back to this rank from both sides */
  PetscReal   *folds_R, *folds_C; /* [R.n][q][GRAM_FOLDS], [C.n][q][GRAM_FOLDS] of a reproducible product */
  PetscReal    scale, shift;      /* the Mat is scale (K + alpha I) + shift I: of MatScale() and MatShift() */
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

/* Which tiles: all, those of this rank's own rows and columns, the others. */
typedef enum { ALL, OWN, OTHERS } Pass;

/* The turn-th tile of row block i, counted from the diagonal when there is a cover. With the cover each unordered
   pair of blocks comes up once; with an even number of blocks those half a turn apart come up from both ends: the
   parity of the lower block decides, which spreads them over all ranks. Not mine: its columns are with another
   rank, it came up from the other end, it is of another pass, or it is negligible. */
static PetscErrorCode TileAt(GramShell *s, Pass pass, PetscInt i, PetscInt turn, GramTile *tile,
                             PetscInt *held, PetscBool *mine)
{
  const PetscInt  block = s->first_strip + i, j = s->cover ? (block + turn) % s->n_cols : turn;
  const PetscBool half = (PetscBool)(s->cover && turn > 0 && 2 * turn == s->n_cols),
                  own  = (PetscBool)(s->own_strips[0] <= i && i < s->own_strips[1] && s->own_cols[0] <= j &&
                                    j < s->own_cols[1]);
  PetscLogDouble pairs;

  PetscFunctionBegin;
  *held = s->held[j];
  *mine = (PetscBool)(*held >= 0 && (!half || (PetscMin(block, j) % 2 == 0) == (block < j)) &&
                      (pass == ALL || own == (pass == OWN)));
  if (!*mine) PetscFunctionReturn(PETSC_SUCCESS);
  *tile = (GramTile){s->strips[i], s->strips[i + 1] - s->strips[i], s->apart ? *held : s->block[j],
                     s->block[j + 1] - s->block[j],
                     !s->cover ? GRAM_TILE_ONCE
                     : turn    ? GRAM_TILE_BOTH
                               : GRAM_TILE_DIAGONAL};
  pairs =
      (PetscLogDouble)tile->n_rows * (PetscLogDouble)tile->n_cols / (tile->use == GRAM_TILE_DIAGONAL ? 2 : 1);
  /* float makes tiny numbers of zeros near the end of a support: all, or ranks decide which */
  *mine = (PetscBool)((s->in_order && s->precision != GRAM_DOUBLE) ||
                      !GramSkipTile(s->skip, block, j, (PetscBool)(tile->use == GRAM_TILE_BOTH)));
  *(*mine ? &s->stats.evaluated : &s->stats.skipped) += pairs / (PetscLogDouble)s->shares;
  if (!*mine) PetscCall(GramProgressAdd((PetscReal)tile->n_rows * (PetscReal)tile->n_cols));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static inline PetscInt Turns(const GramShell *s) { return s->cover ? s->n_cols / 2 + 1 : s->n_cols; }

static PetscErrorCode AddTiles(GramShell *s, Pass pass)
{
  PetscInt count = 0, held;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < s->n_strips; i++) {
    for (PetscInt turn = 0; turn < Turns(s); turn++) {
      PetscBool mine;

      PetscCall(TileAt(s, pass, i, turn, s->list + count, &held, &mine));
      if (!mine || ++count < BATCH) continue;
      PetscCall(GramTilesAdd(s->tiles, count, s->list));
      count = 0;
    }
  }
  PetscCall(GramTilesAdd(s->tiles, count, s->list));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Tiles whose sums are kept apart until they are in the folds. All tiles of one turn have different rows and
   different columns, so that they fill y and u side by side: each turn is one batch. */
static PetscErrorCode ApplyTilesExact(GramShell *s, PetscInt q, const PetscReal *t)
{
  PetscFunctionBegin;
  for (PetscInt turn = 0; turn < Turns(s); turn++) {
    PetscInt count = 0;

    for (PetscInt i = 0; i < s->n_strips; i++) {
      GramTile *tile = s->list + count;
      PetscBool mine;

      PetscCall(TileAt(s, ALL, i, turn, tile, s->list_held + count, &mine));
      if (!mine) continue;
      PetscCall(PetscArrayzero(s->y + GramAt(tile->row, q, 0), GramAt(tile->n_rows, q, 0)));
      if (tile->use == GRAM_TILE_BOTH)
        PetscCall(PetscArrayzero(s->u + GramAt(tile->col, q, 0), GramAt(tile->n_cols, q, 0)));
      count++;
    }
    PetscCall(GramTilesApply(s->tiles, count, s->list, q, s->v, s->y, s->cover ? s->v : NULL, s->u));
    for (PetscInt k = 0; k < count; k++) {
      const GramTile *tile = s->list + k;

      GramFoldsAdd(tile->n_rows, q, s->y + GramAt(tile->row, q, 0), t,
                   s->folds_R + GramAt(tile->row - s->strips[0], GRAM_FOLDS * q, 0));
      if (tile->use == GRAM_TILE_BOTH)
        GramFoldsAdd(tile->n_cols, q, s->u + GramAt(tile->col, q, 0), t,
                     s->folds_C + GramAt(s->list_held[k], GRAM_FOLDS * q, 0));
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* T of the folds of each column: at most n_cols sums a row, phi <= 1, so that B = N max |v| */
static PetscErrorCode FoldsOfColumns(GramShell *s, PetscInt q, const PetscReal *v, PetscReal **t)
{
  PetscReal *largest;

  PetscFunctionBegin;
  PetscCall(PetscCalloc1(q, &largest));
  PetscCall(PetscMalloc1(GRAM_FOLDS * q, t));
  for (PetscInt i = 0; i < s->n_local; i++) {
    for (PetscInt r = 0; r < q; r++) largest[r] = GramLarger(largest[r], v[GramAt(i, q, r)]);
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, largest, (PetscMPIInt)q, MPIU_REAL, MPI_MAX, s->comm));
  for (PetscInt r = 0; r < q; r++)
    GramFoldsBegin((PetscReal)s->n_cols, (PetscReal)s->n * largest[r], *t + GramAt(r, GRAM_FOLDS, 0));
  PetscCall(PetscFree(largest));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a count as MPI takes it, or an error */
static PetscErrorCode CountOf(PetscInt rows, PetscInt width, PetscMPIInt *count)
{
  PetscInt numbers = 0;

  PetscFunctionBegin;
  PetscCall(PetscIntMultError(rows, width, &numbers));
  PetscCall(PetscMPIIntCast(numbers, count));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* An exchange of rows of so many numbers between the ranks of a side. */
typedef struct {
  MPI_Request  request; /* MPI_REQUEST_NULL: none is under way */
  MPI_Datatype row;
} Gather;

/* all: the rows of this rank are in their place, those of the other ranks arrive until GatherEnd() returns */
static PetscErrorCode GatherBegin(GramShell *s, const Side *side, PetscInt width, PetscReal *all,
                                  Gather *gather)
{
  PetscFunctionBegin;
  gather->request = MPI_REQUEST_NULL;
  if (side->size == 1) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCallMPI(MPI_Type_contiguous((int)width, MPIU_REAL, &gather->row));
  PetscCallMPI(MPI_Type_commit(&gather->row));
  PetscCallMPI(MPI_Iallgatherv(MPI_IN_PLACE, 0, gather->row, all, side->counts, side->at, gather->row,
                               side->comm, &gather->request));
  s->stats.bytes += 8.0 * (PetscLogDouble)width * (PetscLogDouble)(side->n - s->n_local);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode GatherEnd(Gather *gather)
{
  PetscFunctionBegin;
  if (gather->request == MPI_REQUEST_NULL) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCallMPI(MPI_Wait(&gather->request, MPI_STATUS_IGNORE));
  PetscCallMPI(MPI_Type_free(&gather->row));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* rows of width numbers, summed over the ranks of a side; each gets its own: in buffer, or where all are when it is
   alone */
static PetscErrorCode SideReduce(GramShell *s, const Side *side, PetscInt width, const PetscReal *all,
                                 PetscReal *buffer, const PetscReal **mine)
{
  PetscMPIInt *numbers;

  PetscFunctionBegin;
  *mine = all;
  if (side->size == 1) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMalloc1(side->size, &numbers));
  for (PetscMPIInt r = 0; r < side->size; r++) PetscCall(CountOf(side->counts[r], width, numbers + r));
  PetscCallMPI(MPI_Reduce_scatter(all, buffer, numbers, MPIU_REAL, MPI_SUM, side->comm));
  PetscCall(PetscFree(numbers));
  *mine = buffer;
  s->stats.bytes +=
      8.0 * (PetscLogDouble)width * (PetscLogDouble)side->n * (side->size - 1) / (PetscLogDouble)side->size;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode BuffersDestroy(GramShell *s)
{
  PetscFunctionBegin;
  PetscCall(GramTilesFree(s->tiles, &s->v));
  PetscCall(GramTilesFree(s->tiles, &s->w));
  PetscCall(GramTilesFree(s->tiles, &s->y));
  PetscCall(GramTilesFree(s->tiles, &s->u));
  PetscCall(PetscFree3(s->packed, s->sum_R, s->sum_C));
  PetscCall(PetscFree2(s->folds_R, s->folds_C));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where X is Z, w is v; and u is y unless their sums have to stay apart. */
static PetscErrorCode BuffersReserve(GramShell *s, PetscInt q)
{
  const PetscInt folds = s->schedule.reproducible ? GRAM_FOLDS : 0, sums = PetscMax(1, folds), qa = s->a * q,
                 qb = s->b * q;

  PetscFunctionBegin;
  if (q <= s->width) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(BuffersDestroy(s));
  PetscCall(GramTilesMalloc(s->tiles, GRAM_PANEL_IN, GramAt(s->n_z, qb, 0), &s->v));
  PetscCall(
      GramTilesMalloc(s->tiles, GRAM_PANEL_IN, s->apart && s->cover ? GramAt(s->n_x, qa, 0) : 0, &s->w));
  PetscCall(GramTilesMalloc(s->tiles, GRAM_PANEL_OUT, GramAt(s->n_x, qa, 0), &s->y));
  PetscCall(GramTilesMalloc(s->tiles, GRAM_PANEL_OUT,
                            s->cover && (s->apart || folds) ? GramAt(s->n_z, qb, 0) : 0, &s->u));
  PetscCall(PetscMalloc3(GramAt(s->n_local, qb, 0), &s->packed, GramAt(s->m_local, sums * qa, 0), &s->sum_R,
                         GramAt(s->m_local, sums * qa, 0), &s->sum_C));
  PetscCall(PetscMalloc2(GramAt(s->R.n, folds * q, 0), &s->folds_R,
                         s->cover ? GramAt(s->C.n, folds * q, 0) : 0, &s->folds_C));
  s->width = q;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* all but this rank's own rows of v, or of w, are there now */
static PetscErrorCode FilledOthers(GramShell *s, PetscBool w)
{
  const PetscInt begin = w ? s->R.own : s->C.own, end = begin + s->n_local;

  PetscFunctionBegin;
  PetscCall(GramTilesFilled(s->tiles, w, 0, begin));
  PetscCall(GramTilesFilled(s->tiles, w, end, (w ? s->n_x : s->n_z) - end));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y, and with the cover u, of all tiles; while v and w are still on their way, the tiles of this rank's own rows and
   columns go first */
static PetscErrorCode ApplyTiles(GramShell *s, PetscInt q, Gather *v, Gather *w)
{
  const PetscBool separate = (PetscBool)(s->apart && s->cover), /* w is not v, u is not y */
      early                = (PetscBool)(v->request != MPI_REQUEST_NULL || w->request != MPI_REQUEST_NULL);

  PetscFunctionBegin;
  PetscCall(PetscArrayzero(s->y, GramAt(s->n_x, s->a * q, 0)));
  if (separate) PetscCall(PetscArrayzero(s->u, GramAt(s->n_z, s->b * q, 0)));
  PetscCall(GramTilesBegin(s->tiles, q, s->v, s->y,
                           !s->cover  ? NULL
                           : separate ? s->w
                                      : s->v,
                           !s->cover  ? NULL
                           : separate ? s->u
                                      : s->y));
  PetscCall(GramTilesFilled(s->tiles, PETSC_FALSE, s->C.own, s->n_local));
  if (separate) PetscCall(GramTilesFilled(s->tiles, PETSC_TRUE, s->R.own, s->n_local));
  if (early) {
    PetscCall(AddTiles(s, OWN));
    PetscCall(PetscLogEventEnd(GRAM_Tiles, 0, 0, 0, 0));
    PetscCall(PetscLogEventBegin(GRAM_Gather, 0, 0, 0, 0));
    PetscCall(GatherEnd(v));
    PetscCall(GatherEnd(w));
    PetscCall(PetscLogEventEnd(GRAM_Gather, 0, 0, 0, 0));
    PetscCall(PetscLogEventBegin(GRAM_Tiles, 0, 0, 0, 0));
  }
  PetscCall(FilledOthers(s, PETSC_FALSE));
  if (separate) PetscCall(FilledOthers(s, PETSC_TRUE));
  PetscCall(AddTiles(s, early ? OTHERS : ALL));
  PetscCall(GramTilesEnd(s->tiles));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* This rank's rows to their place in v and w, and those of the others asked for; wait: until they are there. */
static PetscErrorCode GatherPanels(GramShell *s, PetscInt q, PetscBool wait, Gather *v, Gather *w)
{
  const PetscInt width = s->b * q; /* rows and columns are alike where there is a cover */
  const size_t   bytes = GramAt(s->n_local, width, 0) * sizeof(PetscReal);

  PetscFunctionBegin;
  PetscCall(GramBackendCopy(s->backend, s->v + GramAt(s->C.own, width, 0), s->packed, bytes));
  PetscCall(GatherBegin(s, &s->C, width, s->v, v));
  if (wait) PetscCall(GatherEnd(v)); /* w may be the same array */
  w->request = MPI_REQUEST_NULL;
  if (!s->cover) PetscFunctionReturn(PETSC_SUCCESS);
  if (s->apart) PetscCall(GramBackendCopy(s->backend, s->w + GramAt(s->R.own, width, 0), s->packed, bytes));
  PetscCall(GatherBegin(s, &s->R, width, s->apart ? s->w : s->v, w));
  if (wait) PetscCall(GatherEnd(w));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The three phases of a product leave in sum [m_local][a][q] and, unless NULL, in more [m_local][a][q] what makes up
   y = K v; v [n_local][b][q] is packed. */
static PetscErrorCode Phases(GramShell *s, PetscInt q, const PetscReal **sum, const PetscReal **more)
{
  const PetscBool exact = s->schedule.reproducible, alias = (PetscBool)(s->cover && !s->apart && !exact);
  const PetscInt  width = exact ? GRAM_FOLDS * q : s->a * q;
  PetscReal      *t     = NULL;
  Gather          v, w;

  PetscFunctionBegin;
  /* gather V */
  PetscCall(PetscLogEventBegin(GRAM_Gather, 0, 0, 0, 0));
  PetscCall(GatherPanels(s, q, (PetscBool)(exact || s->in_order), &v, &w));
  PetscCall(GramSkipBegin(s->skip, s->comm, s->schedule.tolerance, s->first, q, s->packed, &s->stats.bytes));
  if (exact) PetscCall(FoldsOfColumns(s, q, s->packed, &t));
  PetscCall(PetscLogEventEnd(GRAM_Gather, 0, 0, 0, 0));

  /* tiles */
  PetscCall(PetscLogEventBegin(GRAM_Tiles, 0, 0, 0, 0));
  if (exact) {
    PetscCall(PetscArrayzero(s->folds_R, GramAt(s->R.n, width, 0)));
    if (s->cover) PetscCall(PetscArrayzero(s->folds_C, GramAt(s->C.n, width, 0)));
    PetscCall(ApplyTilesExact(s, q, t));
  } else PetscCall(ApplyTiles(s, q, &v, &w));
  PetscCall(PetscFree(t));
  PetscCall(PetscLogEventEnd(GRAM_Tiles, 0, 0, 0, 0));

  /* reduce Y */
  PetscCall(PetscLogEventBegin(GRAM_Reduce, 0, 0, 0, 0));
  *more = NULL;
  if (alias) PetscCall(SideReduce(s, &s->C, width, s->y, s->sum_C, sum));
  else {
    PetscCall(SideReduce(s, &s->R, width, exact ? s->folds_R : s->y + GramAt(s->strips[0], width, 0),
                         s->sum_R, sum));
    if (s->cover) PetscCall(SideReduce(s, &s->C, width, exact ? s->folds_C : s->u, s->sum_C, more));
  }
  PetscCall(PetscLogEventEnd(GRAM_Reduce, 0, 0, 0, 0));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y = A v for a panel of at most s->width columns: v and y column-major with leading dimensions ldv, ldy. */
static PetscErrorCode PanelApply(GramShell *s, PetscInt q, const PetscReal *v, PetscInt ldv, PetscReal *y,
                                 PetscInt ldy)
{
  const PetscReal  s2    = s->kernel.amplitude * s->kernel.amplitude;
  const PetscInt   folds = s->schedule.reproducible ? GRAM_FOLDS : 1;
  const PetscReal *sum, *more;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < s->n_local * s->b; i++) {
    const PetscReal in = s->in[i % s->b];

    for (PetscInt r = 0; r < q; r++) s->packed[GramAt(i, q, r)] = in * v[GramAt(r, ldv, i)];
  }
  PetscCall(Phases(s, q, &sum, &more));
  for (PetscInt i = 0; i < s->m_local * s->a; i++) {
    const PetscReal out = s2 * s->out[i % s->a], ridge = s->ridge[i % s->a];

    for (PetscInt r = 0; r < q; r++) {
      const size_t at    = (size_t)folds * GramAt(i, q, r);
      PetscReal    value = sum[at] + (more ? more[at] : 0);

      if (folds > 1) value += sum[at + 1] + (more ? more[at + 1] : 0);
      y[GramAt(r, ldy, i)] = out * value + (ridge > 0 ? ridge * v[GramAt(r, ldv, i)] : 0);
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y = A v for any number of columns, in even shares of at most GRAM_PANEL */
static PetscErrorCode ShellApply(GramShell *s, PetscInt q, const PetscReal *v, PetscInt ldv, PetscReal *y,
                                 PetscInt ldy)
{
  const PetscInt shares = GramMatPasses(q), widest = shares ? q / shares + (q % shares > 0) : 0;
  PetscLogDouble begin, end;

  PetscFunctionBegin;
  PetscCall(PetscLogEventBegin(GRAM_Product, 0, 0, 0, 0));
  PetscCall(PetscTime(&begin));
  PetscCall(BuffersReserve(s, widest));
  s->shares = shares;
  for (PetscInt r = 0; r < q; r += widest)
    PetscCall(PanelApply(s, PetscMin(widest, q - r), v + GramAt(r, ldv, 0), ldv, y + GramAt(r, ldy, 0), ldy));
  for (PetscInt r = 0; r < q && (s->scale != 1 || s->shift != 0); r++) {
    for (PetscInt i = 0; i < s->m_local * s->a; i++)
      y[GramAt(r, ldy, i)] =
          s->scale * y[GramAt(r, ldy, i)] + (s->shift != 0 ? s->shift * v[GramAt(r, ldv, i)] : 0);
  }
  PetscCall(PetscTime(&end));
  s->stats.products++;
  s->stats.seconds += end - begin;
  PetscCall(PetscLogEventEnd(GRAM_Product, 0, 0, 0, 0));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Vectors in host memory are used in place, those on a device by way of a copy: GramBackendCopy() may come from pinned
   memory, and PETSc keeps no second copy of the vector. */
static PetscErrorCode MultWhereTheyLive(GramShell *s, Vec v, Vec y)
{
  const PetscInt   m = s->m_local * s->a, n = s->n_local * s->b;
  const PetscReal *va;
  PetscReal       *ya, *v_host = NULL, *y_host = NULL;
  PetscMemType     v_type, y_type;

  PetscFunctionBegin;
  PetscCall(VecGetArrayReadAndMemType(v, &va, &v_type));
  PetscCall(VecGetArrayWriteAndMemType(y, &ya, &y_type));
  if (PetscMemTypeDevice(v_type)) {
    PetscCall(PetscMalloc1(n, &v_host));
    PetscCall(GramBackendCopy(s->backend, v_host, va, (size_t)n * sizeof(PetscReal)));
  }
  if (PetscMemTypeDevice(y_type)) PetscCall(PetscMalloc1(m, &y_host));
  PetscCall(ShellApply(s, 1, v_host ? v_host : va, n, y_host ? y_host : ya, m));
  if (y_host) PetscCall(GramBackendCopy(s->backend, ya, y_host, (size_t)m * sizeof(PetscReal)));
  PetscCall(PetscFree(v_host));
  PetscCall(PetscFree(y_host));
  PetscCall(VecRestoreArrayWriteAndMemType(y, &ya));
  PetscCall(VecRestoreArrayReadAndMemType(v, &va));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatMult_Gram(Mat A, Vec v, Vec y)
{
  GramShell       *s;
  const PetscReal *va;
  PetscReal       *ya;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  if (GramBackendReachesDevice(s->backend)) {
    PetscCall(MultWhereTheyLive(s, v, y));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(VecGetArrayRead(v, &va));
  PetscCall(VecGetArrayWrite(y, &ya));
  PetscCall(ShellApply(s, 1, va, s->n_local * s->b, ya, s->m_local * s->a));
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
  PetscCall(MatDenseGetArrayRead(V, &va)); /* PETSc 3.18 has no other: panels on a device come to the host */
  PetscCall(MatDenseGetArrayWrite(Y, &ya));
  PetscCall(ShellApply(s, q, va, ldv, ya, ldy));
  PetscCall(MatDenseRestoreArrayWrite(Y, &ya));
  PetscCall(MatDenseRestoreArrayRead(V, &va));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatGetDiagonal_Gram(Mat A, Vec d)
{
  GramShell   *s;
  PetscReal    jet[3];
  PetscScalar *di;
  PetscInt     n;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  GramKernelJet(&s->kernel, 0, jet);
  PetscCall(VecGetLocalSize(d, &n));
  PetscCall(VecGetArrayWrite(d, &di));
  for (PetscInt i = 0; i < n; i++) {
    const PetscInt  p = i % s->a;
    const PetscReal k = PetscSqr(s->kernel.amplitude) * (p ? -jet[1] * PetscSqr(s->out[p]) : jet[0]);

    di[i] = s->scale * (k + s->ridge[p]) + s->shift;
  }
  PetscCall(VecRestoreArrayWrite(d, &di));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A shell's own scale and shift reach MatMult(), but in PETSc 3.18 not MatMatMult(). */
static PetscErrorCode MatScale_Gram(Mat A, PetscScalar a)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  s->scale *= a;
  s->shift *= a;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatShift_Gram(Mat A, PetscScalar a)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  s->shift += a;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatCreateVecs_Gram(Mat A, Vec *right, Vec *left)
{
  const MPI_Comm comm = PetscObjectComm((PetscObject)A);
  PetscLayout    rows, cols;
  VecType        type;

  PetscFunctionBegin;
  PetscCall(MatGetLayouts(A, &rows, &cols));
  PetscCall(MatGetVecType(A, &type));
  if (right) PetscCall(GramVecCreateExact(comm, cols, type, right));
  if (left) PetscCall(GramVecCreateExact(comm, rows, type, left));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* "auto", "1d", "2d" or "pr,pc" */
static PetscErrorCode GridFromName(MPI_Comm comm, const char *name, GramSchedule *schedule)
{
  PetscMPIInt size;
  PetscBool   line, square;
  double      pr, pc;
  char        rest;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &size));
  schedule->pr = size;
  schedule->pc = 1;
  PetscCall(PetscStrcasecmp(name, "auto", &line));
  if (!line) PetscCall(PetscStrcasecmp(name, "1d", &line));
  PetscCall(PetscStrcasecmp(name, "2d", &square));
  if (line) PetscFunctionReturn(PETSC_SUCCESS);
  if (square) {
    for (PetscMPIInt c = 1; c * c <= size; c++) {
      if (size % c == 0) schedule->pc = c;
    }
    schedule->pr = size / schedule->pc;
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  GramCheckInput(sscanf(name, "%lf ,%lf %c", &pr, &pc, &rest) == 2 && pr >= 1 && pc >= 1 &&
                     pr == PetscFloorReal(pr) && pc == PetscFloorReal(pc) && pr < INFINITY && pc < INFINITY,
                 comm, "product.grid: '%s' is none of auto, 1d, 2d, or two whole numbers > 0 such as 4,2",
                 name);
  GramCheckInput(pr * pc == size, comm, "product.grid: '%s' needs %.0f ranks, this run has %d", name, pr * pc,
                 size);
  schedule->pr = (PetscMPIInt)pr;
  schedule->pc = (PetscMPIInt)pc;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramScheduleFromOptions(MPI_Comm comm, GramSchedule *schedule)
{
  char      grid[64] = "auto", symmetric[16] = "auto";
  PetscBool automatic;

  PetscFunctionBegin;
  *schedule = (GramSchedule){.symmetric = PETSC_TRUE};
  PetscOptionsBegin(comm, "product_", "Products with the kernel matrix", NULL);
  PetscCall(PetscOptionsString("-grid", "Ranks as pr x pc: auto, 1d, 2d, or pr,pc", "GramMatCreate", grid,
                               grid, sizeof grid, NULL));
  PetscCall(PetscOptionsString("-symmetric", "Evaluate each pair once, use it twice: auto, true, false",
                               "GramMatCreate", symmetric, symmetric, sizeof symmetric, NULL));
  PetscCall(PetscOptionsBool("-reproducible", "The same bits on any number of ranks", "GramMatCreate",
                             schedule->reproducible, &schedule->reproducible, NULL));
  PetscCall(PetscOptionsReal("-tolerance", "Skip tiles that change no row by more than this share of K |v|",
                             "GramMatCreate", schedule->tolerance, &schedule->tolerance, NULL));
  PetscOptionsEnd();
  PetscCall(PetscStrcmp(symmetric, "auto", &automatic));
  if (!automatic)
    PetscCall(PetscOptionsStringToBool(symmetric[0] ? symmetric : "true", &schedule->symmetric));
  PetscCall(GridFromName(comm, grid, schedule));
  GramCheckInput(schedule->tolerance >= 0 && !PetscIsInfReal(schedule->tolerance), comm,
                 "product.tolerance: %.6g is not a finite number >= 0", (double)schedule->tolerance);
  schedule->block = schedule->reproducible ? BLOCK_SIZE : 1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscLogDouble GramScheduleBytes(const GramSchedule *s, const GramKernel *kernel, PetscInt n, PetscInt q)
{
  const PetscBool apart = (PetscBool)(s->pc > 1 && !s->reproducible);
  const PetscInt  folds = s->reproducible ? GRAM_FOLDS : 0, dim = kernel->dim,
                 columns   = PetscMin(q, GRAM_PANEL) * GramKernelNumbers(kernel);
  const PetscLogDouble n_R = (PetscLogDouble)n / s->pr, n_C = (PetscLogDouble)n / s->pc,
                       own = (PetscLogDouble)n / s->pr / s->pc;
  const PetscLogDouble n_x = apart ? n_R : n, n_z = apart ? n_C : n, blocks = n / BLOCK_SIZE + 1;
  PetscLogDouble       points = 2.5 * n, panel = n_x + n_z, skip = 2 * blocks * dim;

  if (apart) points += 1.5 * (n_R + n_C) + n_C; /* the last: handed to the backend */
  if (s->symmetric) panel += (apart ? n_x : 0) + (apart || folds ? n_z : 0);
  panel += own * (1 + 2 * PetscMax(1, folds)); /* packed, sum_R, sum_C */
  panel += folds * (n_R + (s->symmetric ? n_C : 0));
  if (s->tolerance > 0) {
    panel += 2 * blocks;
    skip += GRAM_SKIP_PARTS * (2.0 * dim + 1) * (own / BLOCK_SIZE + 1);
  }
  return 8 * (points * dim + panel * columns + skip);
}

PetscErrorCode GramScheduleDeviceBytes(const GramSchedule *s, GramBackend backend, const GramKernel *kernel,
                                       PetscInt n, PetscInt q, PetscLogDouble *need, PetscLogDouble *have)
{
  const PetscBool apart = (PetscBool)(s->pc > 1 && !s->reproducible);

  PetscFunctionBegin;
  PetscCall(GramBackendDeviceBytes(backend, apart ? n / s->pr + 1 : n, apart ? n / s->pc + 1 : 0, kernel->dim,
                                   PetscMin(q, GRAM_PANEL) * GramKernelNumbers(kernel), need, have));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramCrossDeviceBytes(MPI_Comm comm, GramBackend backend, PetscInt m, PetscInt n, PetscInt dim,
                                    PetscInt q, PetscLogDouble *need, PetscLogDouble *have)
{
  PetscMPIInt size;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(GramBackendDeviceBytes(backend, m / size + 1, n, dim, PetscMin(q, GRAM_PANEL), need, have));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MatDestroy_Gram(Mat A)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(BuffersDestroy(s));
  if (s->all != s->tiles) PetscCall(GramTilesDestroy(&s->all));
  PetscCall(GramTilesDestroy(&s->tiles));
  PetscCall(GramSkipDestroy(&s->skip));
  PetscCall(PetscFree2(s->R.counts, s->R.at));
  PetscCall(PetscFree2(s->C.counts, s->C.at));
  PetscCallMPI(MPI_Comm_free(&s->R.comm));
  PetscCallMPI(MPI_Comm_free(&s->C.comm));
  PetscCall(PetscFree2(s->list, s->list_held));
  PetscCall(PetscFree(s->first));
  PetscCall(PetscFree(s->block));
  PetscCall(PetscFree(s->held));
  PetscCall(PetscFree(s->strips));
  PetscCall(PetscCommDestroy(&s->comm));
  PetscCall(PetscFree(s));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The ranks of this one's row (color r, key c) or column of the grid. apart: their points stand one after the other
   in what the tiles hold, else where they stand on the curve. */
static PetscErrorCode SideCreate(MPI_Comm comm, PetscMPIInt color, PetscMPIInt key, PetscInt n_local,
                                 PetscInt start, PetscBool apart, Side *side)
{
  PetscMPIInt mine[2], rank, *all;

  PetscFunctionBegin;
  PetscCall(PetscMPIIntCast(n_local, mine));
  PetscCall(PetscMPIIntCast(start, mine + 1));
  PetscCallMPI(MPI_Comm_split(comm, color, key, &side->comm));
  PetscCallMPI(MPI_Comm_size(side->comm, &side->size));
  PetscCallMPI(MPI_Comm_rank(side->comm, &rank));
  PetscCall(PetscMalloc1(2 * side->size, &all));
  PetscCall(PetscMalloc2(side->size, &side->counts, side->size, &side->at));
  PetscCallMPI(MPI_Allgather(mine, 2, MPI_INT, all, 2, MPI_INT, side->comm));
  side->n = 0;
  for (PetscMPIInt r = 0; r < side->size; r++) {
    side->counts[r] = all[2 * r];
    side->at[r]     = all[2 * r + 1];
    if (apart) PetscCall(PetscMPIIntCast(side->n, side->at + r));
    side->n += side->counts[r];
  }
  side->own = side->at[rank];
  PetscCall(PetscFree(all));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* R: the rows of the ranks in this row of the grid, a stretch of the curve; C: those of the ranks in this column, a
   piece of every such stretch. Targets keep to themselves. */
static PetscErrorCode GridCreate(GramShell *s, PetscInt start)
{
  PetscMPIInt rank, pc = s->schedule.pc;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(s->comm, &rank));
  PetscCall(SideCreate(s->comm, rank / pc, rank % pc, s->m_local, start, s->apart, &s->R));
  PetscCall(SideCreate(s->comm, rank % pc, rank / pc, s->n_local, start, s->apart, &s->C));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where the row blocks of R and all column blocks begin. Targets may be any m_local. */
static PetscErrorCode BlocksCreate(GramShell *s, GramPoints points)
{
  const PetscMPIInt pc = s->schedule.pc;
  PetscMPIInt       rank, size;
  PetscInt          at = 0, origin = 0; /* of R on the curve, when the tiles hold no more than R */

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(s->comm, &rank));
  PetscCallMPI(MPI_Comm_size(s->comm, &size));
  PetscCall(GramPointsGetBlocks(points, BLOCK_SIZE, &s->n_cols, &s->block, &s->first));
  PetscCall(PetscMalloc1(s->n_cols, &s->held));
  for (PetscInt j = 0; j < s->n_cols; j++) s->held[j] = -1;
  for (PetscMPIInt r = rank % pc; r < size; r += pc) {
    for (PetscInt j = s->first[r]; j < s->first[r + 1]; at += s->block[j + 1] - s->block[j], j++)
      s->held[j] = at;
  }
  if (s->square) {
    s->first_strip = s->first[rank - rank % pc];
    s->n_strips    = s->first[rank - rank % pc + pc] - s->first_strip;
    origin         = s->apart ? s->block[s->first_strip] : 0;
  } else s->n_strips = (s->m_local + BLOCK_SIZE - 1) / BLOCK_SIZE;
  for (int end = 0; end < 2; end++) {
    s->own_cols[end]   = s->first[rank + end];
    s->own_strips[end] = s->square ? s->own_cols[end] - s->first_strip : end * s->n_strips;
  }
  PetscCall(PetscMalloc1(s->n_strips + 1, &s->strips));
  for (PetscInt i = 0; i <= s->n_strips; i++) {
    s->strips[i] = s->square ? s->block[s->first_strip + i] - origin
                             : (PetscInt)((PetscInt64)i * s->m_local / PetscMax(1, s->n_strips));
  }
  PetscCall(
      PetscMalloc2(PetscMax(BATCH, s->n_strips), &s->list, PetscMax(BATCH, s->n_strips), &s->list_held));
  for (PetscInt j = 0; s->schedule.reproducible && j < s->n_cols; j++)
    PetscCheck(s->block[j] % s->schedule.block == 0, s->comm, PETSC_ERR_ARG_WRONG,
               "product.reproducible: points must be created in blocks of %" PetscInt_FMT, s->schedule.block);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* z [n][dim]: all points, divided by the length scale */
static PetscErrorCode SquareTilesCreate(GramShell *s, const PetscReal *z)
{
  const PetscInt dim = s->kernel.dim;
  PetscMPIInt    rank;
  PetscReal     *z_C;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(s->comm, &rank));
  PetscCall(GramTilesCreate(s->backend, &s->kernel, s->rows, s->n, z, s->cols, 0, NULL, &s->all));
  s->tiles = s->all;
  if (s->apart) {
    PetscCall(PetscMalloc1(GramAt(s->C.n, dim, 1), &z_C)); /* NULL would mean the row points again */
    for (PetscInt j = 0; j < s->n_cols; j++) {
      if (s->held[j] < 0) continue;
      PetscCall(PetscArraycpy(z_C + GramAt(s->held[j], dim, 0), z + GramAt(s->block[j], dim, 0),
                              GramAt(s->block[j + 1] - s->block[j], dim, 0)));
    }
    PetscCall(GramTilesCreate(s->backend, &s->kernel, s->rows, s->R.n,
                              z + GramAt(s->block[s->first_strip], dim, 0), s->cols, s->C.n, z_C, &s->tiles));
    PetscCall(PetscFree(z_C));
  }
  PetscCall(GramSkipCreate(&s->kernel, s->n_cols, s->block, z, 0, NULL, NULL, s->first[rank],
                           s->first[rank + 1], (PetscBool)(s->schedule.tolerance > 0), &s->skip));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CrossTilesCreate(GramShell *s, GramPoints targets, const PetscReal *z)
{
  const PetscInt   dim = s->kernel.dim;
  const PetscReal *local;
  PetscReal       *t;

  PetscFunctionBegin;
  PetscCall(GramPointsGetArrayRead(targets, &local));
  PetscCall(PetscMalloc1(GramAt(s->m_local, dim, 1), &t));
  for (PetscInt i = 0; i < s->m_local; i++) {
    for (PetscInt c = 0; c < dim; c++)
      t[GramAt(i, dim, c)] = local[GramAt(i, dim, c)] / s->kernel.length_scale[c];
  }
  PetscCall(GramTilesCreate(s->backend, &s->kernel, s->rows, s->m_local, t, s->cols, s->n, z, &s->tiles));
  if (s->in_order) PetscCall(GramTilesSetRowwise(s->tiles));
  s->all = s->tiles;
  PetscCall(GramSkipCreate(&s->kernel, s->n_cols, s->block, z, s->n_strips, s->strips, t, 0, 0, PETSC_FALSE,
                           &s->skip));
  PetscCall(PetscFree(t));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Numbers of the points of both sides, in coordinates divided by the length scale and in those of the user. */
static void PartsSet(GramShell *s, GramPart rows, GramPart cols)
{
  const GramPart parts[2]   = {rows, cols};
  PetscReal     *factors[2] = {s->out, s->in};

  s->rows = rows;
  s->cols = cols;
  s->a    = GramPartSize(rows, s->kernel.dim);
  s->b    = GramPartSize(cols, s->kernel.dim);
  for (int side = 0; side < 2; side++) {
    const PetscInt values = parts[side] & GRAM_VALUE ? 1 : 0;

    if (values) factors[side][0] = 1;
    for (PetscInt c = 0; c < s->kernel.dim && parts[side] & GRAM_GRADIENT; c++)
      factors[side][values + c] = 1 / s->kernel.length_scale[c];
  }
  for (PetscInt p = 0; p < s->a; p++)
    s->ridge[p] = !s->square ? 0 : p ? s->kernel.alpha_gradient : s->kernel.alpha;
}

static PetscErrorCode CheckSchedule(const GramShell *s)
{
  const PetscBool grows = (PetscBool)(GramRadialGetInfo(s->kernel.radial)->order > 0);

  PetscFunctionBegin;
  GramCheckInput(!s->kernel.gradients || s->schedule.tolerance == 0, s->comm,
                 "product.tolerance: %.6g bounds values, and data.gradients are given; take 0",
                 (double)s->schedule.tolerance);
  GramCheckInput(!(s->kernel.gradients || grows) || !s->schedule.reproducible, s->comm,
                 "product.reproducible: not with %s",
                 grows ? "a kernel.type that grows with distance" : "data.gradients");
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* targets: NULL for the square matrix; rows: what they stand for */
static PetscErrorCode ShellCreate(GramPoints targets, GramPoints points, const GramKernel *kernel,
                                  GramBackend backend, GramPart rows, Mat *A)
{
  GramShell  *s;
  PetscInt    dim, m, start, numbers;
  PetscReal  *z;
  PetscMPIInt size;

  PetscFunctionBegin;
  PetscCall(RegisterEvents());
  PetscCall(PetscNew(&s));
  PetscCall(GramPointsGetSizes(points, &s->comm, &dim, &s->n, &s->n_local, &start));
  PetscCall(PetscCommDuplicate(s->comm, &s->comm, NULL));
  PetscCheck(dim == kernel->dim, s->comm, PETSC_ERR_ARG_SIZ,
             "points have %" PetscInt_FMT " coordinates, the kernel %" PetscInt_FMT, dim, kernel->dim);
  PetscCallMPI(MPI_Comm_size(s->comm, &size));
  PetscCall(GramScheduleFromOptions(s->comm, &s->schedule));
  PetscCall(GramBackendGetInfo(backend, NULL, NULL, &s->precision));
  s->backend = backend;
  s->scale   = 1;
  s->points  = points;
  s->kernel  = *kernel;
  s->square  = (PetscBool)!targets;
  s->m_local = s->n_local;
  m          = s->n;
  if (targets) { /* each row is summed where it lives, over the blocks in their order: reproducible as it is */
    s->in_order = s->schedule.reproducible;
    if (s->in_order) s->schedule.tolerance = 0; /* tiles would be skipped by where ranks cut the targets */
    PetscCall(GramPointsGetSizes(targets, NULL, NULL, &m, &s->m_local, NULL));
    s->schedule.pr           = size;
    s->schedule.pc           = 1;
    s->schedule.symmetric    = PETSC_FALSE;
    s->schedule.reproducible = PETSC_FALSE;
  }
  PetscCall(CheckSchedule(s));
  PartsSet(s, rows, kernel->gradients ? GRAM_JOINT : GRAM_VALUE);
  PetscCall(PetscIntMultError(PetscMax(m, s->n), PetscMax(s->a, s->b), &numbers));
  s->cover = s->schedule.symmetric;
  s->apart = (PetscBool)(s->schedule.pc > 1 && !s->schedule.reproducible);

  PetscCall(GridCreate(s, start));
  PetscCall(BlocksCreate(s, points));
  s->n_x = targets ? s->m_local : s->apart ? s->R.n : s->n;
  s->n_z = s->apart ? s->C.n : s->n;
  PetscCall(GramPointsAllGather(points, kernel->length_scale, &z));
  if (targets) PetscCall(CrossTilesCreate(s, targets, z));
  else PetscCall(SquareTilesCreate(s, z));
  PetscCall(PetscFree(z));

  PetscCall(MatCreateShell(s->comm, s->m_local * s->a, s->n_local * s->b, m * s->a, s->n * s->b, s, A));
  PetscCall(MatShellSetManageScalingShifts(*A));
  PetscCall(MatShellSetOperation(*A, MATOP_SCALE, (void (*)(void))MatScale_Gram));
  PetscCall(MatShellSetOperation(*A, MATOP_MULT, (void (*)(void))MatMult_Gram));
  PetscCall(MatShellSetOperation(*A, MATOP_DESTROY, (void (*)(void))MatDestroy_Gram));
  if (s->schedule.reproducible)
    PetscCall(MatShellSetOperation(*A, MATOP_CREATE_VECS, (void (*)(void))MatCreateVecs_Gram));
  PetscCall(MatShellSetMatProductOperation(*A, MATPRODUCT_AB, NULL, MatMatMultNumeric_Gram, NULL, MATDENSE,
                                           MATDENSE));
  PetscCall(PetscObjectSetName((PetscObject)*A, targets ? "GramCross" : "Gram"));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatCreate(GramPoints points, const GramKernel *kernel, GramBackend backend, Mat *A)
{
  PetscFunctionBegin;
  PetscCall(ShellCreate(NULL, points, kernel, backend, kernel->gradients ? GRAM_JOINT : GRAM_VALUE, A));
  PetscCall(MatShellSetOperation(*A, MATOP_SHIFT, (void (*)(void))MatShift_Gram));
  PetscCall(MatShellSetOperation(*A, MATOP_MULT_TRANSPOSE, (void (*)(void))MatMult_Gram));
  PetscCall(MatShellSetOperation(*A, MATOP_GET_DIAGONAL, (void (*)(void))MatGetDiagonal_Gram));
  PetscCall(MatSetOption(*A, MAT_SYMMETRIC, PETSC_TRUE));
  PetscCall(MatSetOption(*A, MAT_SPD, (PetscBool)(GramRadialGetInfo(kernel->radial)->order == 0)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatCreateCross(GramPoints targets, GramPart rows, GramPoints points,
                                  const GramKernel *kernel, GramBackend backend, Mat *K)
{
  PetscFunctionBegin;
  PetscCall(ShellCreate(targets, points, kernel, backend, rows, K));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The shell, of A itself or of the matrix that A is made of. */
static PetscErrorCode ShellOf(Mat A, GramShell **s)
{
  PetscObject inner;

  PetscFunctionBegin;
  PetscCall(PetscObjectQuery((PetscObject)A, GRAM_MAT_INNER, &inner));
  PetscCall(MatShellGetContext(inner ? (Mat)inner : A, s));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatSetTolerance(Mat A, PetscReal tolerance)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(ShellOf(A, &s));
  PetscCheck(tolerance >= 0, s->comm, PETSC_ERR_ARG_OUTOFRANGE, "tolerance: %g is not >= 0",
             (double)tolerance);
  s->schedule.tolerance = s->in_order ? 0 : tolerance;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatMatchPanel(Mat A, Mat panel)
{
  GramShell *s;
  PetscInt   q;
  Vec        column;

  PetscFunctionBegin;
  PetscCall(ShellOf(A, &s));
  PetscCall(MatGetSize(panel, NULL, &q));
  if (!s->schedule.reproducible || !q) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(MatDenseGetColumnVecRead(panel, 0, &column));
  PetscCall(GramVecSetExact(column));
  PetscCall(MatDenseRestoreColumnVecRead(panel, 0, &column));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what turns the entries of the tiles into those of K: amplitude, and units of both sides */
static void EntriesScale(const GramShell *s, const PetscReal row_factor[], const PetscReal col_factor[],
                         PetscInt n_rows, const PetscInt rows[], PetscInt n_cols, const PetscInt cols[],
                         PetscReal *a, PetscInt lda)
{
  const PetscReal s2 = s->kernel.amplitude * s->kernel.amplitude;

  for (PetscInt j = 0; j < n_cols; j++) {
    const PetscReal factor = s2 * col_factor[cols[j] % s->b];

    for (PetscInt i = 0; i < n_rows; i++) a[GramAt(j, lda, i)] *= factor * row_factor[rows[i] % s->a];
  }
}

PetscErrorCode GramMatGetEntries(Mat A, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                 const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  GramShell *s;
  PetscErrorCode (*own)(Mat, PetscInt, const PetscInt[], PetscInt, const PetscInt[], PetscReal *, PetscInt);

  PetscFunctionBegin;
  PetscCall(PetscObjectQueryFunction((PetscObject)A, GRAM_MAT_ENTRIES, &own));
  if (own) {
    PetscCall((*own)(A, n_rows, rows, n_cols, cols, a, lda));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(GramTilesEntries(s->all, n_rows, rows, n_cols, cols, a, lda));
  EntriesScale(s, s->out, s->in, n_rows, rows, n_cols, cols, a, lda);
  for (PetscInt j = 0; j < n_cols && s->square; j++) {
    for (PetscInt i = 0; i < n_rows; i++) {
      if (rows[i] == cols[j]) a[GramAt(j, lda, i)] += s->ridge[rows[i] % s->a];
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* 1 for values; for derivatives what makes k(x, x) of them that of values */
static void Units(const GramShell *s, PetscReal unit[])
{
  PetscReal jet[3];

  unit[0] = 1;
  if (s->b == 1) return;
  GramKernelJet(&s->kernel, 0, jet);
  for (PetscInt p = 1; p < s->b; p++) {
    const PetscReal size =
        jet[0] > 0 ? jet[0] : 1; /* where k(x, x) is 0 or negative, its derivatives in x / l */

    unit[p] = (jet[1] < 0 ? PetscSqrtReal(size / -jet[1]) : 1) * s->kernel.length_scale[p - 1];
  }
}

PetscErrorCode GramMatGetBlock(Mat A, PetscInt *numbers, PetscReal unit[], PetscReal ridge[])
{
  PetscReal  units[1 + GRAM_MAX_DIM];
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(ShellOf(A, &s));
  Units(s, units);
  *numbers = s->b;
  for (PetscInt p = 0; p < s->b; p++) {
    if (unit) unit[p] = units[p];
    if (ridge) ridge[p] = s->ridge[p] * units[p] * units[p];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetKernelEntries(Mat A, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                       const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  GramShell *s;
  PetscErrorCode (*own)(Mat, PetscInt, const PetscInt[], PetscInt, const PetscInt[], PetscReal *, PetscInt);
  PetscReal unit[1 + GRAM_MAX_DIM];

  PetscFunctionBegin;
  PetscCall(PetscObjectQueryFunction((PetscObject)A, GRAM_MAT_KERNEL_ENTRIES, &own));
  if (own) {
    PetscCall((*own)(A, n_rows, rows, n_cols, cols, a, lda));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(MatShellGetContext(A, &s));
  PetscCall(GramTilesEntries(s->all, n_rows, rows, n_cols, cols, a, lda));
  Units(s, unit);
  for (PetscInt p = 0; p < s->b; p++) unit[p] *= s->in[p];
  if (s->b > 1 || s->kernel.amplitude != 1) EntriesScale(s, unit, unit, n_rows, rows, n_cols, cols, a, lda);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetKernelDiagonal(Mat A, PetscInt first, PetscInt n, PetscReal d[])
{
  GramShell *s;
  PetscErrorCode (*own)(Mat, PetscInt, PetscInt, PetscReal[]);
  PetscReal unit[1 + GRAM_MAX_DIM], jet[3];

  PetscFunctionBegin;
  PetscCall(PetscObjectQueryFunction((PetscObject)A, GRAM_MAT_KERNEL_DIAGONAL, &own));
  if (own) {
    PetscCall((*own)(A, first, n, d));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(MatShellGetContext(A, &s));
  Units(s, unit);
  GramKernelJet(&s->kernel, 0, jet);
  for (PetscInt i = 0; i < n; i++) {
    const PetscInt p = (first + i) % s->b;

    d[i] = PetscSqr(s->kernel.amplitude) * (p ? -jet[1] * PetscSqr(unit[p] * s->in[p]) : jet[0]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetStats(Mat A, GramMatStats *stats)
{
  GramShell *s;
  PetscInt   m;

  PetscFunctionBegin;
  PetscCall(ShellOf(A, &s));
  PetscCall(MatGetSize(A, &m, NULL));
  m /= s->a; /* points */
  s->stats.pairs = (PetscLogDouble)s->stats.products * (PetscLogDouble)m * (PetscLogDouble)s->n;
  PetscCall(GramTilesGetDeviceSeconds(s->tiles, &s->stats.device_seconds));
  *stats = s->stats;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetKernel(Mat A, GramKernel *kernel)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(ShellOf(A, &s));
  *kernel = s->kernel;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetPoints(Mat A, GramPoints *points)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(ShellOf(A, &s));
  *points = s->points;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramMatGetPrecision(Mat A, GramPrecision *precision)
{
  GramShell *s;

  PetscFunctionBegin;
  PetscCall(ShellOf(A, &s));
  *precision = s->precision;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPanelFromInput(GramPoints points, PetscInt numbers, PetscInt q, const PetscReal *input,
                                  Mat *panel)
{
  PetscInt   n, lda;
  PetscReal *rows, *a;
  MPI_Comm   comm;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(points, &comm, NULL, NULL, &n, NULL));
  PetscCall(PetscMalloc1(GramAt(n, numbers * q, 0), &rows));
  PetscCall(GramPointsToCurve(points, numbers * q, input, rows));
  PetscCall(MatCreateDense(comm, n * numbers, PETSC_DECIDE, PETSC_DETERMINE, q, NULL, panel));
  PetscCall(MatDenseGetLDA(*panel, &lda));
  PetscCall(MatDenseGetArrayWrite(*panel, &a));
  for (PetscInt r = 0; r < q; r++) {
    for (PetscInt i = 0; i < n * numbers; i++) a[GramAt(r, lda, i)] = rows[GramAt(i, q, r)];
  }
  PetscCall(MatDenseRestoreArrayWrite(*panel, &a));
  PetscCall(MatAssemblyBegin(*panel, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(*panel, MAT_FINAL_ASSEMBLY));
  PetscCall(PetscFree(rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPanelToInput(GramPoints points, PetscInt numbers, Mat panel, PetscReal *input)
{
  PetscInt         n, lda, q;
  PetscReal       *rows;
  const PetscReal *a;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(points, NULL, NULL, NULL, &n, NULL));
  PetscCall(MatGetSize(panel, NULL, &q));
  PetscCall(PetscMalloc1(GramAt(n, numbers * q, 0), &rows));
  PetscCall(MatDenseGetLDA(panel, &lda));
  PetscCall(MatDenseGetArrayRead(panel, &a));
  for (PetscInt r = 0; r < q; r++) {
    for (PetscInt i = 0; i < n * numbers; i++) rows[GramAt(i, q, r)] = a[GramAt(r, lda, i)];
  }
  PetscCall(MatDenseRestoreArrayRead(panel, &a));
  PetscCall(GramPointsToInput(points, numbers * q, rows, input));
  PetscCall(PetscFree(rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}
