#include <math.h>

#include "polynomial.h"
#include "sample.h"

#define SAMPLES 64   /* rows compared with the reference, at most */
#define CHUNK   1024 /* columns the reference takes at once: memory stays small at any size */

/* A row of A that is looked at: its point, on all ranks, and which number of that it is. */
typedef struct {
  PetscInt  row, part;
  PetscReal x[GRAM_MAX_DIM], scaled[GRAM_MAX_DIM]; /* divided by the length scale */
} Sample;

/* rows spread over the whole curve, the first and the last included */
static PetscErrorCode SamplesCreate(GramPoints X, const GramKernel *kernel, Sample samples[], PetscInt *count)
{
  const PetscInt   dim = kernel->dim, numbers = GramKernelNumbers(kernel);
  MPI_Comm         comm;
  PetscInt         n_all, n, start;
  const PetscReal *x;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, &comm, NULL, &n_all, &n, &start));
  PetscCall(GramPointsGetArrayRead(X, &x));
  *count = PetscMin(SAMPLES, n_all * numbers);
  for (PetscInt k = 0; k < *count; k++) {
    Sample        *s     = samples + k;
    const PetscInt row   = *count > 1 ? (PetscInt)((PetscInt64)k * (n_all * numbers - 1) / (*count - 1)) : 0;
    const PetscInt point = row / numbers;

    *s = (Sample){.row = row, .part = row % numbers};
    if (point >= start && point < start + n)
      PetscCall(PetscArraycpy(s->x, x + GramAt(point - start, dim, 0), dim));
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, s->x, (PetscMPIInt)dim, MPIU_REAL, MPI_SUM, comm));
    for (PetscInt c = 0; c < dim; c++) s->scaled[c] = s->x[c] / kernel->length_scale[c];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* d / d (x / l) to d / d x */
static PetscReal Slope(const GramKernel *kernel, PetscInt part)
{
  return part ? 1 / kernel->length_scale[part - 1] : 1;
}

/* sum[k][r] = sum_j B_kj v[j][r] over the columns of this rank, by the plain loops of ref. A sum of n terms is itself wrong by
   eps sqrt(n) or so: this one has more digits than what it is compared with. */
static PetscErrorCode ReferenceSums(GramPoints X, const GramKernel *kernel, Mat V, PetscInt q, PetscInt count,
                                    const Sample samples[], long double *sum)
{
  const GramPart part = kernel->gradients ? GRAM_JOINT : GRAM_VALUE;
  const PetscInt dim = kernel->dim, numbers = GramKernelNumbers(kernel), chunk = PetscMax(1, CHUNK / numbers);
  PetscInt       n, lda, *rows, *cols;
  GramBackend    ref;
  const PetscReal *x, *v;
  PetscReal       *at, *z, *entries;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n, NULL));
  PetscCall(GramPointsGetArrayRead(X, &x));
  PetscCall(GramBackendCreate(PETSC_COMM_SELF, "ref", GRAM_DOUBLE, &ref));
  PetscCall(PetscMalloc5(GramAt(count, dim, 0), &at, GramAt(chunk, dim, 0), &z,
                         GramAt(chunk * numbers, count, 0), &entries, count, &rows, chunk * numbers, &cols));
  for (PetscInt k = 0; k < count; k++) {
    rows[k] = k * numbers + samples[k].part;
    PetscCall(PetscArraycpy(at + GramAt(k, dim, 0), samples[k].scaled, dim));
  }
  for (PetscInt j = 0; j < chunk * numbers; j++) cols[j] = j;
  PetscCall(MatDenseGetLDA(V, &lda));
  PetscCall(MatDenseGetArrayRead(V, &v));
  for (PetscInt first = 0; first < n; first += chunk) {
    const PetscInt points = PetscMin(chunk, n - first), width = points * numbers;
    GramTiles      tiles;

    for (PetscInt j = 0; j < points * dim; j++)
      z[j] = x[GramAt(first, dim, j)] / kernel->length_scale[j % dim];
    PetscCall(GramTilesCreate(ref, kernel, part, count, at, part, points, z, &tiles));
    PetscCall(GramTilesEntries(tiles, count, rows, width, cols, entries, count));
    PetscCall(GramTilesDestroy(&tiles));
    for (PetscInt r = 0; r < q; r++) {
      for (PetscInt j = 0; j < width; j++) {
        const long double vj =
            (long double)Slope(kernel, j % numbers) * v[GramAt(r, lda, first * numbers + j)];

        for (PetscInt k = 0; k < count; k++)
          sum[GramAt(k, q, r)] +=
              Slope(kernel, samples[k].part) * (long double)entries[GramAt(j, count, k)] * vj;
      }
    }
  }
  PetscCall(MatDenseRestoreArrayRead(V, &v));
  PetscCall(PetscFree5(at, z, entries, rows, cols));
  PetscCall(GramBackendDestroy(&ref));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* of the polynomial in row s and column r */
