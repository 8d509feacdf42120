#include <petscsf.h>

#include "points.h"

#define CURVE_DIMS 8 /* coordinates that steer the curve */

struct _p_GramPoints {
  MPI_Comm    comm;
  PetscInt    dim, n, n_local, start; /* this rank owns [start, start + n_local) of the curve */
  PetscInt    block;                  /* ranks own whole blocks of so many points */
  PetscReal  *x;                      /* [n_local][dim] */
  PetscInt   *row;                    /* [n_local] input row of each point */
  PetscLayout layout;                 /* of the curve */
  PetscSF     sf;                     /* roots: input rows; leaves: curve rows */
};

/* A point on its way through the sort, followed in memory by its dim coordinates. */
typedef struct {
  uint64_t  key; /* place on the curve */
  PetscInt  row; /* input row */
  PetscReal x[];
} Record;

/* Total order: equal keys are told apart by coordinates, so that duplicates end up side by side. */
static int RecordCompare(const void *left, const void *right, void *ctx)
{
  const Record  *a = (const Record *)left, *b = (const Record *)right;
  const PetscInt dim = *(const PetscInt *)ctx;

  if (a->key != b->key) return a->key < b->key ? -1 : 1;
  for (PetscInt c = 0; c < dim; c++) {
    if (a->x[c] != b->x[c]) return a->x[c] < b->x[c] ? -1 : 1;
  }
  return (a->row > b->row) - (a->row < b->row);
}

