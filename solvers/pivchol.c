#include <math.h>
#include <stdint.h>

#include "gram_mat.h"
#include "memory.h"
#include "pivchol.h"

#include <petscblaslapack.h> /* does not include what it needs */

#define ROUND       64    /* candidates of a round, and rows of an estimate */
#define CHUNK       256   /* rows computed at once, cut at multiples on the curve */
#define NOISE       1e-14 /* of k(x, x): pivots below are rounding */
#define TIE         1e-9  /* of the largest gain */
#define SEED_DRAW   5
#define SEED_ACCEPT 105
#define SEED_SAMPLE 33

struct _p_GramPivChol {
  Mat           A;
  MPI_Comm      comm;
  GramPivotRule rule;
  PetscReal     diagonal;          /* the largest k(x, x) */
  PetscInt      n, start, n_local; /* of all ranks, and this one's range of the curve */
  PetscInt      first, rows;       /* the chunks that cover it */
  PetscInt      r;                 /* columns that d knows */
  PetscInt      have; /* columns there are: r, and what the last round accepted beyond the rank asked for */
  PetscInt      capacity;
  PetscReal    *F;         /* [capacity][rows], by columns */
  PetscInt     *pivots;    /* [capacity] */
  PetscReal    *values;    /* [capacity] residual diagonal of the pivot when its turn came */
  PetscReal    *taken;     /* [capacity] what its column took off the worst-case error */
  PetscReal    *d, *k;     /* [rows] of the residual, of K */
  int64_t      *sums;      /* [n_local] of d, in units of a round */
  PetscInt     *label;     /* [n_local] of greedy rules */
  PetscReal    *z;         /* [n_local] kernel mean, of the residual: z - F F_S^-1 z_S */
  uint64_t      drawn;     /* candidates of all rounds */
  PetscBool     exhausted; /* d is rounding */
};

PetscErrorCode GramPivCholCreate(Mat A, GramPivChol *pivchol)
{
  PetscBool   known, spd;
  GramPivChol p;
  PetscInt    end;

  PetscFunctionBegin;
  PetscCall(MatIsSPDKnown(A, &known, &spd));
  PetscCheck(known && spd, PetscObjectComm((PetscObject)A), PETSC_ERR_ARG_WRONG,
             "the matrix is not known to be positive definite");
  PetscCall(PetscNew(&p));
  PetscCall(PetscObjectReference((PetscObject)A));
  p->A = A;
  PetscCall(PetscObjectGetComm((PetscObject)A, &p->comm));
  PetscCall(MatGetSize(A, &p->n, NULL));
  PetscCall(MatGetOwnershipRange(A, &p->start, &end));
  p->n_local = end - p->start;
  p->first   = p->start - (p->n_local ? p->start % CHUNK : 0);
  p->rows    = p->n_local ? PetscMin(p->n, end + (CHUNK - end % CHUNK) % CHUNK) - p->first : 0;
  PetscCall(PetscMalloc3(p->rows, &p->d, p->rows, &p->k, p->n_local, &p->sums));
  PetscCall(GramMatGetKernelDiagonal(A, p->first, p->rows, p->k));
  PetscCall(PetscArraycpy(p->d, p->k, p->rows));
  for (PetscInt i = 0; i < p->rows; i++) p->diagonal = PetscMax(p->diagonal, p->k[i]);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &p->diagonal, 1, MPIU_REAL, MPI_MAX, p->comm));
  *pivchol = p;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholDestroy(GramPivChol *pivchol)
{
  GramPivChol p = *pivchol;

  PetscFunctionBegin;
  if (!p) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree4(p->F, p->pivots, p->values, p->taken));
  PetscCall(PetscFree3(p->d, p->k, p->sums));
  PetscCall(PetscFree2(p->label, p->z));
  PetscCall(MatDestroy(&p->A));
  PetscCall(PetscFree(*pivchol));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholSetRule(GramPivChol p, GramPivotRule rule, const PetscInt label[],
                                  const PetscReal z[])
{
  PetscFunctionBegin;
  PetscCheck(!p->have, p->comm, PETSC_ERR_ARG_WRONGSTATE, "the factor has columns of another rule");
  PetscCall(PetscFree2(p->label, p->z));
  p->rule = rule;
  if (rule == GRAM_PIVOT_RANDOM) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMalloc2(p->n_local, &p->label, rule == GRAM_PIVOT_MEAN ? p->n_local : 0, &p->z));
  for (PetscInt i = 0; i < p->n_local; i++) p->label[i] = label ? label[i] : p->start + i;
  if (rule == GRAM_PIVOT_MEAN) PetscCall(PetscArraycpy(p->z, z, p->n_local));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* and room for what a round accepts beyond rank */
