static const char help[] = "Products on any grid are those of one rank, bit by bit when asked for; bytes, "
                           "balance and skipping keep their "
                           "formulas.\n";

#include <string.h>

#include <petscksp.h>

#include "../check.h"
#include "../check_backend.h"
#include "backend_impl.h"
#include "gram_mat.h"

static GramBackend backend, ref;
static PetscLogDouble
    received; /* bytes, as handed to MPI: what others own, m (p - 1) / p of a reduce-scatter */

/* MPI's profiling interface: these take the place of its own, which PETSc calls through macros that count too */
#undef MPI_Iallgatherv
#undef MPI_Reduce_scatter

int MPI_Iallgatherv(const void *mine, int count, MPI_Datatype type, void *all, const int counts[],
                    const int at[], MPI_Datatype row, MPI_Comm comm, MPI_Request *request)
{
  int rank, ranks, size;

  (void)PMPI_Comm_rank(comm, &rank);
  (void)PMPI_Comm_size(comm, &ranks);
  (void)PMPI_Type_size(row, &size);
  for (int r = 0; r < ranks; r++) received += r == rank ? 0 : (double)size * counts[r];
  return PMPI_Iallgatherv(mine, count, type, all, counts, at, row, comm, request);
}

int MPI_Reduce_scatter(const void *all, void *mine, const int counts[], MPI_Datatype type, MPI_Op op,
                       MPI_Comm comm)
{
  int ranks, size;

  (void)PMPI_Comm_size(comm, &ranks);
  (void)PMPI_Type_size(type, &size);
  for (int r = 0; r < ranks; r++) received += (double)size * counts[r] * (ranks - 1) / ranks;
  return PMPI_Reduce_scatter(all, mine, counts, type, op, comm);
}

/* what a product is made from: n points, in clusters when asked for, the same on every communicator */
static PetscErrorCode Points(MPI_Comm comm, PetscInt n, PetscInt clusters, const GramKernel *kernel,
                             PetscInt block, GramPoints *X)
{
  PetscMPIInt rank;
  PetscReal  *x;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(PetscMalloc1(n * kernel->dim, &x));
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt c = 0; c < kernel->dim; c++) {
      const uint64_t cluster = clusters ? (uint64_t)((i % clusters) * kernel->dim + c) : 0;

      x[i * kernel->dim + c] = CheckUniform(3, (uint64_t)(i * kernel->dim + c)) * (clusters ? 0.05 : 1) +
                               (clusters ? CheckUniform(4, cluster) : 0);
    }
  }
  PetscCall(GramPointsCreate(comm, kernel->dim, rank ? 0 : n, x, kernel->length_scale, block, X));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* entries of both signs and many magnitudes, by their place on the curve; column r of a panel */
static PetscReal Value(PetscInt r, PetscInt i)
{
  return (CheckUniform(20 + (uint64_t)r, (uint64_t)i) - 0.5) *
         pow(10, 4 * CheckUniform(40 + (uint64_t)r, (uint64_t)i));
}

