static const char help[] =
    "What is skipped of a compact kernel whatever the tolerance is exactly 0, and all of it is counted.\n";

#include "../check.h"
#include "gram_mat.h"
#include "skip.h"

enum { N_BLOCKS = 40, BLOCK = 25, N = N_BLOCKS * BLOCK };

/* Blocks about random centres, some at distances around 1 of each other, which is where supports end. Skipped: all of
   its entries are 0, bit by bit, so that no sum has other bits without them. Evaluated: its boxes are nearer than that. */
static PetscErrorCode Exact(const GramKernel *kernel, GramBackend backend)
{
  const PetscReal support = GramRadialGetInfo(kernel->radial)->support;
  const PetscInt  dim     = kernel->dim;
  PetscInt        offsets[N_BLOCKS + 1], index[N], skipped = 0, first[] = {0, N_BLOCKS};
  PetscReal      *x, *v, a[BLOCK * BLOCK];
  PetscLogDouble  bytes = 0;
  GramTiles       tiles;
  GramSkip        skip;

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(N * dim, &x, N, &v));
  for (PetscInt i = 0; i < N; i++) {
    const PetscInt  b     = i / BLOCK;
    const PetscReal width = b % 3 ? 0.2 : 0; /* or a single place */

    index[i] = i;
    v[i]     = 1;
    for (PetscInt c = 0; c < dim; c++) {
      x[GramAt(i, dim, c)] =
          3 * CheckUniform(1, GramAt(b, dim, c)) + width * CheckUniform(2, GramAt(i, dim, c));
      if (b % 3 == 0 && b % 2) /* 1 from the one before it, or as near as numbers come */
        x[GramAt(i, dim, c)] = x[GramAt(i - 3 * BLOCK, dim, c)] + (c ? 0 : 1 + (b % 5 - 2) * 2.3e-16);
    }
  }
  for (PetscInt b = 0; b <= N_BLOCKS; b++) offsets[b] = b * BLOCK;
  PetscCall(GramTilesCreate(backend, kernel, GRAM_VALUE, N, x, GRAM_VALUE, N, NULL, &tiles));
  PetscCall(GramSkipCreate(kernel, N_BLOCKS, offsets, x, 0, NULL, NULL, 0, N_BLOCKS, PETSC_FALSE, &skip));
  PetscCall(GramSkipBegin(skip, PETSC_COMM_SELF, 0, first, 1, v, &bytes));
  for (PetscInt i = 0; i < N_BLOCKS; i++) {
    for (PetscInt j = 0; j < N_BLOCKS; j++) {
      const PetscBool yes  = GramSkipTile(skip, i, j, PETSC_TRUE);
      PetscReal       most = 0, gap2 = 0;

      PetscCall(GramTilesEntries(tiles, BLOCK, index + i * BLOCK, BLOCK, index + j * BLOCK, a, BLOCK));
      for (PetscInt k = 0; k < BLOCK * BLOCK; k++) most = PetscMax(most, PetscAbsReal(a[k]));
      for (PetscInt c = 0; c < dim; c++) {
        PetscReal lower[2] = {INFINITY, INFINITY}, upper[2] = {-INFINITY, -INFINITY};

        for (int side = 0; side < 2; side++) {
          for (PetscInt k = 0; k < BLOCK; k++) {
            const PetscReal xc = x[GramAt((side ? j : i) * BLOCK + k, dim, c)];

            lower[side] = PetscMin(lower[side], xc);
            upper[side] = PetscMax(upper[side], xc);
          }
        }
        gap2 += PetscSqr(PetscMax(0, PetscMax(lower[1] - upper[0], lower[0] - upper[1])));
      }
      skipped += yes;
      CHECK(!yes || most == 0, "%s dim %d: a tile with an entry of %g was skipped", kernel->type, (int)dim,
            most);
      CHECK(yes || !support || gap2 <= 1 + 1e-11, "%s dim %d: boxes %.15g apart were not skipped",
            kernel->type, (int)dim, PetscSqrtReal(gap2));
    }
  }
  CHECK(support > 0 ? skipped > N_BLOCKS * N_BLOCKS / 4 : skipped == 0, "%s dim %d: %d of %d tiles skipped",
        kernel->type, (int)dim, (int)skipped, N_BLOCKS * N_BLOCKS);
  PetscCall(GramSkipDestroy(&skip));
  PetscCall(GramTilesDestroy(&tiles));
  PetscCall(PetscFree2(x, v));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y = A v of the square matrix or of predictions: pairs are skipped, counted, and rows are those of the entries */
