static const char help[] =
    "Products of the shell Mat are those of its entries, symmetric, and scale and shift as a Mat does.\n";

#include "../check.h"
#include "../check_backend.h"
#include "gram_mat.h"

static PetscReal Diagonal(const GramKernel *kernel)
{
  PetscReal phi = 1;

  if (kernel->radial == GRAM_RADIAL_MULTIQUADRIC) phi = -1;
  if (kernel->radial == GRAM_RADIAL_CUBIC || kernel->radial == GRAM_RADIAL_THIN_PLATE) phi = 0;
  return kernel->amplitude * kernel->amplitude * phi + kernel->alpha;
}

/* A through MatMult and MatMatMult against its own entries, which ref evaluated */
static PetscErrorCode Products(GramPoints X, const GramKernel *kernel, GramBackend backend, GramBackend ref,
                               PetscReal tolerance)
{
  MPI_Comm         comm;
  PetscInt         n, n_local, start, *index;
  PetscReal       *entries, norm, xAy, yAx;
  const PetscReal *v;
  Mat              A, R, V, Y;
  Vec              x, y, Ax, Ay, d, all, column;
  VecScatter       gather;
  PetscBool        set, spd;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, &comm, NULL, &n, &n_local, &start));
  PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(GramMatCreate(X, kernel, ref, &R));
  PetscCall(MatIsSPDKnown(A, &set, &spd));
  CHECK(set && spd == (GramRadialGetInfo(kernel->radial)->order == 0), "%s is marked SPD: %d", kernel->type,
        spd);
  PetscCall(MatCreateVecs(A, &x, &Ax));
  PetscCall(VecDuplicate(x, &y));
  PetscCall(VecDuplicate(x, &Ay));
  PetscCall(VecDuplicate(x, &d));
  for (PetscInt i = start; i < start + n_local; i++) {
    PetscCall(VecSetValue(x, i, CheckUniform(1, (uint64_t)i) - 0.5, INSERT_VALUES));
    PetscCall(VecSetValue(y, i, CheckUniform(2, (uint64_t)i) - 0.5, INSERT_VALUES));
  }
  PetscCall(VecAssemblyBegin(x));
  PetscCall(VecAssemblyEnd(x));
  PetscCall(VecAssemblyBegin(y));
  PetscCall(VecAssemblyEnd(y));
  PetscCall(MatMult(A, x, Ax));
  PetscCall(MatMult(A, y, Ay));
  PetscCall(VecDot(x, Ay, &xAy));
  PetscCall(VecDot(y, Ax, &yAx));
  PetscCall(VecNorm(Ax, NORM_2, &norm));
  CHECK(PetscAbsReal(xAy - yAx) <= tolerance * norm * PetscSqrtReal((PetscReal)n), "x'Ay - y'Ax = %.2e",
        xAy - yAx);

  /* y = sum_j A_ij x_j by the entries */
  PetscCall(VecScatterCreateToAll(x, &gather, &all));
  PetscCall(VecScatterBegin(gather, x, all, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(VecScatterEnd(gather, x, all, INSERT_VALUES, SCATTER_FORWARD));
  PetscCall(PetscMalloc2(n, &index, n_local * n, &entries));
  for (PetscInt i = 0; i < n; i++) index[i] = i;
  PetscCall(GramMatGetEntries(R, n_local, index + start, n, index, entries, n_local));
  PetscCall(VecGetArrayRead(all, &v));
  for (PetscInt i = 0; i < n_local; i++) {
    PetscReal sum = 0;

    for (PetscInt j = 0; j < n; j++) sum += entries[j * n_local + i] * v[j];
    PetscCall(VecSetValue(d, start + i, sum, INSERT_VALUES));
    CHECK_CLOSE("diagonal", entries[(start + i) * n_local + i], Diagonal(kernel), 1e-15);
  }
  PetscCall(VecRestoreArrayRead(all, &v));
  PetscCall(VecAssemblyBegin(d));
  PetscCall(VecAssemblyEnd(d));
  PetscCall(VecAXPY(d, -1, Ax));
  PetscCall(VecNorm(d, NORM_INFINITY, &norm));
  CHECK(norm <= tolerance * PetscSqrtReal((PetscReal)n), "MatMult is off by %.2e", norm);

  /* a panel is its columns */
  PetscCall(MatCreateDense(comm, n_local, PETSC_DECIDE, n, 3, NULL, &V));
  for (PetscInt r = 0; r < 3; r++) {
    PetscCall(MatDenseGetColumnVecWrite(V, r, &column));
    PetscCall(VecCopy(r == 1 ? y : x, column));
    PetscCall(MatDenseRestoreColumnVecWrite(V, r, &column));
  }
  PetscCall(MatMatMult(A, V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &Y));
  PetscCall(MatDenseGetColumnVecRead(Y, 1, &column));
  PetscCall(VecWAXPY(d, -1, column, Ay));
  PetscCall(MatDenseRestoreColumnVecRead(Y, 1, &column));
  PetscCall(VecNorm(d, NORM_INFINITY, &norm));
  CHECK(norm <= tolerance * PetscSqrtReal((PetscReal)n), "MatMatMult is off by %.2e", norm);

  /* 2 A + 3 */
  PetscCall(MatScale(A, 2));
  PetscCall(MatShift(A, 3));
  PetscCall(MatMult(A, x, d));
  PetscCall(VecAXPBYPCZ(d, -2, -3, 1, Ax, x));
  PetscCall(VecNorm(d, NORM_INFINITY, &norm));
  CHECK(norm <= 3 * tolerance * PetscSqrtReal((PetscReal)n), "MatScale and MatShift are off by %.2e", norm);
  PetscCall(MatMatMult(A, V, MAT_REUSE_MATRIX, PETSC_DEFAULT, &Y));
  PetscCall(MatDenseGetColumnVecRead(Y, 1, &column));
  PetscCall(VecCopy(column, d));
  PetscCall(MatDenseRestoreColumnVecRead(Y, 1, &column));
  PetscCall(VecAXPBYPCZ(d, -2, -3, 1, Ay, y));
  PetscCall(VecNorm(d, NORM_INFINITY, &norm));
  CHECK(norm <= 3 * tolerance * PetscSqrtReal((PetscReal)n),
        "MatScale and MatShift are off by %.2e in MatMatMult", norm);
  PetscCall(MatGetDiagonal(A, d));
  PetscCall(VecMax(d, NULL, &norm));
  CHECK_CLOSE("shifted diagonal", norm, 2 * Diagonal(kernel) + 3, 1e-15);

  PetscCall(VecScatterDestroy(&gather));
  PetscCall(VecDestroy(&all));
  PetscCall(PetscFree2(index, entries));
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&y));
  PetscCall(VecDestroy(&Ax));
  PetscCall(VecDestroy(&Ay));
  PetscCall(VecDestroy(&d));
  PetscCall(MatDestroy(&V));
  PetscCall(MatDestroy(&Y));
  PetscCall(MatDestroy(&A));
  PetscCall(MatDestroy(&R));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* every pair of points once with the cover, twice without; within 1 % of an even share on each rank */
