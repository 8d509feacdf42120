/* Boxes of blocks and of their parts, bounds of phi between two, and the sums of |v| that decide. */
#define GRAM_REAL double
#include "skip.h"

#define GUARD    1e-12                       /* relative, above the rounding of distances and profiles */
#define ROUNDING (4 * PETSC_MACHINE_EPSILON) /* of coordinates, relative */
#define PARTS    GRAM_SKIP_PARTS

struct _p_GramSkip {
  GramKernel kernel;
  PetscBool  square;
  PetscInt   n_rows, n_cols, *cols;
  PetscReal *row_box, *col_box; /* [blocks][2 dim] lower corner, upper corner; the same array when square */
  PetscInt   begin, *parts;     /* first block of this rank; [blocks + 1] the first part of each */
  PetscInt  *part;              /* [parts + 1] first point of each */
  PetscReal *part_box;
  PetscReal  tolerance;
  PetscInt   q;
  PetscReal *sum, *limit; /* [n_cols][q] V_J; [n_rows][q] (t / nb) S_I */
};

/* around points and what rounding may have made of their coordinates, which counts far from the origin */
static PetscErrorCode BoxesCreate(PetscInt dim, PetscInt n, const PetscInt *offsets, const PetscReal *x,
                                  PetscReal **boxes)
{
  PetscFunctionBegin;
  PetscCall(PetscMalloc1(GramAt(n, 2 * dim, 0), boxes));
  for (PetscInt b = 0; b < n; b++) {
    PetscReal *box = *boxes + GramAt(b, 2 * dim, 0);

    for (PetscInt c = 0; c < dim; c++) {
      box[c]       = PETSC_MAX_REAL;
      box[dim + c] = PETSC_MIN_REAL;
    }
    for (PetscInt i = offsets[b]; i < offsets[b + 1]; i++) {
      for (PetscInt c = 0; c < dim; c++) {
        box[c]       = PetscMin(box[c], x[GramAt(i, dim, c)]);
        box[dim + c] = PetscMax(box[dim + c], x[GramAt(i, dim, c)]);
      }
    }
    for (PetscInt c = 0; c < dim; c++) {
      box[c] -= ROUNDING * PetscAbsReal(box[c]);
      box[dim + c] += ROUNDING * PetscAbsReal(box[dim + c]);
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Cut points i ... end into stretches whose box has sides of width at most; returns their number, or PARTS + 1 */
static PetscInt Cut(PetscInt dim, const PetscReal *x, PetscInt i, PetscInt end, PetscReal width,
                    PetscInt *part)
{
  PetscInt count = 0;

  while (i < end) {
    PetscReal lower[GRAM_MAX_DIM], upper[GRAM_MAX_DIM];
    PetscBool fits = PETSC_TRUE;

    if (count == PARTS) return PARTS + 1;
    for (PetscInt c = 0; c < dim; c++) lower[c] = upper[c] = x[GramAt(i, dim, c)];
    for (part[count++] = i; i < end && fits; i += fits) {
      for (PetscInt c = 0; c < dim; c++) {
        lower[c] = PetscMin(lower[c], x[GramAt(i, dim, c)]);
        upper[c] = PetscMax(upper[c], x[GramAt(i, dim, c)]);
        fits     = (PetscBool)(fits && upper[c] - lower[c] <= width);
      }
    }
  }
  return count;
}

/* without cut, or where differences of coordinates overflow, a block is one part */
static PetscErrorCode PartsCreate(GramSkip s, PetscInt begin, PetscInt end, const PetscReal *z, PetscBool cut)
{
  PetscInt n = 0;

  PetscFunctionBegin;
  s->begin = begin;
  PetscCall(PetscMalloc2(end - begin + 1, &s->parts, (end - begin) * (cut ? PARTS : 1) + 1, &s->part));
  for (PetscInt b = begin; b < end; b++) {
    PetscReal width = 0.5;
    PetscInt  count = PARTS + 1;

    for (; cut && count > PARTS && width < INFINITY; width *= 2)
      count = Cut(s->kernel.dim, z, s->cols[b], s->cols[b + 1], width, s->part + n);
    if (count > PARTS) {
      s->part[n] = s->cols[b];
      count      = 1;
    }
    s->parts[b - begin] = n;
    n += count;
  }
  s->parts[end - begin] = n;
  s->part[n]            = s->cols[end];
  PetscCall(BoxesCreate(s->kernel.dim, n, s->part, z, &s->part_box));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSkipCreate(const GramKernel *kernel, PetscInt n_cols, const PetscInt *cols,
                              const PetscReal *z, PetscInt n_rows, const PetscInt *rows, const PetscReal *x,
                              PetscInt begin, PetscInt end, PetscBool parts, GramSkip *skip)
{
  GramSkip s;

  PetscFunctionBegin;
  PetscCall(PetscNew(&s));
  s->kernel = *kernel;
  s->square = (PetscBool)!x;
  s->n_cols = n_cols;
  s->n_rows = x ? n_rows : n_cols;
  PetscCall(PetscMalloc1(n_cols + 1, &s->cols));
  PetscCall(PetscArraycpy(s->cols, cols, n_cols + 1));
  PetscCall(BoxesCreate(kernel->dim, n_cols, cols, z, &s->col_box));
  s->row_box = s->col_box;
  if (x) PetscCall(BoxesCreate(kernel->dim, n_rows, rows, x, &s->row_box));
  else PetscCall(PartsCreate(s, begin, end, z, parts));
  *skip = s;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSkipDestroy(GramSkip *skip)
{
  GramSkip s = *skip;

  PetscFunctionBegin;
  if (!s) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree(s->cols));
  PetscCall(PetscFree2(s->parts, s->part));
  PetscCall(PetscFree(s->part_box));
  if (!s->square) PetscCall(PetscFree(s->row_box));
  PetscCall(PetscFree(s->col_box));
  PetscCall(PetscFree2(s->sum, s->limit));
  PetscCall(PetscFree(*skip));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* d^2 of two boxes, not above that of any pair between them, as tiles see it */
static PetscReal SquaredGap(GramSkip s, const PetscReal *a, const PetscReal *b)
{
  const PetscInt dim = s->kernel.dim;
  PetscReal      d2  = 0;

  for (PetscInt c = 0; c < dim; c++) {
    const PetscReal gap = PetscMax(0, PetscMax(b[c] - a[dim + c], a[c] - b[dim + c]));

    d2 += gap * gap;
  }
  return d2 * (1 - GUARD);
}

/* phi(d) of two boxes, not below any entry between them */
static PetscReal PhiMost(GramSkip s, const PetscReal *a, const PetscReal *b)
{
  const PetscReal unit = GramKernelUnit(&s->kernel);

  return RadialEval(s->kernel.radial, unit * unit * SquaredGap(s, a, b), s->kernel.beta) * (1 + GUARD);
}

/* phi(D) of two boxes, not above any entry between them; zero where GramExp2Neg() no longer follows 2^-u */
static PetscReal PhiLeast(GramSkip s, const PetscReal *a, const PetscReal *b)
{
  const PetscInt  dim  = s->kernel.dim;
  const PetscReal unit = GramKernelUnit(&s->kernel);
  PetscReal       d2   = 0, phi;

  for (PetscInt c = 0; c < dim; c++) {
    const PetscReal span = PetscMax(b[dim + c] - a[c], a[dim + c] - b[c]);

    d2 += span * span;
  }
  d2 *= unit * unit * (1 + GUARD);
  phi = RadialEval(s->kernel.radial, d2, s->kernel.beta) * (1 - GUARD);
  return d2 > 1e6 || phi < 1e-300 ? 0 : phi;
}

/* counts and places of rows of q numbers, split over the ranks as the blocks are */
static PetscErrorCode GatherBlocks(MPI_Comm comm, const PetscInt *first, PetscInt q, PetscReal *all)
{
  PetscMPIInt size, *counts, *offsets;
  PetscInt    numbers = 0;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(PetscMalloc2(size, &counts, size, &offsets));
  for (PetscMPIInt r = 0; r < size; r++) {
    PetscCall(PetscIntMultError(first[r + 1] - first[r], q, &numbers));
    PetscCall(PetscMPIIntCast(numbers, counts + r));
    PetscCall(PetscIntMultError(first[r], q, &numbers));
    PetscCall(PetscMPIIntCast(numbers, offsets + r));
  }
  PetscCallMPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, counts, offsets, MPIU_REAL, comm));
  PetscCall(PetscFree2(counts, offsets));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* sum over b of rows b of a panel [n][q] of magnitudes */
static void Magnitudes(PetscInt n, PetscInt q, const PetscReal *v, PetscReal *sum)
{
  for (PetscInt r = 0; r < q; r++) sum[r] = 0;
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt r = 0; r < q; r++) sum[r] += PetscAbsReal(v[GramAt(i, q, r)]);
  }
}

/* the least of the sums that the rows of block i get from the block itself; v: the panel from its first row on */
static PetscErrorCode SelfLeast(GramSkip s, PetscInt i, const PetscReal *v, PetscReal *least)
{
  const PetscInt q = s->q, dim = s->kernel.dim, first = s->parts[i - s->begin],
                 end = s->parts[i - s->begin + 1];
  PetscReal *sum, *row; /* [parts][q], [q] */

  PetscFunctionBegin;
  PetscCall(PetscMalloc2((end - first) * q, &sum, q, &row));
  for (PetscInt b = first; b < end; b++)
    Magnitudes(s->part[b + 1] - s->part[b], q, v + GramAt(s->part[b] - s->part[first], q, 0),
               sum + GramAt(b - first, q, 0));
  for (PetscInt r = 0; r < q; r++) least[r] = INFINITY;
  for (PetscInt a = first; a < end; a++) {
    for (PetscInt r = 0; r < q; r++) row[r] = 0;
    for (PetscInt b = first; b < end; b++) {
      const PetscReal phi =
          PhiLeast(s, s->part_box + GramAt(a, 2 * dim, 0), s->part_box + GramAt(b, 2 * dim, 0));

      for (PetscInt r = 0; r < q; r++) row[r] += phi * sum[GramAt(b - first, q, r)];
    }
    for (PetscInt r = 0; r < q; r++)
      least[r] = row[r] < least[r] || PetscIsNanReal(row[r]) ? row[r] : least[r];
  }
  PetscCall(PetscFree2(sum, row));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* limit[i] = (t / nb) S_I of row blocks begin ... end; v: the panel from the first row of begin on */
static PetscErrorCode RowLimits(GramSkip s, PetscInt begin, PetscInt end, const PetscReal *v)
{
  const PetscInt  dim   = s->kernel.dim;
  const PetscReal share = s->tolerance / (PetscReal)s->n_cols,
                  guard = GUARD + 4 * (PetscReal)s->n_cols * PETSC_MACHINE_EPSILON; /* of the sums */

  PetscFunctionBegin;
  for (PetscInt i = begin; i < end; i++) {
    PetscReal *limit = s->limit + GramAt(i, s->q, 0);

    for (PetscInt r = 0; r < s->q; r++) limit[r] = 0;
    if (s->square) PetscCall(SelfLeast(s, i, v + GramAt(s->cols[i] - s->cols[begin], s->q, 0), limit));
    for (PetscInt j = 0; j < s->n_cols; j++) {
      PetscReal phi;

      if (s->square && j == i) continue;
      phi = PhiLeast(s, s->row_box + GramAt(i, 2 * dim, 0), s->col_box + GramAt(j, 2 * dim, 0));
      for (PetscInt r = 0; r < s->q; r++) limit[r] += phi * s->sum[GramAt(j, s->q, r)];
    }
    for (PetscInt r = 0; r < s->q; r++) limit[r] *= share * (1 - guard);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSkipBegin(GramSkip s, MPI_Comm comm, PetscReal tolerance, const PetscInt *first,
                             PetscInt q, const PetscReal *v, PetscLogDouble *bytes)
{
  PetscMPIInt rank;

  PetscFunctionBegin;
  s->tolerance = GramRadialGetInfo(s->kernel.radial)->order == 0 ? tolerance : 0;
  if (s->tolerance == 0) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (q != s->q) {
    PetscCall(PetscFree2(s->sum, s->limit));
    PetscCall(PetscMalloc2(GramAt(s->n_cols, q, 0), &s->sum, GramAt(s->n_rows, q, 0), &s->limit));
    s->q = q;
  }
  for (PetscInt j = first[rank]; j < first[rank + 1]; j++)
    Magnitudes(s->cols[j + 1] - s->cols[j], q, v + GramAt(s->cols[j] - s->cols[first[rank]], q, 0),
               s->sum + GramAt(j, q, 0));
  PetscCall(GatherBlocks(comm, first, q, s->sum));
  if (s->square) {
    PetscCall(RowLimits(s, first[rank], first[rank + 1], v));
    PetscCall(GatherBlocks(comm, first, q, s->limit));
  } else PetscCall(RowLimits(s, 0, s->n_rows, NULL));
  *bytes += (s->square ? 16.0 : 8.0) * (PetscLogDouble)q *
            (PetscLogDouble)(s->n_cols - (first[rank + 1] - first[rank]));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscBool GramSkipTile(GramSkip s, PetscInt i, PetscInt j, PetscBool both)
{
  const PetscInt   dim     = s->kernel.dim;
  const PetscReal  support = GramRadialGetInfo(s->kernel.radial)->support;
  const PetscReal *row = s->row_box + GramAt(i, 2 * dim, 0), *col = s->col_box + GramAt(j, 2 * dim, 0);
  PetscReal        phi;

  if (support > 0 && SquaredGap(s, row, col) >= support * support) return PETSC_TRUE;
  if (s->tolerance == 0) return PETSC_FALSE;
  phi = PhiMost(s, row, col) * (1 + GUARD); /* the second factor is for V_J */
  for (PetscInt r = 0; r < s->q; r++) {
    const PetscReal limit = s->limit[GramAt(i, s->q, r)];

    if (!(phi * s->sum[GramAt(j, s->q, r)] <= limit && limit < INFINITY)) return PETSC_FALSE;
    if (both) {
      const PetscReal other = s->limit[GramAt(j, s->q, r)];

      if (!(phi * s->sum[GramAt(i, s->q, r)] <= other && other < INFINITY)) return PETSC_FALSE;
    }
  }
  return PETSC_TRUE;
}
