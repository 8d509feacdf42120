static const char help[] =
    "The curve's order is the same on any number of ranks, rows go there and back, duplicates are found.\n";

#include "../check.h"
#include "points.h"

/* a checksum of the order: sum over the curve of place * row */
static PetscErrorCode Order(MPI_Comm comm, PetscInt dim, PetscInt n, PetscBool twin, double *sum,
                            PetscInt pair[2])
{
  PetscMPIInt      rank, size;
  PetscInt         first, end, n_local, start, back_n;
  PetscReal       *x, *rows, *curve, *back;
  const PetscReal *sorted;
  GramPoints       points;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  first  = n * rank / size; /* an input layout that is not the curve's */
  end    = n * (rank + 1) / size;
  back_n = end - first;
  PetscCall(PetscMalloc3(back_n * dim, &x, back_n, &rows, back_n, &back));
  for (PetscInt i = 0; i < back_n; i++) {
    const PetscInt row = first + i, source = twin && row == n - 2 ? n / 3 : row;

    rows[i] = row;
    for (PetscInt c = 0; c < dim; c++) x[i * dim + c] = CheckUniform(4, (uint64_t)(source * dim + c));
  }
  PetscCall(GramPointsCreate(comm, dim, back_n, x, NULL, 1, &points));
  PetscCall(GramPointsGetSizes(points, NULL, NULL, NULL, &n_local, &start));
  PetscCall(GramPointsGetArrayRead(points, &sorted));
  PetscCall(PetscMalloc1(n_local, &curve));
  PetscCall(GramPointsToCurve(points, 1, rows, curve));
  *sum = 0;
  for (PetscInt i = 0; i < n_local; i++) {
    const PetscInt source = twin && (PetscInt)curve[i] == n - 2 ? n / 3 : (PetscInt)curve[i];

    *sum += (double)(start + i) * curve[i];
    CHECK(sorted[i * dim] == CheckUniform(4, (uint64_t)(source * dim)), "coordinates left their row");
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sum, 1, MPI_DOUBLE, MPI_SUM, comm));
  PetscCall(GramPointsToInput(points, 1, curve, back));
  for (PetscInt i = 0; i < back_n; i++) CHECK(back[i] == rows[i], "row %g came back as %g", rows[i], back[i]);
  PetscCall(GramPointsFindDuplicate(points, pair));
  PetscCall(GramPointsDestroy(&points));
  PetscCall(PetscFree(curve));
  PetscCall(PetscFree3(x, rows, back));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* On a full grid of 2^k cells a side, neighbours on a Hilbert curve share a face. */