static PetscErrorCode Set(const char *key, const char *value)
{
  PetscFunctionBegin;
  PetscCall(PetscOptionsSetValue(NULL, key, value));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Grid(PetscMPIInt pr, PetscMPIInt pc)
{
  char name[32];

  PetscFunctionBegin;
  (void)snprintf(name, sizeof name, "%d,%d", pr, pc);
  PetscCall(Set("-product_grid", name));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Y = A V of q columns, this rank's rows of it, and what it took */
static PetscErrorCode Multiply(GramPoints X, const GramKernel *kernel, PetscInt q, PetscReal **y,
                               GramMatStats *stats)
{
  MPI_Comm         comm;
  PetscInt         n_local, start;
  PetscReal       *v;
  const PetscReal *a;
  Mat              A, V, Y;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, &comm, NULL, NULL, &n_local, &start));
  PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(MatCreateDense(comm, n_local, PETSC_DECIDE, PETSC_DETERMINE, q, NULL, &V));
  PetscCall(MatDenseGetArrayWrite(V, &v));
  for (PetscInt r = 0; r < q; r++) {
    for (PetscInt i = 0; i < n_local; i++) v[r * n_local + i] = Value(r, start + i);
  }
  PetscCall(MatDenseRestoreArrayWrite(V, &v));
  received = 0;
  PetscCall(MatMatMult(A, V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &Y));
  PetscCall(PetscMalloc1(n_local * q, y));
  PetscCall(MatDenseGetArrayRead(Y, &a));
  PetscCall(PetscArraycpy(*y, a, n_local * q));
  PetscCall(MatDenseRestoreArrayRead(Y, &a));
  PetscCall(GramMatGetStats(A, stats));
  PetscCall(MatDestroy(&Y));
  PetscCall(MatDestroy(&V));
  PetscCall(MatDestroy(&A));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what gram_mat.h says this rank receives */
static PetscErrorCode Bytes(GramPoints X, PetscMPIInt pr, PetscMPIInt pc, PetscInt q, PetscBool cover,
                            PetscBool exact, PetscLogDouble *bytes)
{
  MPI_Comm       comm;
  PetscInt       n_local;
  PetscMPIInt    rank;
  PetscLogDouble in_R, in_C, mine, sum = exact ? 16.0 * q : 8.0 * q;
  PetscLogDouble rows[64] = {0};

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, &comm, NULL, NULL, &n_local, NULL));
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  mine = rows[rank] = n_local;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, rows, pr * pc, MPI_DOUBLE, MPI_SUM, comm));
  in_R = in_C = 0;
  for (PetscMPIInt r = 0; r < pr * pc; r++) {
    if (r / pc == rank / pc) in_R += rows[r];
    if (r % pc == rank % pc) in_C += rows[r];
  }
  *bytes = 8.0 * q * (in_C - mine) + sum * in_R * (pc - 1) / pc;
  if (cover) *bytes += 8.0 * q * (in_R - mine) + sum * in_C * (pr - 1) / pr;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* on every grid of all ranks against one rank alone: to rounding, or bit by bit */
static PetscErrorCode Grids(PetscInt n, PetscInt q, const GramKernel *kernel, PetscBool cover,
                            PetscBool exact)
{
  PetscMPIInt    size;
  PetscInt       n_local, start;
  PetscReal     *alone, *y, largest = 0;
  GramPoints     X, X_alone;
  GramMatStats   stats;
  PetscLogDouble bytes = 0, pairs;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  PetscCall(Set("-product_symmetric", cover ? "true" : "false"));
  PetscCall(Set("-product_reproducible", exact ? "true" : "false"));
  PetscCall(Points(PETSC_COMM_SELF, n, 0, kernel, exact ? 1024 : 1, &X_alone));
  PetscCall(Set("-product_grid", "auto"));
  PetscCall(Multiply(X_alone, kernel, q, &alone, &stats));
  PetscCall(GramPointsDestroy(&X_alone));
  for (PetscInt i = 0; i < n * q; i++) largest = PetscMax(largest, PetscAbsReal(alone[i]));
  CHECK(stats.bytes == 0, "one rank received %g bytes", stats.bytes);

  PetscCall(Points(PETSC_COMM_WORLD, n, 0, kernel, exact ? 1024 : 1, &X));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_local, &start));
  for (PetscMPIInt pc = 1; pc <= size; pc++) {
    PetscInt  differ = 0;
    PetscReal error  = 0;

    if (size % pc) continue;
    PetscCall(Grid(size / pc, pc));
    PetscCall(Multiply(X, kernel, q, &y, &stats));
    for (PetscInt r = 0; r < q; r++) {
      for (PetscInt i = 0; i < n_local; i++) {
        const PetscReal expected = alone[r * n + start + i];

        differ += memcmp(y + r * n_local + i, &expected, sizeof expected) != 0;
        error = PetscMax(error, PetscAbsReal(y[r * n_local + i] - expected));
      }
    }
    CHECK(error <= 1e-13 * largest, "n %d, grid %d x %d: off by %.2e", (int)n, size / pc, pc,
          error / largest);
    CHECK(!exact || !differ, "n %d, grid %d x %d, cover %d: %d of %d numbers differ from those of one rank",
          (int)n, size / pc, pc, cover, (int)differ, (int)(n_local * q));
    PetscCall(Bytes(X, size / pc, pc, q, cover, exact, &bytes));
    CHECK_CLOSE("bytes", stats.bytes, bytes, 1e-14);
    CHECK_CLOSE("bytes handed to MPI", received, bytes, 1e-14);
    PetscCallMPI(MPI_Allreduce(&stats.evaluated, &pairs, 1, MPI_DOUBLE, MPI_SUM, PETSC_COMM_WORLD));
    CHECK_CLOSE("evaluated pairs", pairs, (cover ? 0.5 : 1.0) * n * n, 1e-12);
    CHECK(stats.skipped == 0, "%g pairs skipped", stats.skipped);
    PetscCall(PetscFree(y));
  }
  PetscCall(GramPointsDestroy(&X));
  PetscCall(PetscFree(alone));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a backend that evaluates nothing: products of any size take no more than their schedule and communication */