static PetscErrorCode Products(PetscInt n, const GramKernel *kernel, GramBackend backend, PetscBool cross,
                               PetscReal eps)
{
  const PetscInt   dim = kernel->dim;
  PetscMPIInt      rank;
  PetscInt         m_local, n_all, *index;
  PetscReal       *x, *row;
  const PetscReal *v, *y;
  PetscLogDouble   pairs[3];
  GramPoints       X, T;
  GramMatStats     stats;
  VecScatter       gather;
  Vec              in, out, all;
  Mat              A;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(PetscMalloc1(n * dim, &x));
  for (PetscInt i = 0; i < n * dim; i++) x[i] = CheckUniform(3, (uint64_t)i);
  PetscCall(GramPointsCreate(PETSC_COMM_WORLD, dim, rank ? 0 : n, x, kernel->length_scale, 1, &X));
  for (PetscInt i = 0; i < n * dim; i++) x[i] = CheckUniform(4, (uint64_t)i);
  PetscCall(GramPointsCreate(PETSC_COMM_WORLD, dim, rank ? 0 : n / 2, x, kernel->length_scale, 1, &T));
  PetscCall(PetscFree(x));
  if (cross) PetscCall(GramMatCreateCross(T, GRAM_VALUE, X, kernel, backend, &A));
  else PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(MatCreateVecs(A, &in, &out));
  PetscCall(VecSetRandom(in, NULL));
  PetscCall(MatMult(A, in, out));
  PetscCall(GramMatGetStats(A, &stats));
  pairs[0] = stats.skipped;
  pairs[1] = stats.evaluated;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, pairs, 2, MPI_DOUBLE, MPI_SUM, PETSC_COMM_WORLD));
  CHECK_CLOSE("skipped and evaluated pairs", pairs[0] + pairs[1], cross ? stats.pairs : 0.5 * stats.pairs,
              1e-12);
  CHECK(pairs[0] > 0.2 * (pairs[0] + pairs[1]), "%s: %g of %g pairs skipped", cross ? "cross" : "square",
        pairs[0], pairs[0] + pairs[1]);

  PetscCall(VecScatterCreateToAll(in, &gather, &all));
  PetscCall(VecScatterBegin(gather, in, all, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(VecScatterEnd(gather, in, all, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(VecGetSize(all, &n_all));
  PetscCall(VecGetLocalSize(out, &m_local));
  PetscCall(PetscMalloc2(n_all, &index, n_all, &row));
  for (PetscInt j = 0; j < n_all; j++) index[j] = j;
  PetscCall(VecGetArrayRead(all, &v));
  PetscCall(VecGetArrayRead(out, &y));
  for (PetscInt i = 0; i < m_local; i += 37) {
    PetscInt  start, at = i;
    PetscReal sum = 0;

    PetscCall(VecGetOwnershipRange(out, &start, NULL));
    if (!cross) at += start;
    PetscCall(GramMatGetEntries(A, 1, &at, n_all, index, row, 1));
    for (PetscInt j = 0; j < n_all; j++) sum += row[j] * v[j];
    CHECK(PetscAbsReal(y[i] - sum) <= eps * (1 + sum), "%s row %d: %.15g, not %.15g",
          cross ? "cross" : "square", (int)at, y[i], sum);
  }
  PetscCall(VecRestoreArrayRead(out, &y));
  PetscCall(VecRestoreArrayRead(all, &v));
  PetscCall(PetscFree2(index, row));
  PetscCall(VecScatterDestroy(&gather));
  PetscCall(VecDestroy(&in));
  PetscCall(VecDestroy(&out));
  PetscCall(VecDestroy(&all));
  PetscCall(MatDestroy(&A));
  PetscCall(GramPointsDestroy(&X));
  PetscCall(GramPointsDestroy(&T));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  static const char *const names[] = {"wendland2", "wendland4", "matern52", "inverse_multiquadric", "cubic"};
  GramKernel               kernel;
  GramBackend              cpu, mixed;
  PetscBool                found;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_DOUBLE, &cpu));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_MIXED, &mixed));
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, 3, &kernel));
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(names); k++) {
    PetscCall(GramKernelSetType(&kernel, names[k], NAN, &found));
    CHECK(found, "no kernel %s", names[k]);
    for (kernel.dim = 1; kernel.dim <= 3; kernel.dim++) PetscCall(Exact(&kernel, cpu));
  }
  PetscCall(GramKernelSetType(&kernel, "wendland2", NAN, &found));
  kernel.dim = 2;
  for (PetscInt c = 0; c < kernel.dim; c++) kernel.length_scale[c] = 0.1;
  for (int cross = 0; cross < 2; cross++) {
    PetscCall(Products(12000, &kernel, cpu, (PetscBool)cross, 1e-13));
    PetscCall(Products(12000, &kernel, mixed, (PetscBool)cross, 1e-5));
  }
  PetscCall(GramBackendDestroy(&cpu));
  PetscCall(GramBackendDestroy(&mixed));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