static long double Polynomial(const GramKernel *kernel, const Sample *s, const PetscReal *tail, PetscInt q,
                              PetscInt r, PetscReal p[])
{
  const PetscInt m   = tail ? GramPolynomialSize(kernel->tail_degree, kernel->dim) : 0;
  long double    sum = 0;

  if (s->part) GramPolynomialDerivatives(kernel->tail_degree, kernel->dim, s->part - 1, s->x, p);
  else GramPolynomialValues(kernel->tail_degree, kernel->dim, s->x, p);
  for (PetscInt k = 0; k < m; k++) sum += (long double)p[k] * tail[GramAt(k, q, r)];
  return sum;
}

PetscErrorCode GramSampleError(GramPoints X, const GramKernel *kernel, Mat V, Mat Y, const PetscReal *tail,
                               PetscReal *relative)
{
  const PetscReal  s2    = kernel->amplitude * kernel->amplitude;
  MPI_Comm         comm  = PetscObjectComm((PetscObject)V);
  PetscInt         count = 0, start, end, q, lda;
  PetscReal       *p, largest[2] = {0, 0}; /* error, value */
  const PetscReal *v, *y;
  long double     *sum;
  Sample          *samples;

  PetscFunctionBegin;
  PetscCall(MatGetSize(V, NULL, &q));
  PetscCall(MatGetOwnershipRange(V, &start, &end));
  PetscCall(PetscMalloc2(SAMPLES, &samples, GramPolynomialSize(2, kernel->dim), &p));
  PetscCall(SamplesCreate(X, kernel, samples, &count));
  PetscCall(PetscCalloc1(GramAt(count, q, 0), &sum));
  PetscCall(ReferenceSums(X, kernel, V, q, count, samples, sum));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sum, (PetscMPIInt)(count * q), MPI_LONG_DOUBLE, MPI_SUM, comm));
  PetscCall(MatDenseGetLDA(V, &lda)); /* that of Y too: both have as many rows here */
  PetscCall(MatDenseGetArrayRead(V, &v));
  PetscCall(MatDenseGetArrayRead(Y, &y));
  for (PetscInt k = 0; k < count; k++) {
    const PetscInt    i     = samples[k].row - start;
    const long double alpha = samples[k].part ? kernel->alpha_gradient : kernel->alpha;

    if (i < 0 || i >= end - start) continue;
    for (PetscInt r = 0; r < q; r++) {
      const size_t      at = GramAt(r, lda, i);
      const long double exact =
          s2 * sum[GramAt(k, q, r)] + alpha * v[at] + Polynomial(kernel, samples + k, tail, q, r, p);
      const PetscReal error = (PetscReal)fabsl(y[at] - exact);

      if (!(error <= largest[0])) largest[0] = error; /* NaN included */
      largest[1] = PetscMax(largest[1], (PetscReal)fabsl(exact));
    }
  }
  PetscCall(MatDenseRestoreArrayRead(Y, &y));
  PetscCall(MatDenseRestoreArrayRead(V, &v));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, largest, 2, MPIU_REAL, MPI_MAX, comm));
  *relative = largest[0] / largest[1];
  PetscCall(PetscFree(sum));
  PetscCall(PetscFree2(samples, p));
  PetscFunctionReturn(PETSC_SUCCESS);
}