static PetscErrorCode TilesCreate_Hollow(GramTiles t, PetscInt m, const PetscReal *x, PetscInt n,
                                         const PetscReal *z)
{
  PetscFunctionBegin;
  (void)t;
  (void)m;
  (void)x;
  (void)n;
  (void)z;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TilesDestroy_Hollow(GramTiles t)
{
  PetscFunctionBegin;
  (void)t;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Add_Hollow(GramTiles t, PetscInt n_tiles, const GramTile list[])
{
  PetscFunctionBegin;
  (void)t;
  (void)n_tiles;
  (void)list;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what gram_mat.h says of a rank, with all stretches of the curve as long as N makes them */
static PetscLogDouble NominalBytes(PetscInt n, PetscMPIInt pr, PetscMPIInt pc, PetscInt q, PetscBool cover)
{
  const PetscLogDouble own = (PetscLogDouble)n / pr / pc, n_R = own * pc, n_C = own * pr;

  if (pc == 1) return 8.0 * q * (n - own + (cover ? (PetscLogDouble)n * (pr - 1) / pr : 0));
  return 8.0 * q * (n_C - own + n_R * (pc - 1) / pc + (cover ? n_R - own + n_C * (pr - 1) / pr : 0));
}

/* Every rank has its even share of the pairs, but for a point more or less in the thousand that it owns at least, in rows
   and in columns; and receives what gram_mat.h says. On every grid, with the cover and without. */
static PetscErrorCode Balance(PetscInt n, PetscInt q, const GramKernel *kernel, PetscBool verbose)
{
  const PetscReal       off    = 0.002;
  struct _p_GramBackend hollow = {
      .name      = "hollow",
      .detail    = "evaluates nothing",
      .precision = GRAM_DOUBLE,
      .ops = {.tilescreate = TilesCreate_Hollow, .tilesdestroy = TilesDestroy_Hollow, .add = Add_Hollow}};
  const GramBackend before = backend;
  PetscMPIInt       size;
  GramPoints        X;

  PetscFunctionBegin;
  backend = &hollow;
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  PetscCall(Set("-product_reproducible", "false"));
  PetscCall(Set("-product_grid", "auto"));
  PetscCall(Points(PETSC_COMM_WORLD, n, 0, kernel, 1, &X));
  for (PetscMPIInt pc = 1; pc <= size; pc++) {
    if (size % pc) continue;
    for (int cover = 0; cover < 2; cover++) {
      const PetscLogDouble share = (cover ? 0.5 : 1.0) * n / size * n,
                           bytes = NominalBytes(n, size / pc, pc, q, (PetscBool)cover);
      GramMatStats   stats;
      PetscReal     *y;
      PetscLogDouble seen[4]; /* shares of pairs and of bytes: most, and minus the least */

      PetscCall(Set("-product_symmetric", cover ? "true" : "false"));
      PetscCall(Grid(size / pc, pc));
      PetscCall(Multiply(X, kernel, q, &y, &stats));
      PetscCall(PetscFree(y));
      seen[0] = stats.evaluated / share;
      seen[1] = -seen[0];
      seen[2] = bytes > 0 ? received / bytes : received + 1;
      seen[3] = -seen[2];
      CHECK_CLOSE("bytes handed to MPI", received, stats.bytes, 1e-14);
      PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, seen, 4, MPI_DOUBLE, MPI_MAX, PETSC_COMM_WORLD));
      CHECK(seen[0] <= 1 + off && -seen[1] >= 1 - off,
            "n %d, grid %d x %d, cover %d: ranks have %.4f to %.4f of an even share of the pairs", (int)n,
            size / pc, pc, cover, -seen[1], seen[0]);
      CHECK(seen[2] <= 1 + off && -seen[3] >= 1 - off,
            "n %d, grid %d x %d, cover %d: ranks receive %.4f to %.4f of the bytes of the formula", (int)n,
            size / pc, pc, cover, -seen[3], seen[2]);
      if (verbose)
        PetscCall(PetscPrintf(PETSC_COMM_WORLD,
                              "n %d, q %d, grid %d x %d, cover %d: pairs %.4f to %.4f, bytes %.4f to %.4f\n",
                              (int)n, (int)q, size / pc, pc, cover, -seen[1], seen[0], -seen[3], seen[2]));
    }
  }
  backend = before;
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* what a Krylov method makes of b on comm: x, the number of iterations, the last norm */
static PetscErrorCode Krylov(MPI_Comm comm, const char *type, PetscInt n, const GramKernel *kernel, Vec *x,
                             PetscInt *iterations, PetscReal *norm)
{
  PetscInt   start, end;
  GramPoints X;
  Mat        A;
  Vec        b;
  KSP        ksp;
  PC         pc;

  PetscFunctionBegin;
  PetscCall(Points(comm, n, 0, kernel, 1024, &X));
  PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(MatCreateVecs(A, x, &b));
  PetscCall(VecGetOwnershipRange(b, &start, &end));
  for (PetscInt i = start; i < end; i++) PetscCall(VecSetValue(b, i, Value(0, i), INSERT_VALUES));
  PetscCall(VecAssemblyBegin(b));
  PetscCall(VecAssemblyEnd(b));
  PetscCall(KSPCreate(comm, &ksp));
  PetscCall(KSPSetOperators(ksp, A, A));
  PetscCall(KSPSetType(ksp, type));
  PetscCall(KSPGetPC(ksp, &pc));
  PetscCall(PCSetType(pc, PCJACOBI));
  PetscCall(KSPSetTolerances(ksp, 1e-8, 0, PETSC_DEFAULT, 60));
  PetscCall(KSPSolve(ksp, b, *x));
  PetscCall(KSPGetIterationNumber(ksp, iterations));
  PetscCall(KSPGetResidualNorm(ksp, norm));
  PetscCall(KSPDestroy(&ksp));
  PetscCall(VecDestroy(&b));
  PetscCall(MatDestroy(&A));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* all of it on every grid of all ranks against one rank alone, bit by bit */
static PetscErrorCode KrylovGrids(const char *type, PetscInt n, const GramKernel *kernel)
{
  PetscMPIInt      size;
  PetscInt         its_alone, its, start, n_local;
  PetscReal        norm_alone, norm;
  const PetscReal *a, *b;
  Vec              alone, x;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  PetscCall(Set("-product_symmetric", "auto"));
  PetscCall(Set("-product_reproducible", "true"));
  PetscCall(Set("-product_grid", "auto"));
  PetscCall(Krylov(PETSC_COMM_SELF, type, n, kernel, &alone, &its_alone, &norm_alone));
  PetscCall(VecGetArrayRead(alone, &a));
  for (PetscMPIInt pc = 1; pc <= size; pc++) {
    PetscInt differ = 0;

    if (size % pc) continue;
    PetscCall(Grid(size / pc, pc));
    PetscCall(Krylov(PETSC_COMM_WORLD, type, n, kernel, &x, &its, &norm));
    CHECK(its == its_alone && norm == norm_alone, "%s, n %d: %d iterations to %.17g, one rank %d to %.17g",
          type, (int)n, (int)its, norm, (int)its_alone, norm_alone);
    PetscCall(VecGetLocalSize(x, &n_local));
    PetscCall(VecGetOwnershipRange(x, &start, NULL));
    PetscCall(VecGetArrayRead(x, &b));
    for (PetscInt i = 0; i < n_local; i++) differ += memcmp(a + start + i, b + i, sizeof *a) != 0;
    PetscCall(VecRestoreArrayRead(x, &b));
    CHECK(!differ, "%s, n %d, grid %d x %d: %d of %d coefficients differ from those of one rank", type,
          (int)n, size / pc, pc, (int)differ, (int)n_local);
    PetscCall(VecDestroy(&x));
  }
  PetscCall(VecRestoreArrayRead(alone, &a));
  PetscCall(VecDestroy(&alone));
  PetscFunctionReturn(PETSC_SUCCESS);
}

#define SAMPLE 7 /* rows from one that is compared to the next */

/* of this rank's sampled rows: sum_j |K_ij| |v_j| and sum_j A_ij v_j by the entries of ref, for q columns */
static PetscErrorCode Reference(GramPoints X, const GramKernel *kernel, PetscInt q, PetscReal **exact,
                                PetscReal **bound)
{
  PetscInt   n, n_local, start, *index;
  PetscReal *a;
  Mat        A;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, NULL, NULL, &n, &n_local, &start));
  PetscCall(GramMatCreate(X, kernel, ref, &A));
  PetscCall(PetscMalloc2(n, &index, n, &a));
  PetscCall(PetscCalloc1(n_local * q, exact));
  PetscCall(PetscCalloc1(n_local * q, bound));
  for (PetscInt i = 0; i < n; i++) index[i] = i;
  for (PetscInt i = 0; i < n_local; i += SAMPLE) {
    PetscCall(GramMatGetEntries(A, 1, index + start + i, n, index, a, 1));
    for (PetscInt r = 0; r < q; r++) {
      for (PetscInt j = 0; j < n; j++) {
        (*exact)[r * n_local + i] += a[j] * Value(r, j);
        (*bound)[r * n_local + i] += PetscAbsReal(a[j] * Value(r, j));
      }
    }
  }
  PetscCall(PetscFree2(index, a));
  PetscCall(MatDestroy(&A));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* clusters far apart and a short length scale: much is skipped, and no row is off by more than promised */
static PetscErrorCode Skipping(PetscInt n, const GramKernel *kernel, PetscBool exact)
{
  static const char *const tolerances[] = {"1e-6", "1e-10", "0"};
  const PetscInt           q            = 2;
  PetscMPIInt              size;
  PetscInt                 n_local;
  GramPoints               X;
  PetscReal               *expected, *bound;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  PetscCall(Set("-product_reproducible", exact ? "true" : "false"));
  PetscCall(Points(PETSC_COMM_WORLD, n, 4, kernel, exact ? 1024 : 1, &X));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_local, NULL));
  PetscCall(Set("-product_grid", "auto"));
  PetscCall(Reference(X, kernel, q, &expected, &bound));
  for (int cover = 0; cover < 2; cover++) {
    PetscCall(Set("-product_symmetric", cover ? "true" : "false"));
    for (PetscMPIInt pc = 1; pc <= size; pc++) {
      if (size % pc) continue;
      PetscCall(Grid(size / pc, pc));
      for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(tolerances); k++) {
        const PetscReal t = atof(tolerances[k]);
        PetscReal      *y, worst = 0;
        PetscLogDouble  pairs[2];
        GramMatStats    stats;

        PetscCall(Set("-product_tolerance", tolerances[k]));
        PetscCall(Multiply(X, kernel, q, &y, &stats));
        for (PetscInt r = 0; r < q; r++) {
          for (PetscInt i = r * n_local; i < (r + 1) * n_local;
               i += SAMPLE) /* 1e-14: rounding of both sums */
            worst = PetscMax(worst, PetscAbsReal(y[i] - expected[i]) / ((t + 1e-14) * bound[i]));
        }
        CHECK(worst <= 1, "tolerance %s, grid %d x %d, cover %d: a row is off by %g of what is allowed",
              tolerances[k], size / pc, pc, cover, worst);
        pairs[0] = stats.skipped;
        pairs[1] = stats.evaluated;
        PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, pairs, 2, MPI_DOUBLE, MPI_SUM, PETSC_COMM_WORLD));
        CHECK_CLOSE("skipped and evaluated pairs", pairs[0] + pairs[1], (cover ? 0.5 : 1.0) * n * n, 1e-12);
        CHECK(t == 0 ? pairs[0] == 0 : pairs[0] > 0.3 * (pairs[0] + pairs[1]),
              "tolerance %s, grid %d x %d, cover %d: %.0f of %.0f pairs skipped", tolerances[k], size / pc,
              pc, cover, pairs[0], pairs[0] + pairs[1]);
        PetscCall(PetscFree(y));
      }
    }
  }
  PetscCall(Set("-product_tolerance", "0"));
  PetscCall(PetscFree(expected));
  PetscCall(PetscFree(bound));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* infinities and zeros: nothing that matters is skipped, and 0 times a tile is 0 */