PetscErrorCode GramPivCholReserve(GramPivChol p, PetscInt rank)
{
  const PetscInt capacity = PetscMin(rank + ROUND - 1, p->n);
  PetscReal     *F, *values, *taken;
  PetscInt      *pivots;

  PetscFunctionBegin;
  if (capacity <= p->capacity) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(
      PetscMalloc4(GramAt(capacity, p->rows, 0), &F, capacity, &pivots, capacity, &values, capacity, &taken));
  PetscCall(PetscArraycpy(F, p->F, GramAt(p->have, p->rows, 0)));
  PetscCall(PetscArraycpy(pivots, p->pivots, p->have));
  PetscCall(PetscArraycpy(values, p->values, p->have));
  PetscCall(PetscArraycpy(taken, p->taken, p->have));
  PetscCall(PetscFree4(p->F, p->pivots, p->values, p->taken));
  GramMemoryTrim();
  p->F        = F;
  p->pivots   = pivots;
  p->values   = values;
  p->taken    = taken;
  p->capacity = capacity;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Columns up to rank into d, one after another, so that any split has the same bits */
static void Take(GramPivChol p, PetscInt rank)
{
  for (; p->r < rank; p->r++) {
    const PetscReal *f     = p->F + GramAt(p->r, p->rows, 0);
    const PetscInt   pivot = p->pivots[p->r] - p->first;

    for (PetscInt i = 0; i < p->rows; i++) p->d[i] = PetscMax(p->d[i] - f[i] * f[i], 0);
    if (0 <= pivot && pivot < p->rows) p->d[pivot] = 0;
  }
}

/* K[rows][cols] for n_rows rows from row on */
static PetscErrorCode Entries(GramPivChol p, PetscInt n_rows, PetscInt row, PetscInt n_cols,
                              const PetscInt cols[], PetscReal *k, PetscInt ldk)
{
  PetscInt index[CHUNK];

  PetscFunctionBegin;
  for (PetscInt i = 0; i < n_rows; i++) index[i] = row + i;
  PetscCall(GramMatGetKernelEntries(p->A, n_rows, index, n_cols, cols, k, ldk));
  for (PetscInt j = 0; j < n_cols; j++) {
    if (row <= cols[j] && cols[j] < row + n_rows) k[GramAt(j, ldk, cols[j] - row)] = p->k[cols[j] - p->first];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* k - F_r T, for the rows of a chunk that begins at row and the columns that T [n_cols][r] are the rows of F of */
static PetscErrorCode Residual(GramPivChol p, PetscInt n_rows, PetscInt row, PetscInt r, PetscInt n_cols,
                               const PetscInt cols[], const PetscReal *T, PetscInt ldt, PetscReal *k,
                               PetscInt ldk)
{
  const PetscReal one = 1, minus = -1;
  PetscBLASInt    m, n, l, ldF, ldT, ldK;

  PetscFunctionBegin;
  PetscCall(Entries(p, n_rows, row, n_cols, cols, k, ldk));
  if (!r) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscBLASIntCast(n_rows, &m));
  PetscCall(PetscBLASIntCast(n_cols, &n));
  PetscCall(PetscBLASIntCast(r, &l));
  PetscCall(PetscBLASIntCast(p->rows, &ldF));
  PetscCall(PetscBLASIntCast(ldt, &ldT));
  PetscCall(PetscBLASIntCast(ldk, &ldK));
  PetscCallBLAS("BLASgemm", BLASgemm_("N", "N", &m, &n, &l, &minus, p->F + (row - p->first), &ldF, T, &ldT,
                                      &one, k, &ldK));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* T [count][r + 1] on every rank: rows of F at points of the curve, each with its d behind it. A row has one owner, so
   that sums are exact. */
static PetscErrorCode GatherRows(GramPivChol p, PetscInt count, const PetscInt points[], PetscInt r,
                                 PetscReal *T)
{
  PetscMPIInt numbers;

  PetscFunctionBegin;
  PetscCall(PetscMPIIntCast(count * (r + 1), &numbers));
  PetscCall(PetscArrayzero(T, numbers));
  for (PetscInt q = 0; q < count; q++) {
    const PetscInt i = points[q] - p->first;

    if (points[q] < p->start || points[q] >= p->start + p->n_local) continue;
    for (PetscInt j = 0; j < r; j++) T[GramAt(q, r + 1, j)] = p->F[GramAt(j, p->rows, i)];
    T[GramAt(q, r + 1, r)] = p->d[i];
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, T, numbers, MPIU_REAL, MPI_SUM, p->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/*
  Candidates of a round, drawn with probability d_i / sum d, unless the trace or the largest d says stop.

  d is summed in integers, multiples of 2^-bits of its largest, so that neither the sums nor what is drawn know where
  ranks begin. bits leaves room for n of them: what is cut off moves probabilities by n^2 2^-62 at most.
*/
static PetscErrorCode Draw(GramPivChol p, PetscReal tolerance, PetscInt candidates[ROUND], PetscBool *stop)
{
  const PetscReal *d       = p->d + (p->start - p->first);
  PetscReal        largest = 0, unit;
  int64_t          sum = 0, before = 0, total;
  int              bits, exponent;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < p->n_local; i++) largest = PetscMax(largest, d[i]);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPIU_REAL, MPI_MAX, p->comm));
  *stop = p->exhausted = (PetscBool) !(largest > NOISE * p->diagonal);
  if (*stop) PetscFunctionReturn(PETSC_SUCCESS);

  (void)frexp((double)p->n, &bits);
  (void)frexp(largest, &exponent);
  bits = 62 - bits;
  unit = ldexp(1, -exponent);
  for (PetscInt i = 0; i < p->n_local; i++) {
    if (d[i] > NOISE * p->diagonal) sum += (int64_t)(d[i] * unit * (PetscReal)((int64_t)1 << bits));
    p->sums[i] = sum;
  }
  PetscCallMPI(MPI_Allreduce(&sum, &total, 1, MPI_INT64_T, MPI_SUM, p->comm));
  PetscCallMPI(MPI_Exscan(&sum, &before, 1, MPI_INT64_T, MPI_SUM, p->comm)); /* leaves 0 on the first rank */
  *stop = (PetscBool)(ldexp((double)total, exponent - bits) <= tolerance);
  if (*stop) PetscFunctionReturn(PETSC_SUCCESS);

  for (PetscInt q = 0; q < ROUND; q++) {
    const int64_t at  = (int64_t)(GramUniform(SEED_DRAW, p->drawn + (uint64_t)q) * (PetscReal)total) - before;
    PetscInt      low = 0, high = p->n_local;

    candidates[q] = -1;
    if (at < 0 || at >= sum) continue;
    while (low < high) { /* the first with sums > at */
      const PetscInt middle = low + (high - low) / 2;

      if (p->sums[middle] > at) high = middle;
      else low = middle + 1;
    }
    candidates[q] = p->start + low;
  }
  p->drawn += ROUND;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, candidates, ROUND, MPIU_INT, MPI_MAX, p->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* H [ROUND][ROUND], the residual at candidates: its diagonal from d, which never rejects the first of them. One rank
   computes for all, so that ranks agree on the bits even where their processors differ. */
static PetscErrorCode Block(GramPivChol p, const PetscInt candidates[ROUND], const PetscReal *T, PetscReal *H)
{
  const PetscReal one = 1, minus = -1;
  PetscBLASInt    b = ROUND, l, ldT;
  PetscMPIInt     rank;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(p->have, &l));
  PetscCall(PetscBLASIntCast(p->have + 1, &ldT));
  PetscCallMPI(MPI_Comm_rank(p->comm, &rank));
  if (!rank) {
    PetscCall(GramMatGetKernelEntries(p->A, ROUND, candidates, ROUND, candidates, H, ROUND));
    if (l) PetscCallBLAS("BLASgemm", BLASgemm_("T", "N", &b, &b, &l, &minus, T, &ldT, T, &ldT, &one, H, &b));
    for (PetscInt q = 0; q < ROUND; q++) H[GramAt(q, ROUND, q)] = T[GramAt(q, p->have + 1, p->have)];
  }
  PetscCallMPI(MPI_Bcast(H, ROUND * ROUND, MPIU_REAL, 0, p->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Candidate q is accepted with probability d_q after those accepted before it / d_q before the round. In: H; out, over
   it: L, H of the accepted = L L'. */
static PetscInt Select(GramPivChol p, const PetscInt candidates[ROUND], PetscReal *H,
                       PetscInt accepted[ROUND], PetscReal values[ROUND])
{
  PetscReal L[ROUND * ROUND], left[ROUND];
  PetscInt  n = 0;

  for (PetscInt q = 0; q < ROUND; q++) left[q] = H[GramAt(q, ROUND, q)];
  for (PetscInt q = 0; q < ROUND; q++) {
    const PetscReal u    = GramUniform(SEED_ACCEPT, p->drawn + (uint64_t)q);
    PetscReal      *next = L + GramAt(n, ROUND, 0);

    if (!(u * H[GramAt(q, ROUND, q)] < left[q] && left[q] > NOISE * p->diagonal)) continue;
    values[n] = left[q];
    for (PetscInt i = q; i < ROUND; i++) { /* earlier ones are not asked again */
      PetscReal h = i == q ? values[n] : H[GramAt(q, ROUND, i)];

      for (PetscInt j = 0; j < n && i > q; j++) h -= L[GramAt(j, ROUND, i)] * L[GramAt(j, ROUND, q)];
      next[i] = h / PetscSqrtReal(values[n]);
      left[i] -= next[i] * next[i];
      if (candidates[i] == candidates[q]) left[i] = 0; /* drawn twice */
    }
    accepted[n++] = q;
  }
  for (PetscInt j = 0; j < n; j++) {
    for (PetscInt i = j; i < n; i++) H[GramAt(j, ROUND, i)] = L[GramAt(j, ROUND, accepted[i])];
  }
  return n;
}

/* The columns of n pivots: F gets (K(X, X_S) - F F_S') L^-T, in place and chunk by chunk; T [n][have + 1] are F_S */
static PetscErrorCode Append(GramPivChol p, PetscInt n, const PetscReal *T, const PetscReal *L)
{
  const PetscReal one = 1;
  PetscBLASInt    b   = ROUND, nb, ldF;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(n, &nb));
  PetscCall(PetscBLASIntCast(p->rows, &ldF));
  for (PetscInt i = 0; i < p->rows; i += CHUNK) {
    PetscReal   *f = p->F + GramAt(p->have, p->rows, i);
    PetscBLASInt m = (PetscBLASInt)PetscMin(CHUNK, p->rows - i);

    PetscCall(Residual(p, m, p->first + i, p->have, n, p->pivots + p->have, T, p->have + 1, f, p->rows));
    PetscCallBLAS("BLAStrsm", BLAStrsm_("R", "L", "T", "N", &m, &nb, &one, L, &b, f, &ldF));
  }
  p->have += n;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Columns of a round */
static PetscErrorCode Round(GramPivChol p, PetscReal tolerance, PetscBool *stop)
{
  PetscInt   candidates[ROUND], accepted[ROUND], n;
  PetscReal *H, *T;

  PetscFunctionBegin;
  PetscCall(Draw(p, tolerance, candidates, stop));
  if (*stop) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMalloc2(ROUND * ROUND, &H, GramAt(ROUND, p->have + 1, 0), &T));
  PetscCall(GatherRows(p, ROUND, candidates, p->have, T));
  PetscCall(Block(p, candidates, T, H));
  n = Select(p, candidates, H, accepted, p->values + p->have);
  for (PetscInt j = 0; j < n; j++) {
    p->pivots[p->have + j] = candidates[accepted[j]];
    PetscCall(
        PetscArraymove(T + GramAt(j, p->have + 1, 0), T + GramAt(accepted[j], p->have + 1, 0), p->have));
  }
  PetscCall(Append(p, n, T, H));
  PetscCall(PetscFree2(H, T));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What a greedy rule compares; -1 for what it never takes: points whose d is rounding, pivots among them */
static inline PetscReal Gain(GramPivChol p, PetscInt i)
{
  const PetscReal d = p->d[p->start - p->first + i];

  if (!(d > NOISE * p->diagonal)) return -1;
  return p->rule == GRAM_PIVOT_MEAN ? p->z[i] * p->z[i] / d : d;
}

/* The row of the largest gain, of those that tie the one of the lowest label. Labels are compared after the largest gain
   of all ranks is known, so that what ties does not depend on them. */
static PetscErrorCode Best(GramPivChol p, PetscReal tolerance, PetscInt *pivot, PetscBool *stop)
{
  PetscReal largest = -1;
  PetscInt  least   = PETSC_MAX_INT, label;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < p->n_local; i++) largest = PetscMax(largest, Gain(p, i));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &largest, 1, MPIU_REAL, MPI_MAX, p->comm));
  p->exhausted = (PetscBool)(largest < 0);
  *stop        = (PetscBool)(p->exhausted || largest < tolerance);
  if (*stop) PetscFunctionReturn(PETSC_SUCCESS);

  *pivot = p->n;
  for (PetscInt i = 0; i < p->n_local; i++) {
    if (Gain(p, i) < (1 - TIE) * largest || (*pivot < p->n && p->label[i] >= least)) continue;
    least  = p->label[i];
    *pivot = p->start + i;
  }
  PetscCallMPI(MPI_Allreduce(&least, &label, 1, MPIU_INT, MPI_MIN, p->comm));
  if (least != label) *pivot = p->n;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, pivot, 1, MPIU_INT, MPI_MIN, p->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What the last column takes off the kernel mean, c f, and off the squared worst-case error, c^2 */
static PetscErrorCode Deflate(GramPivChol p)
{
  const PetscInt   pivot = p->pivots[p->have - 1] - p->start;
  const PetscBool  mine  = (PetscBool)(0 <= pivot && pivot < p->n_local);
  const PetscReal *f     = p->F + GramAt(p->have - 1, p->rows, p->start - p->first);
  PetscReal        c     = mine ? p->z[pivot] / PetscSqrtReal(p->values[p->have - 1]) : 0;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &c, 1, MPIU_REAL, MPI_SUM, p->comm));
  for (PetscInt i = 0; i < p->n_local; i++) p->z[i] -= c * f[i];
  p->taken[p->have - 1] = c * c;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* One column, of a greedy rule */
static PetscErrorCode Step(GramPivChol p, PetscReal tolerance, PetscBool *stop)
{
  PetscReal *T, l;
  PetscInt   pivot;

  PetscFunctionBegin;
  PetscCall(Best(p, tolerance, &pivot, stop));
  if (*stop) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscMalloc1(p->have + 1, &T));
  PetscCall(GatherRows(p, 1, &pivot, p->have, T));
  p->pivots[p->have] = pivot;
  p->values[p->have] = T[p->have];
  l                  = PetscSqrtReal(T[p->have]);
  PetscCall(Append(p, 1, T, &l));
  PetscCall(PetscFree(T));
  if (p->rule == GRAM_PIVOT_MEAN) PetscCall(Deflate(p));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholGrow(GramPivChol p, PetscInt rank, PetscReal tolerance)
{
  PetscBool stop = PETSC_FALSE;

  PetscFunctionBegin;
  rank = PetscMin(rank, p->n);
  PetscCall(GramPivCholReserve(p, rank));
  while (Take(p, PetscMin(rank, p->have)), p->r < rank && !stop) {
    if (p->rule == GRAM_PIVOT_RANDOM) PetscCall(Round(p, tolerance, &stop));
    else PetscCall(Step(p, tolerance, &stop));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholGetNumericalRank(GramPivChol p, PetscInt *rank)
{
  PetscFunctionBegin;
  *rank = p->exhausted ? p->have : -1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholGetFactor(GramPivChol p, PetscInt *r, const PetscReal **F, PetscInt *ldf)
{
  PetscFunctionBegin;
  if (r) *r = p->r;
  if (F) *F = p->r ? p->F + (p->start - p->first) : NULL;
  if (ldf) *ldf = PetscMax(p->rows, 1);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholGetPivots(GramPivChol p, const PetscInt **pivots, PetscReal *least)
{
  PetscFunctionBegin;
  if (pivots) *pivots = p->pivots;
  if (least) *least = p->r ? p->values[0] : 0;
  for (PetscInt j = 1; j < p->r && least; j++) *least = PetscMin(*least, p->values[j]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholGetReductions(GramPivChol p, const PetscReal **reductions)
{
  PetscFunctionBegin;
  PetscCheck(p->rule == GRAM_PIVOT_MEAN, p->comm, PETSC_ERR_ARG_WRONGSTATE, "the rule knows no kernel mean");
  *reductions = p->taken;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholGetResidual(GramPivChol p, const PetscReal **d)
{
  PetscFunctionBegin;
  *d = p->d + (p->start - p->first);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* This rank's part of G = R R' (lower triangle) and of the sums of magnitudes of the rows of R, R unit times the residual */
static PetscErrorCode Sample(GramPivChol p, PetscInt r, PetscInt count, const PetscInt points[],
                             const PetscReal *T, PetscReal unit, PetscReal *G, PetscReal *magnitudes)
{
  const PetscReal one = 1;
  PetscReal      *R; /* [count][CHUNK]: columns of the residual, which is symmetric */
  PetscBLASInt    n, m, b = ROUND, ldR = CHUNK, one_step = 1;

  PetscFunctionBegin;
  PetscCall(PetscBLASIntCast(count, &n));
  PetscCall(PetscMalloc1(ROUND * CHUNK, &R));
  for (PetscInt i = 0; i < p->rows; i += CHUNK) {
    const PetscInt row = p->first + i;

    m = (PetscBLASInt)PetscMin(CHUNK, p->rows - i);
    PetscCall(Residual(p, m, row, r, count, points, T, r + 1, R, CHUNK));
    for (PetscInt q = 0; q < count; q++) {
      PetscReal *x = R + GramAt(q, CHUNK, 0);

      for (PetscInt k = 0; k < m; k++) {
        const PetscBool mine = (PetscBool)(row + k >= p->start && row + k < p->start + p->n_local);

        x[k] = mine ? unit * x[k] : 0;
      }
      magnitudes[q] += BLASasum_(&m, x, &one_step);
    }
    PetscCallBLAS("BLASsyrk", BLASsyrk_("L", "T", &n, &m, &one, R, &ldR, &one, G, &b));
  }
  PetscCall(PetscFree(R));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPivCholEstimate(GramPivChol p, PetscInt r, PetscReal *lambda)
{
  PetscInt     points[ROUND], count = ROUND;
  PetscReal   *T, *G, *magnitudes, *work, largest = 0, values[ROUND], unit;
  PetscBLASInt n, b = ROUND, lwork = ROUND * ROUND, info;
  PetscMPIInt  rank;
  int          exponent; /* squares of entries are to be neither too large nor too small */

  PetscFunctionBegin;
  PetscCheck(0 <= r && r <= p->r, p->comm, PETSC_ERR_ARG_OUTOFRANGE,
             "rank %" PetscInt_FMT " of a factor of %" PetscInt_FMT " columns", r, p->r);
  for (PetscInt q = 0; q < ROUND; q++)
    points[q] = (PetscInt)(GramUniform(SEED_SAMPLE, (uint64_t)q) * (PetscReal)p->n);
  PetscCall(PetscSortRemoveDupsInt(&count, points));
  PetscCall(PetscMalloc2(GramAt(ROUND, r + 1, 0), &T, ROUND * ROUND, &work));
  PetscCall(PetscCalloc1(ROUND * (ROUND + 1), &G));
  magnitudes = G + ROUND * ROUND;
  PetscCall(GatherRows(p, count, points, r, T));
  (void)frexp(p->diagonal, &exponent);
  unit = ldexp(1, PetscMin(1022, -exponent));
  PetscCall(Sample(p, r, count, points, T, unit, G, magnitudes));

  /* one rank decides for all */
  PetscCallMPI(MPI_Comm_rank(p->comm, &rank));
  PetscCallMPI(MPI_Reduce(rank ? G : MPI_IN_PLACE, G, ROUND * (ROUND + 1), MPIU_REAL, MPI_SUM, 0, p->comm));
  if (!rank) {
    PetscCall(PetscBLASIntCast(count, &n));
    PetscCallBLAS("LAPACKsyev", LAPACKsyev_("N", "L", &n, G, &b, values, work, &lwork, &info));
    for (PetscInt q = 0; q < count; q++) largest = PetscMax(largest, magnitudes[q]);
    if (!info)
      largest = PetscMin(largest, PetscSqrtReal(PetscMax(values[n - 1], 0) * (PetscReal)p->n / count));
    *lambda = largest / unit;
  }
  PetscCallMPI(MPI_Bcast(lambda, 1, MPIU_REAL, 0, p->comm));
  PetscCall(PetscFree2(T, work));
  PetscCall(PetscFree(G));
  PetscFunctionReturn(PETSC_SUCCESS);
}