static PetscErrorCode Cover(GramPoints X, const GramKernel *kernel, GramBackend backend)
{
  MPI_Comm       comm;
  PetscMPIInt    size;
  PetscInt       n;
  PetscBool      cover = PETSC_TRUE;
  PetscReal      share;
  GramMatStats   stats;
  PetscLogDouble sum;
  Mat            A;
  Vec            x, y;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, &comm, NULL, &n, NULL, NULL));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-product_symmetric", &cover, NULL));
  share = cover ? 0.5 : 1;
  PetscCall(GramMatCreate(X, kernel, backend, &A));
  PetscCall(MatCreateVecs(A, &x, &y));
  PetscCall(VecSet(x, 1));
  PetscCall(MatMult(A, x, y));
  PetscCall(GramMatGetStats(A, &stats));
  stats.evaluated += stats.skipped; /* of a compact kernel */
  PetscCallMPI(MPI_Allreduce(&stats.evaluated, &sum, 1, MPI_DOUBLE, MPI_SUM, comm));
  CHECK_CLOSE("evaluated pairs", sum, share * n * n, 1e-12);
  CHECK_CLOSE("evaluated pairs of a rank", stats.evaluated, share * n * n / size, 0.01);
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&y));
  PetscCall(MatDestroy(&A));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  static const PetscInt sizes[] = {1, 3, 200, 2100, 30000};
  GramBackend           backend, ref;
  GramKernel            kernel;
  PetscInt              dim = 3;
  GramPrecision         precision;
  PetscMPIInt           rank;
  PetscBool             found, given, small = PETSC_FALSE; /* for a backend that is emulated */
  char                  name[16], profile[32];

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(CheckBackendFound("cpu", name, &found));
  if (!found) return PetscFinalize() ? 1 : 77;
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-small", &small, NULL));
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, dim, &kernel));
  PetscCall(PetscOptionsGetString(NULL, NULL, "-profile", profile, sizeof profile, &given));
  if (given) PetscCall(GramKernelSetType(&kernel, profile, NAN, &given)); /* products need no tail */
  PetscCall(GramBackendCreateFromOptions(PETSC_COMM_WORLD, &backend));
  PetscCall(GramBackendGetInfo(backend, NULL, NULL, &precision));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "ref", GRAM_DOUBLE, &ref));
  for (size_t s = 0; s < PETSC_STATIC_ARRAY_LENGTH(sizes); s++) {
    const PetscInt n = sizes[s];
    PetscReal     *x;
    GramPoints     X;

    if (small && n > 3000) continue;
    PetscCall(PetscMalloc1(n * dim, &x));
    for (PetscInt i = 0; i < n * dim; i++) x[i] = CheckUniform(9, (uint64_t)i);
    PetscCall(GramPointsCreate(PETSC_COMM_WORLD, dim, rank ? 0 : n, x, kernel.length_scale, 1, &X));
    /* sums of n terms of size amplitude^2, times a few eps */
    if (n < 30000)
      PetscCall(Products(X, &kernel, backend, ref,
                         (precision ? 2e-6 : 4e-15) * kernel.amplitude * kernel.amplitude));
    else PetscCall(Cover(X, &kernel, backend));
    PetscCall(GramPointsDestroy(&X));
    PetscCall(PetscFree(x));
  }
  PetscCall(GramBackendDestroy(&backend));
  PetscCall(GramBackendDestroy(&ref));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