/* PetscTimSort() reads the first element even when there is none */
static PetscErrorCode RecordsSortLocal(PetscInt dim, size_t size, PetscInt n, char *records)
{
  PetscFunctionBegin;
  if (n > 1) PetscCall(PetscTimSort(n, records, size, RecordCompare, &dim));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Skilling's transform of cell[0..d) (b bits each) to the Hilbert index in transposed form, then interleaved. */
static uint64_t HilbertKey(int d, int b, uint32_t cell[])
{
  const uint32_t top = (uint32_t)1 << (b - 1);
  uint64_t       key = 0;
  uint32_t       t   = 0;

  for (uint32_t q = top; q > 1; q >>= 1) { /* inverse undo */
    for (int i = 0; i < d; i++) {
      if (cell[i] & q) cell[0] ^= q - 1;
      else {
        t = (cell[0] ^ cell[i]) & (q - 1);
        cell[0] ^= t;
        cell[i] ^= t;
      }
    }
  }
  for (int i = 1; i < d; i++) cell[i] ^= cell[i - 1]; /* Gray encode */
  t = 0;
  for (uint32_t q = top; q > 1; q >>= 1) {
    if (cell[d - 1] & q) t ^= q - 1;
  }
  for (int bit = b - 1; bit >= 0; bit--) {
    for (int i = 0; i < d; i++) key = key << 1 | (((cell[i] ^ t) >> bit) & 1);
  }
  return key;
}

/* The box of all points in scaled coordinates, and the up to CURVE_DIMS widest of its sides. */
static PetscErrorCode CurveBox(MPI_Comm comm, PetscInt dim, PetscInt n, const PetscReal *x,
                               const PetscReal *scale, int *d, PetscInt widest[], PetscReal lower[],
                               PetscReal *width)
{
  PetscReal upper[GRAM_MAX_DIM], box[2 * GRAM_MAX_DIM], all[2 * GRAM_MAX_DIM] = {0};

  PetscFunctionBegin;
  for (PetscInt c = 0; c < 2 * dim; c++) box[c] = PETSC_MIN_REAL;
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt c = 0; c < dim; c++) {
      PetscReal v = x[GramAt(i, dim, c)] / (scale ? scale[c] : 1);

      box[c]       = PetscMax(box[c], -v);
      box[dim + c] = PetscMax(box[dim + c], v);
    }
  }
  PetscCallMPI(MPI_Allreduce(box, all, (PetscMPIInt)(2 * dim), MPIU_REAL, MPI_MAX, comm));
  for (PetscInt c = 0; c < dim; c++) {
    lower[c] = -all[c];
    upper[c] = all[dim + c];
  }
  *width = 0;
  *d     = (int)PetscMin(dim, CURVE_DIMS);
  for (int i = 0; i < *d; i++) { /* selection of the d widest sides, in coordinate order among equals */
    widest[i] = -1;
    for (PetscInt c = 0; c < dim; c++) {
      PetscBool taken = PETSC_FALSE;

      for (int j = 0; j < i; j++) taken = (PetscBool)(taken || widest[j] == c);
      if (taken) continue;
      if (widest[i] < 0 || upper[c] - lower[c] > upper[widest[i]] - lower[widest[i]]) widest[i] = c;
    }
    *width = PetscMax(*width, upper[widest[i]] - lower[widest[i]]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode RecordsCreate(MPI_Comm comm, PetscInt dim, PetscInt n, PetscInt first,
                                    const PetscReal *x, const PetscReal *scale, size_t size, char **records)
{
  PetscInt  widest[CURVE_DIMS];
  PetscReal lower[GRAM_MAX_DIM], width = 0;
  int       d = 1, bits;

  PetscFunctionBegin;
  PetscCall(CurveBox(comm, dim, n, x, scale, &d, widest, lower, &width));
  bits = PetscMin(62 / d, 31);
  PetscCall(PetscMalloc1((size_t)n * size, records));
  for (PetscInt i = 0; i < n; i++) {
    Record  *record = (Record *)(*records + (size_t)i * size);
    uint32_t cell[CURVE_DIMS];

    for (int k = 0; k < d; k++) {
      const PetscInt  c = widest[k];
      const PetscReal unit =
          width > 0 ? (x[GramAt(i, dim, c)] / (scale ? scale[c] : 1) - lower[c]) / width : 0;

      cell[k] =
          (uint32_t)PetscMin(unit * (PetscReal)((uint32_t)1 << bits), (PetscReal)(((uint32_t)1 << bits) - 1));
    }
    record->key = HilbertKey(d, bits, cell);
    record->row = first + i;
    PetscCall(PetscArraycpy(record->x, x + GramAt(i, dim, 0), dim));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Send counts[r] records to rank r; what arrives replaces records. */
static PetscErrorCode RecordsExchange(MPI_Comm comm, size_t size, const PetscMPIInt counts[], char **records,
                                      PetscInt *n)
{
  MPI_Datatype type;
  PetscMPIInt  ranks, *received, *from, *to;
  PetscInt     total = 0;
  char        *arrived;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(PetscMalloc3(ranks, &received, ranks, &from, ranks, &to));
  PetscCallMPI(MPI_Alltoall(counts, 1, MPI_INT, received, 1, MPI_INT, comm));
  for (PetscMPIInt r = 0, sent = 0; r < ranks; sent += counts[r], total += received[r], r++) {
    from[r] = sent;
    to[r]   = (PetscMPIInt)total;
  }
  PetscCall(PetscMalloc1((size_t)total * size, &arrived));
  PetscCallMPI(MPI_Type_contiguous((int)size, MPI_BYTE, &type));
  PetscCallMPI(MPI_Type_commit(&type));
  PetscCallMPI(MPI_Alltoallv(*records, counts, from, type, arrived, received, to, type, comm));
  PetscCallMPI(MPI_Type_free(&type));
  PetscCall(PetscFree3(received, from, to));
  PetscCall(PetscFree(*records));
  *records = arrived;
  *n       = total;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Splitters that cut all records into as many pieces as there are ranks, from a regular sample of each rank. */
static PetscErrorCode RecordsSplit(MPI_Comm comm, PetscInt dim, size_t size, const char *records, PetscInt n,
                                   PetscMPIInt counts[])
{
  MPI_Datatype type;
  PetscMPIInt  ranks, mine, total = 0, *sizes, *offsets;
  char        *sample, *all;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  /* what all ranks gather stays small: pieces that come out uneven are evened out afterwards */
  mine = (PetscMPIInt)PetscMin(n, PetscMin(4 * (PetscInt)ranks, PetscMax(16, 65536 / (PetscInt)ranks)));
  PetscCall(PetscMalloc3(ranks, &sizes, ranks, &offsets, (size_t)mine * size, &sample));
  for (PetscMPIInt s = 0; s < mine; s++) {
    PetscCall(
        PetscMemcpy(sample + (size_t)s * size, records + (size_t)s * (size_t)n / (size_t)mine * size, size));
  }
  PetscCallMPI(MPI_Allgather(&mine, 1, MPI_INT, sizes, 1, MPI_INT, comm));
  for (PetscMPIInt r = 0; r < ranks; total += sizes[r], r++) offsets[r] = total;
  PetscCall(PetscMalloc1((size_t)total * size, &all));
  PetscCallMPI(MPI_Type_contiguous((int)size, MPI_BYTE, &type));
  PetscCallMPI(MPI_Type_commit(&type));
  PetscCallMPI(MPI_Allgatherv(sample, mine, type, all, sizes, offsets, type, comm));
  PetscCallMPI(MPI_Type_free(&type));
  PetscCall(RecordsSortLocal(dim, size, total, all));
  for (PetscMPIInt r = 0, i = 0; r < ranks; r++) {
    const PetscInt cut = (PetscInt)((PetscInt64)(r + 1) * total / ranks);

    counts[r] = 0;
    for (; i < n; i++, counts[r]++) {
      if (r < ranks - 1 &&
          RecordCompare(records + (size_t)i * size, all + (size_t)PetscMin(cut, total - 1) * size, &dim) >= 0)
        break;
    }
  }
  PetscCall(PetscFree(all));
  PetscCall(PetscFree3(sizes, offsets, sample));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Sample sort, then an exchange that evens out the pieces. */
static PetscErrorCode RecordsSort(MPI_Comm comm, PetscInt dim, size_t size, PetscLayout layout,
                                  char **records, PetscInt *n)
{
  PetscMPIInt     ranks, *counts;
  const PetscInt *ranges;
  PetscInt        before = 0;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &ranks));
  PetscCall(RecordsSortLocal(dim, size, *n, *records));
  if (ranks == 1) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMalloc1(ranks, &counts));
  PetscCall(RecordsSplit(comm, dim, size, *records, *n, counts));
  PetscCall(RecordsExchange(comm, size, counts, records, n));
  PetscCall(RecordsSortLocal(dim, size, *n, *records));
  PetscCallMPI(MPI_Exscan(n, &before, 1, MPIU_INT, MPI_SUM, comm));
  PetscCall(PetscLayoutGetRanges(layout, &ranges));
  for (PetscMPIInt r = 0; r < ranks; r++) {
    const PetscInt lo = PetscMax(before, ranges[r]), hi = PetscMin(before + *n, ranges[r + 1]);

    counts[r] = (PetscMPIInt)PetscMax(0, hi - lo);
  }
  PetscCall(RecordsExchange(comm, size, counts, records, n));
  PetscCall(PetscFree(counts));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Blocks spread evenly over the ranks, the last of them as short as it is. */
static PetscErrorCode CurveLayout(MPI_Comm comm, PetscInt n, PetscInt block, PetscLayout *layout)
{
  PetscLayout blocks;
  PetscInt    first, end;

  PetscFunctionBegin;
  PetscCall(PetscLayoutCreateFromSizes(comm, PETSC_DECIDE, n / block + (n % block > 0), 1, &blocks));
  PetscCall(PetscLayoutGetRange(blocks, &first, &end));
  PetscCall(PetscLayoutDestroy(&blocks));
  first = (PetscInt)PetscMin((PetscInt64)first * block, n);
  end   = (PetscInt)PetscMin((PetscInt64)end * block, n);
  PetscCall(PetscLayoutCreateFromSizes(comm, end - first, n, 1, layout));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsCreate(MPI_Comm comm, PetscInt dim, PetscInt n_local, const PetscReal *x,
                                const PetscReal *scale, PetscInt block, GramPoints *points)
{
  const size_t size = sizeof(Record) + (size_t)dim * sizeof(PetscReal);
  PetscLayout  input;
  PetscInt     n = n_local, first, end;
  GramPoints   p;
  char        *records;

  PetscFunctionBegin;
  PetscCheck(dim >= 1 && dim <= GRAM_MAX_DIM, comm, PETSC_ERR_ARG_SIZ,
             "%" PetscInt_FMT " coordinates per point, not 1 ... %d", dim, GRAM_MAX_DIM);
  PetscCheck(block >= 1, comm, PETSC_ERR_ARG_OUTOFRANGE, "blocks of %" PetscInt_FMT " points", block);
  PetscCall(PetscNew(&p));
  p->dim   = dim;
  p->block = block;
  PetscCall(PetscCommDuplicate(comm, &p->comm, NULL));
  PetscCall(PetscLayoutCreateFromSizes(comm, n_local, PETSC_DETERMINE, 1, &input));
  PetscCall(PetscLayoutGetRange(input, &first, NULL));
  PetscCall(PetscLayoutGetSize(input, &p->n));
  PetscCall(CurveLayout(comm, p->n, block, &p->layout));
  PetscCall(PetscLayoutGetRange(p->layout, &p->start, &end));
  p->n_local = end - p->start;

  PetscCall(RecordsCreate(comm, dim, n_local, first, x, scale, size, &records));
  PetscCall(RecordsSort(comm, dim, size, p->layout, &records, &n));
  PetscAssert(n == p->n_local, PETSC_COMM_SELF, PETSC_ERR_PLIB, "the sort lost points");
  PetscCall(PetscMalloc2(GramAt(n, dim, 0), &p->x, n, &p->row));
  for (PetscInt i = 0; i < n; i++) {
    const Record *record = (const Record *)(records + (size_t)i * size);

    p->row[i] = record->row;
    PetscCall(PetscArraycpy(p->x + GramAt(i, dim, 0), record->x, dim));
  }
  PetscCall(PetscFree(records));

  PetscCall(PetscSFCreate(comm, &p->sf));
  PetscCall(PetscSFSetGraphLayout(p->sf, input, n, NULL, PETSC_OWN_POINTER, p->row));
  PetscCall(PetscLayoutDestroy(&input));
  *points = p;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsDestroy(GramPoints *points)
{
  PetscFunctionBegin;
  if (!*points) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscSFDestroy(&(*points)->sf));
  PetscCall(PetscLayoutDestroy(&(*points)->layout));
  PetscCall(PetscFree2((*points)->x, (*points)->row));
  PetscCall(PetscCommDestroy(&(*points)->comm));
  PetscCall(PetscFree(*points));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsGetSizes(GramPoints p, MPI_Comm *comm, PetscInt *dim, PetscInt *n, PetscInt *n_local,
                                  PetscInt *start)
{
  PetscFunctionBegin;
  if (comm) *comm = p->comm;
  if (dim) *dim = p->dim;
  if (n) *n = p->n;
  if (n_local) *n_local = p->n_local;
  if (start) *start = p->start;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsGetArrayRead(GramPoints p, const PetscReal **x)
{
  PetscFunctionBegin;
  *x = p->x;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode RowType(PetscInt q, MPI_Datatype *type)
{
  PetscFunctionBegin;
  PetscCallMPI(MPI_Type_contiguous((int)q, MPIU_REAL, type));
  PetscCallMPI(MPI_Type_commit(type));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsToCurve(GramPoints p, PetscInt q, const PetscReal *input, PetscReal *curve)
{
  MPI_Datatype row;

  PetscFunctionBegin;
  PetscCall(RowType(q, &row));
  PetscCall(PetscSFBcastBegin(p->sf, row, input, curve, MPI_REPLACE));
  PetscCall(PetscSFBcastEnd(p->sf, row, input, curve, MPI_REPLACE));
  PetscCallMPI(MPI_Type_free(&row));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsToInput(GramPoints p, PetscInt q, const PetscReal *curve, PetscReal *input)
{
  MPI_Datatype row;

  PetscFunctionBegin;
  PetscCall(RowType(q, &row));
  PetscCall(PetscSFReduceBegin(p->sf, row, curve, input, MPI_REPLACE));
  PetscCall(PetscSFReduceEnd(p->sf, row, curve, input, MPI_REPLACE));
  PetscCallMPI(MPI_Type_free(&row));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsAllGather(GramPoints p, const PetscReal *scale, PetscReal **x)
{
  MPI_Datatype    row;
  PetscMPIInt     ranks, *counts, *offsets;
  const PetscInt *ranges;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(p->comm, &ranks));
  PetscCall(PetscLayoutGetRanges(p->layout, &ranges));
  PetscCall(PetscMalloc2(ranks, &counts, ranks, &offsets));
  for (PetscMPIInt r = 0; r < ranks; r++) {
    counts[r]  = (PetscMPIInt)(ranges[r + 1] - ranges[r]);
    offsets[r] = (PetscMPIInt)ranges[r];
  }
  PetscCall(PetscMalloc1((size_t)p->n * (size_t)p->dim, x));
  PetscCall(RowType(p->dim, &row));
  PetscCallMPI(MPI_Allgatherv(p->x, (PetscMPIInt)p->n_local, row, *x, counts, offsets, row, p->comm));
  PetscCallMPI(MPI_Type_free(&row));
  PetscCall(PetscFree2(counts, offsets));
  for (PetscInt i = 0; scale && i < p->n; i++) {
    for (PetscInt c = 0; c < p->dim; c++) (*x)[(size_t)i * (size_t)p->dim + (size_t)c] /= scale[c];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPointsGetBlocks(GramPoints p, PetscInt block_size, PetscInt *n_blocks, PetscInt **offsets,
                                   PetscInt **first)
{
  const PetscBool whole = (PetscBool)(p->block > 1 && p->block % block_size == 0);
  PetscMPIInt     ranks;
  const PetscInt *ranges;
  PetscInt        b = 0, each;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(p->comm, &ranks));
  PetscCall(PetscLayoutGetRanges(p->layout, &ranges));
  PetscCall(PetscMalloc1(p->n / block_size + 3 * (PetscInt)ranks + 1, offsets));
  PetscCall(PetscMalloc1(ranks + 1, first));
  each = (ranges[1] + 2 * block_size - 1) / (2 * block_size) * 2; /* the first rank owns as many as any */
  for (PetscMPIInt r = 0; r < ranks; r++) {
    const PetscInt n      = ranges[r + 1] - ranges[r],
                   blocks = whole ? (n + block_size - 1) / block_size : PetscMin(n, each);

    (*first)[r] = b;
    for (PetscInt i = 0; i < blocks; i++)
      (*offsets)[b++] = ranges[r] + (whole ? i * block_size : (PetscInt)((PetscInt64)i * n / blocks));
  }
  (*first)[ranks] = b;
  (*offsets)[b]   = p->n;
  *n_blocks       = b;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Duplicates are neighbours on the curve, so each rank needs the last point before its range too. */
PetscErrorCode GramPointsFindDuplicate(GramPoints p, PetscInt pair[2])
{
  PetscMPIInt rank, ranks;
  PetscInt    dim = p->dim, found[3] = {PETSC_MAX_INT, -1, -1}, first; /* place on the curve, pair */
  PetscReal  *last, *lasts;
  PetscInt   *rows;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(p->comm, &rank));
  PetscCallMPI(MPI_Comm_size(p->comm, &ranks));
  PetscCall(PetscMalloc3(dim, &last, dim * ranks, &lasts, ranks, &rows));
  for (PetscInt c = 0; c < dim; c++) last[c] = p->n_local ? p->x[(p->n_local - 1) * dim + c] : NAN;
  PetscCallMPI(MPI_Allgather(last, (PetscMPIInt)dim, MPIU_REAL, lasts, (PetscMPIInt)dim, MPIU_REAL, p->comm));
  pair[0] = p->n_local ? p->row[p->n_local - 1] : -1;
  PetscCallMPI(MPI_Allgather(pair, 1, MPIU_INT, rows, 1, MPIU_INT, p->comm));
  for (PetscInt i = 0; i < p->n_local && found[1] < 0;
       i++) { /* ranks with points come before ranks without */
    const PetscReal *x = p->x + GramAt(i, dim, 0), *before = i      ? x - dim
                                                             : rank ? lasts + GramAt((rank - 1), dim, 0)
                                                                    : NULL;
    PetscBool        same = (PetscBool)(before != NULL);

    for (PetscInt c = 0; c < dim && same; c++) same = (PetscBool)(x[c] == before[c]);
    if (!same) continue;
    found[0] = p->start + i;
    found[1] = i ? p->row[i - 1] : rows[rank - 1];
    found[2] = p->row[i];
  }
  PetscCallMPI(MPI_Allreduce(found, &first, 1, MPIU_INT, MPI_MIN, p->comm));
  if (found[0] != first) found[1] = found[2] = -1;
  PetscCallMPI(MPI_Allreduce(found + 1, pair, 2, MPIU_INT, MPI_MAX, p->comm));
  PetscCall(PetscFree3(last, lasts, rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}
