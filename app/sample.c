#include <math.h>

#include "sample.h"

#define SAMPLES 64   /* rows compared with the reference, at most */
#define CHUNK   1024 /* columns the reference takes at once: memory stays small at any size */

/* [SAMPLES] rows spread over the whole curve, the first and the last included */
static PetscInt SampleRows(PetscInt n, PetscInt rows[])
{
  const PetscInt count = PetscMin(SAMPLES, n);

  for (PetscInt k = 0; k < count; k++)
    rows[k] = count > 1 ? (PetscInt)((PetscInt64)k * (n - 1) / (count - 1)) : 0;
  return count;
}

/* n points in units of the length scale */
static void Scale(const GramKernel *kernel, PetscInt n, const PetscReal *x, PetscReal *scaled)
{
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt k = 0; k < kernel->dim; k++)
      scaled[GramAt(i, kernel->dim, k)] = x[GramAt(i, kernel->dim, k)] / kernel->length_scale[k];
  }
}

/* sum[k][r] = sum_j phi(x_k, x_j) v[j][r] over the columns of this rank, by the plain loops of ref. A sum of n terms
   is itself wrong by eps sqrt(n) or so: this one has more digits than what it is compared with. */
static PetscErrorCode ReferenceSums(GramPoints X, const GramKernel *kernel, Mat V, PetscInt q, PetscInt count,
                                    const PetscReal *samples, long double *sum)
{
  PetscInt         n, lda, index[CHUNK];
  GramBackend      ref;
  const PetscReal *x, *v;
  PetscReal       *z, *entries;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n, NULL));
  PetscCall(GramPointsGetArrayRead(X, &x));
  PetscCall(GramBackendCreate(PETSC_COMM_SELF, "ref", GRAM_DOUBLE, &ref));
  PetscCall(PetscMalloc2(GramAt(CHUNK, kernel->dim, 0), &z, GramAt(CHUNK, count, 0), &entries));
  for (PetscInt j = 0; j < CHUNK; j++) index[j] = j;
  PetscCall(MatDenseGetLDA(V, &lda));
  PetscCall(MatDenseGetArrayRead(V, &v));
  for (PetscInt first = 0; first < n; first += CHUNK) {
    const PetscInt width = PetscMin(CHUNK, n - first);
    GramTiles      tiles;

    Scale(kernel, width, x + GramAt(first, kernel->dim, 0), z);
    PetscCall(GramTilesCreate(ref, kernel, GRAM_VALUE, count, samples, GRAM_VALUE, width, z, &tiles));
    PetscCall(GramTilesEntries(tiles, count, index, width, index, entries, count));
    PetscCall(GramTilesDestroy(&tiles));
    for (PetscInt r = 0; r < q; r++) {
      for (PetscInt j = 0; j < width; j++) {
        for (PetscInt k = 0; k < count; k++)
          sum[GramAt(k, q, r)] += (long double)entries[GramAt(j, count, k)] * v[GramAt(r, lda, first + j)];
      }
    }
  }
  PetscCall(MatDenseRestoreArrayRead(V, &v));
  PetscCall(PetscFree2(z, entries));
  PetscCall(GramBackendDestroy(&ref));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramSampleError(GramPoints X, const GramKernel *kernel, Mat V, Mat Y, PetscReal *relative)
{
  MPI_Comm         comm;
  PetscInt         rows[SAMPLES], count, n_all, n, start, q, lda;
  PetscReal       *samples, largest[2] = {0, 0}; /* error, value */
  const PetscReal *x, *v, *y;
  long double     *sum;
  const PetscReal  s2 = kernel->amplitude * kernel->amplitude;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, &comm, NULL, &n_all, &n, &start));
  PetscCall(MatGetSize(V, NULL, &q));
  count = SampleRows(n_all, rows);
  PetscCall(GramPointsGetArrayRead(X, &x));
  PetscCall(PetscCalloc2(GramAt(count, kernel->dim, 0), &samples, GramAt(count, q, 0), &sum));
  for (PetscInt k = 0; k < count; k++) {
    if (rows[k] < start || rows[k] >= start + n) continue;
    Scale(kernel, 1, x + GramAt(rows[k] - start, kernel->dim, 0), samples + GramAt(k, kernel->dim, 0));
  }
  PetscCallMPI(
      MPI_Allreduce(MPI_IN_PLACE, samples, (PetscMPIInt)(count * kernel->dim), MPIU_REAL, MPI_SUM, comm));
  PetscCall(ReferenceSums(X, kernel, V, q, count, samples, sum));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sum, (PetscMPIInt)(count * q), MPI_LONG_DOUBLE, MPI_SUM, comm));
  PetscCall(MatDenseGetLDA(V, &lda)); /* that of Y too: both have n rows here */
  PetscCall(MatDenseGetArrayRead(V, &v));
  PetscCall(MatDenseGetArrayRead(Y, &y));
  for (PetscInt k = 0; k < count; k++) {
    if (rows[k] < start || rows[k] >= start + n) continue;
    for (PetscInt r = 0; r < q; r++) {
      const size_t      at    = GramAt(r, lda, rows[k] - start);
      const long double exact = s2 * sum[GramAt(k, q, r)] + (long double)kernel->alpha * v[at];
      const PetscReal   error = (PetscReal)fabsl(y[at] - exact);

      if (!(error <= largest[0])) largest[0] = error; /* NaN included */
      largest[1] = PetscMax(largest[1], (PetscReal)fabsl(exact));
    }
  }
  PetscCall(MatDenseRestoreArrayRead(Y, &y));
  PetscCall(MatDenseRestoreArrayRead(V, &v));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, largest, 2, MPIU_REAL, MPI_MAX, comm));
  *relative = largest[0] / largest[1];
  PetscCall(PetscFree2(samples, sum));
  PetscFunctionReturn(PETSC_SUCCESS);
}