static PetscErrorCode SkippingSpecial(const GramKernel *kernel)
{
  PetscInt     start, end;
  PetscReal    largest;
  GramMatStats stats;
  GramPoints   X;
  Mat          A;
  Vec          v, y;

  PetscFunctionBegin;
  PetscCall(Set("-product_grid", "auto"));
  PetscCall(Set("-product_symmetric", "auto"));
  PetscCall(Set("-product_reproducible", "false"));
  PetscCall(Set("-product_tolerance", "1e-6"));
  PetscCall(Points(PETSC_COMM_WORLD, 5000, 8, kernel, 1, &X));
  PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(MatCreateVecs(A, &v, &y));
  PetscCall(VecSet(v, 0));
  PetscCall(MatMult(A, v, y));
  PetscCall(VecNorm(y, NORM_INFINITY, &largest));
  PetscCall(GramMatGetStats(A, &stats));
  CHECK(largest == 0 && stats.evaluated == 0, "A 0 = %g after %g pairs", largest, stats.evaluated);
  PetscCall(VecSet(v, 1));
  PetscCall(VecGetOwnershipRange(v, &start, &end));
  if (start == 0 && end > 0) PetscCall(VecSetValue(v, 0, INFINITY, INSERT_VALUES));
  PetscCall(VecAssemblyBegin(v));
  PetscCall(VecAssemblyEnd(v));
  PetscCall(MatMult(A, v, y));
  PetscCall(VecNorm(y, NORM_INFINITY, &largest));
  CHECK(PetscIsInfOrNanReal(largest), "an infinity was skipped: %g", largest);
  PetscCall(GramMatSetTolerance(A, 0));
  PetscCall(GramMatGetStats(A, &stats));
  largest = stats.skipped;
  PetscCall(VecSet(v, 0));
  PetscCall(MatMult(A, v, y));
  PetscCall(GramMatGetStats(A, &stats));
  CHECK(stats.skipped == largest, "skipped at tolerance 0");
  PetscCall(Set("-product_tolerance", "0"));
  PetscCall(VecDestroy(&v));
  PetscCall(VecDestroy(&y));
  PetscCall(MatDestroy(&A));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Y = A V, of which entry (i, r) is made by fill */
static PetscErrorCode Columns(Mat A, PetscInt q, void (*fill)(PetscInt, PetscInt, PetscReal *), Mat *Y)
{
  PetscInt   start, end, n;
  PetscReal *v;
  Mat        V;

  PetscFunctionBegin;
  PetscCall(MatGetOwnershipRangeColumn(A, &start, &end));
  PetscCall(MatGetSize(A, NULL, &n));
  PetscCall(MatCreateDense(PETSC_COMM_WORLD, end - start, PETSC_DECIDE, n, q, NULL, &V));
  PetscCall(MatDenseGetArrayWrite(V, &v));
  for (PetscInt r = 0; r < q; r++) {
    for (PetscInt i = start; i < end; i++) fill(r, i, v + r * (end - start) + i - start);
  }
  PetscCall(MatDenseRestoreArrayWrite(V, &v));
  PetscCall(MatMatMult(A, V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, Y));
  PetscCall(MatDestroy(&V));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* zeros; one spike among small entries; ones */
static void Unlike(PetscInt r, PetscInt i, PetscReal *v)
{
  *v = r == 0 ? 0 : r == 1 ? (i == 1234 ? 1e12 : 1e-6) : 1;
}

static void Ones(PetscInt r, PetscInt i, PetscReal *v)
{
  (void)r;
  (void)i;
  *v = 1;
}

/* columns that want different tiles: each keeps its bound, and a column of zeros stays one. All v are positive, so
   that A v is its own bound. */
static PetscErrorCode SkippingColumns(const GramKernel *kernel)
{
  PetscInt         n_local;
  const PetscReal *a, *b;
  GramMatStats     before, after;
  GramPoints       X;
  Mat              A, Y, exact;

  PetscFunctionBegin;
  PetscCall(Set("-product_tolerance", "1e-6"));
  PetscCall(Points(PETSC_COMM_WORLD, 9000, 8, kernel, 1, &X));
  PetscCall(GramPointsGetSizes(X, NULL, NULL, NULL, &n_local, NULL));
  PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(Columns(A, 3, Unlike, &Y));
  PetscCall(GramMatGetStats(A, &before));
  PetscCall(GramMatSetTolerance(A, 0));
  PetscCall(Columns(A, 3, Unlike, &exact));
  PetscCall(GramMatGetStats(A, &after));
  CHECK(after.skipped == before.skipped, "skipped at tolerance 0");
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &before.skipped, 1, MPI_DOUBLE, MPI_SUM, PETSC_COMM_WORLD));
  CHECK(before.skipped > 0, "nothing was skipped");
  PetscCall(MatDenseGetArrayRead(Y, &a));
  PetscCall(MatDenseGetArrayRead(exact, &b));
  for (PetscInt i = 0; i < 3 * n_local; i++) /* 1e-13: rounding of both sums */
    CHECK(PetscAbsReal(a[i] - b[i]) <= (1e-6 + 1e-13) * b[i], "column %d: %.17g, all tiles %.17g",
          (int)(i / n_local), a[i], b[i]);
  PetscCall(MatDenseRestoreArrayRead(Y, &a));
  PetscCall(MatDenseRestoreArrayRead(exact, &b));
  PetscCall(Set("-product_tolerance", "0"));
  PetscCall(MatDestroy(&Y));
  PetscCall(MatDestroy(&exact));
  PetscCall(MatDestroy(&A));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a reproducible Cross Mat evaluates all tiles, whatever its tolerance is set to; one that is not may skip */
static PetscErrorCode CrossTolerance(const GramKernel *kernel)
{
  GramPoints X, T;

  PetscFunctionBegin;
  PetscCall(Set("-product_tolerance", "1e-6"));
  PetscCall(Points(PETSC_COMM_WORLD, 5000, 8, kernel, 1024, &X));
  PetscCall(Points(PETSC_COMM_WORLD, 3000, 8, kernel, 1, &T));
  for (int exact = 0; exact < 2; exact++) {
    GramMatStats stats;
    Mat          K, Y;

    PetscCall(Set("-product_reproducible", exact ? "true" : "false"));
    PetscCall(GramMatCreateCross(T, GRAM_VALUE, X, kernel, backend, &K));
    PetscCall(GramMatSetTolerance(K, 0.5));
    PetscCall(Columns(K, 1, Ones, &Y));
    PetscCall(GramMatGetStats(K, &stats));
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &stats.skipped, 1, MPI_DOUBLE, MPI_SUM, PETSC_COMM_WORLD));
    CHECK(!exact || stats.skipped == 0, "a reproducible Cross Mat skipped %g pairs", stats.skipped);
    PetscCall(MatDestroy(&Y));
    PetscCall(MatDestroy(&K));
  }
  PetscCall(Set("-product_reproducible", "false"));
  PetscCall(Set("-product_tolerance", "0"));
  PetscCall(GramPointsDestroy(&T));
  PetscCall(GramPointsDestroy(&X));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  static const PetscInt sizes[] = {3, 700, 10007};
  GramKernel            kernel;
  PetscBool             found, small = PETSC_FALSE;         /* for a backend that is emulated */
  PetscBool   balance = PETSC_FALSE, verbose = PETSC_FALSE; /* nothing but Balance(), with its figures */
  PetscMPIInt ranks;
  char        name[16];

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(CheckBackendFound("cpu", name, &found));
  if (!found) return PetscFinalize() ? 1 : 77;
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-small", &small, NULL));
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-balance", &balance, NULL));
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-verbose", &verbose, NULL));
  PetscCall(Set("-ridge_alpha", "0.5"));
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, 3, &kernel));
  PetscCall(GramBackendCreateFromOptions(PETSC_COMM_WORLD, &backend));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "ref", GRAM_DOUBLE, &ref));
  if (balance) {
    /* 16 full blocks a rank and one point more on half of the ranks, which begins blocks; an odd number; one; many columns */
    PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &ranks));
    PetscCall(Balance(16 * 1024 * ranks + ranks / 2, 1, &kernel, verbose));
    PetscCall(Balance(5 * 1024 * ranks, 3, &kernel, verbose));
    PetscCall(Balance(1024 * ranks + ranks / 2, 2, &kernel, verbose));
    PetscCall(Balance(1500 * ranks, GRAM_PANEL + 1, &kernel, verbose));
    goto done;
  }
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(sizes); k++) {
    if (small && sizes[k] > 3000) continue;
    for (int cover = 0; cover < 2; cover++) {
      for (int exact = 0; exact < 2; exact++)
        PetscCall(Grids(sizes[k], sizes[k] > 1000 ? 1 : 3, &kernel, (PetscBool)cover, (PetscBool)exact));
    }
    PetscCall(KrylovGrids(KSPCG, PetscMin(sizes[k], 3000), &kernel));
  }
  if (small) PetscCall(Grids(2100, 3, &kernel, PETSC_TRUE, PETSC_TRUE));
  else {
    PetscCall(Grids(2100, 2 * GRAM_PANEL + 3, &kernel, PETSC_TRUE, PETSC_TRUE)); /* three passes */
    PetscCall(Grids(700, GRAM_PANEL + 1, &kernel, PETSC_FALSE, PETSC_FALSE));
    PetscCall(KrylovGrids(KSPGMRES, 2500, &kernel));
    PetscCall(KrylovGrids(KSPMINRES, 2500, &kernel));
    PetscCall(KrylovGrids(KSPBCGS, 2500, &kernel));
  }
  for (PetscInt c = 0; c < kernel.dim; c++) kernel.length_scale[c] = 0.02;
  kernel.alpha = 0; /* the bound is about K */
  if (!small) PetscCall(Skipping(12000, &kernel, PETSC_FALSE));
  if (!small) PetscCall(Skipping(12000, &kernel, PETSC_TRUE));
  PetscCall(SkippingSpecial(&kernel));
  PetscCall(SkippingColumns(&kernel));
  PetscCall(CrossTolerance(&kernel));

done:
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramBackendDestroy(&ref));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