static PetscErrorCode Continuous(PetscInt dim, PetscInt side)
{
  PetscInt         n = 1;
  PetscReal       *x;
  const PetscReal *sorted;
  GramPoints       points;

  PetscFunctionBegin;
  for (PetscInt c = 0; c < dim; c++) n *= side;
  PetscCall(PetscMalloc1(n * dim, &x));
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt c = 0, rest = i; c < dim; rest /= side, c++)
      x[i * dim + c] = (PetscReal)(rest % side) + 0.5 * (rest % side == side - 1);
  }
  PetscCall(GramPointsCreate(PETSC_COMM_SELF, dim, n, x, NULL, 1, &points));
  PetscCall(GramPointsGetArrayRead(points, &sorted));
  for (PetscInt i = 1; i < n; i++) {
    PetscReal step = 0;

    for (PetscInt c = 0; c < dim; c++) step += PetscAbsReal(sorted[i * dim + c] - sorted[(i - 1) * dim + c]);
    CHECK(step <= 1.5, "dim %d: a jump of %g at place %d", (int)dim, step, (int)i);
  }
  PetscCall(GramPointsDestroy(&points));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Blocks(MPI_Comm comm, PetscInt n)
{
  PetscMPIInt rank, size;
  PetscInt    n_blocks, *offsets, *first, start, n_local;
  PetscReal  *x;
  GramPoints  points;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(PetscMalloc1(n, &x));
  for (PetscInt i = 0; i < n; i++) x[i] = CheckUniform(5, (uint64_t)i);
  PetscCall(GramPointsCreate(comm, 1, rank ? 0 : n, x, NULL, 1, &points));
  PetscCall(GramPointsGetSizes(points, NULL, NULL, NULL, &n_local, &start));
  PetscCall(GramPointsGetBlocks(points, 64, &n_blocks, &offsets, &first));
  CHECK(offsets[0] == 0 && offsets[n_blocks] == n, "blocks do not cover the points");
  CHECK(offsets[first[rank]] == start && offsets[first[rank + 1]] == start + n_local,
        "blocks straddle ranks");
  for (PetscMPIInt r = 0; r < size; r++) /* schedules count on it: as many on each rank, two halves */
    CHECK(n < size || (first[r + 1] - first[r] == first[1] && (first[1] % 2 == 0 || n / size == 1)),
          "%d blocks on rank %d, %d on the first", (int)(first[r + 1] - first[r]), (int)r, (int)first[1]);
  for (PetscInt b = 0; b < n_blocks; b++)
    CHECK(offsets[b + 1] > offsets[b] && offsets[b + 1] - offsets[b] <= 64, "block %d is empty or too long",
          (int)b);
  PetscCall(PetscFree(offsets));
  PetscCall(PetscFree(first));
  PetscCall(GramPointsDestroy(&points));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ranks that own whole blocks share one table of blocks, whatever their number */
static PetscErrorCode WholeBlocks(MPI_Comm comm, PetscInt n, PetscInt block)
{
  PetscMPIInt rank, size;
  PetscInt    n_blocks, *offsets, *first, start, n_local;
  PetscReal  *x;
  GramPoints  points;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(PetscMalloc1(n, &x));
  for (PetscInt i = 0; i < n; i++) x[i] = CheckUniform(6, (uint64_t)i);
  PetscCall(GramPointsCreate(comm, 1, rank ? 0 : n, x, NULL, block, &points));
  PetscCall(GramPointsGetSizes(points, NULL, NULL, NULL, &n_local, &start));
  CHECK(start % block == 0 || start == n, "a rank begins at %d", (int)start);
  CHECK(n_local % block == 0 || start + n_local == n, "a rank ends at %d", (int)(start + n_local));
  CHECK(n_local <= block * ((n + block - 1) / block / size + 1), "%d points of %d", (int)n_local, (int)n);
  for (PetscInt part = block; part > 1; part /= 2) {
    PetscCall(GramPointsGetBlocks(points, part, &n_blocks, &offsets, &first));
    CHECK(n_blocks == (n + part - 1) / part, "%d blocks of %d points", (int)n_blocks, (int)part);
    for (PetscInt b = 0; b <= n_blocks; b++)
      CHECK(offsets[b] == PetscMin(n, b * part), "block %d of %d points begins at %d", (int)b, (int)part,
            (int)offsets[b]);
    CHECK(offsets[first[rank]] == start, "rank %d begins within a block", (int)rank);
    PetscCall(PetscFree(offsets));
    PetscCall(PetscFree(first));
  }
  PetscCall(GramPointsDestroy(&points));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  static const PetscInt dims[] = {1, 2, 3, 9, 70}, sizes[] = {1, 2, 3, 67, 2000};

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  for (size_t d = 0; d < PETSC_STATIC_ARRAY_LENGTH(dims); d++) {
    for (size_t s = 0; s < PETSC_STATIC_ARRAY_LENGTH(sizes); s++) {
      const PetscBool twin = (PetscBool)(sizes[s] > 10);
      PetscInt        pair[2], alone_pair[2];
      double          sum, alone;

      PetscCall(Order(PETSC_COMM_WORLD, dims[d], sizes[s], twin, &sum, pair));
      PetscCall(Order(PETSC_COMM_SELF, dims[d], sizes[s], twin, &alone, alone_pair));
      CHECK(sum == alone, "dim %d, %d points: the order depends on the ranks", (int)dims[d], (int)sizes[s]);
      CHECK(pair[0] == (twin ? sizes[s] / 3 : -1) && pair[1] == (twin ? sizes[s] - 2 : -1),
            "duplicates %d and %d", (int)pair[0], (int)pair[1]);
    }
  }
  PetscCall(Continuous(1, 64));
  PetscCall(Continuous(2, 16));
  PetscCall(Continuous(3, 8));
  PetscCall(Continuous(4, 4));
  PetscCall(Blocks(PETSC_COMM_WORLD, 1));
  PetscCall(Blocks(PETSC_COMM_WORLD, 1000));
  PetscCall(Blocks(PETSC_COMM_WORLD, 641)); /* a point more begins a block on 2 ranks */
  PetscCall(WholeBlocks(PETSC_COMM_WORLD, 1, 64));
  PetscCall(WholeBlocks(PETSC_COMM_WORLD, 64, 64));
  PetscCall(WholeBlocks(PETSC_COMM_WORLD, 1003, 64));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
