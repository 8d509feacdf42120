static const char help[] = "Exact sums are the same in any order and on any ranks, are right to rounding, "
                           "and vectors pass them on.\n";

#include <float.h>
#include <string.h>

#include <petscksp.h>

#include "../check.h"
#include "reproducible.h"

/* any sign, magnitudes over decades powers of ten */
static double Number(uint64_t seed, uint64_t i, double decades)
{
  return (CheckUniform(seed, 2 * i) - 0.5) * pow(10, decades * (CheckUniform(seed, 2 * i + 1) - 0.5));
}

/* backwards, and dealt to 1 ... 7 holders whose folds are added up afterwards: the same bits */
static PetscErrorCode Folds(PetscInt n, double decades)
{
  PetscReal t[GRAM_FOLDS], all[GRAM_FOLDS] = {0}, sum = 0;
  double    p;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < n; i++) sum += fabs(Number(1, (uint64_t)i, decades));
  GramFoldsBegin((PetscReal)n, sum, t);
  for (PetscInt i = 0; i < n; i++) {
    p = Number(1, (uint64_t)i, decades);
    GramFoldsAdd(1, 1, &p, t, all);
  }
  for (PetscInt holders = 1; holders <= 7; holders++) {
    PetscReal total[GRAM_FOLDS] = {0};

    for (PetscInt h = 0; h < holders; h++) {
      PetscReal part[GRAM_FOLDS] = {0};

      for (PetscInt i = n - 1 - h; i >= 0; i -= holders) {
        p = Number(1, (uint64_t)i, decades);
        GramFoldsAdd(1, 1, &p, t, part);
      }
      for (int f = 0; f < GRAM_FOLDS; f++) total[f] += part[f];
    }
    CHECK(!memcmp(total, all, sizeof all), "%d terms, %d holders: %a + %a, not %a + %a", (int)n, (int)holders,
          total[0], total[1], all[0], all[1]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the terms of a dot on this rank's rows, which need not be even */
static PetscErrorCode Rows(MPI_Comm comm, PetscInt n, PetscInt *start, PetscInt *end)
{
  PetscMPIInt rank, size;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCallMPI(MPI_Comm_size(comm, &size));
  *start = (PetscInt)((PetscReal)n * rank * rank / size / size);
  *end   = (PetscInt)((PetscReal)n * (rank + 1) * (rank + 1) / size / size);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Dots(MPI_Comm comm, PetscInt n, double decades, PetscReal z[3])
{
  PetscInt         start, end;
  PetscReal       *x, *y;
  const PetscReal *with[3];

  PetscFunctionBegin;
  PetscCall(Rows(comm, n, &start, &end));
  PetscCall(PetscMalloc2(end - start, &x, end - start, &y));
  for (PetscInt i = start; i < end; i++) {
    x[i - start] = Number(2, (uint64_t)i, decades);
    y[i - start] = Number(3, (uint64_t)i, decades);
  }
  with[0] = y;
  with[1] = x;
  with[2] = NULL;
  PetscCall(GramExactDots(comm, end - start, n, x, 3, with, z));
  PetscCall(PetscFree2(x, y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode DotsAgree(PetscInt n, double decades)
{
  PetscReal   z[3], alone[3], largest = 0;
  long double exact = 0;

  PetscFunctionBegin;
  PetscCall(Dots(PETSC_COMM_WORLD, n, decades, z));
  PetscCall(Dots(PETSC_COMM_SELF, n, decades, alone));
  for (int k = 0; k < 3; k++)
    CHECK(!memcmp(z + k, alone + k, sizeof *z), "%d terms, sum %d: %a, alone %a", (int)n, k, z[k], alone[k]);
  for (PetscInt i = 0; i < n; i++) {
    const double term = Number(2, (uint64_t)i, decades) * Number(3, (uint64_t)i, decades);

    exact += (long double)term; /* terms are rounded products: their sum is what is exact */
    largest = PetscMax(largest, fabs(term));
  }
  /* the bound of reproducible.h, a rounding of the result and those of long double */
  CHECK(fabs(z[0] - (double)exact) <= pow(n, 3) * largest * 0x1p-100 + DBL_EPSILON * fabs((double)exact) +
                                          n * largest * (PetscReal)n * LDBL_EPSILON,
        "%d terms over %g decades: off by %.2e of %.2e", (int)n, decades, fabs(z[0] - (double)exact),
        largest);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode DotOf(PetscInt n, const PetscReal *x, const PetscReal *y, PetscReal *z)
{
  PetscFunctionBegin;
  PetscCall(GramExactDots(PETSC_COMM_SELF, n, n, x, 1, &y, z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Special(void)
{
  const PetscReal ones[4] = {1, 1, 1, 1}, cancel[4] = {1e16, 1, -1e16, 1},
                  tiny[4] = {0x1p-1074, 0x1p-1073, 0, 0}, zero[4] = {0}, nan[4] = {1, NAN, 1, 1},
                  infinite[4] = {1, 1, -INFINITY, 1}, huge[4] = {1e308, 1e308, -1e308, 1},
                  large[4] = {0x1p1000, 1, -0x1p1000, 1};
  PetscReal z;

  PetscFunctionBegin;
  PetscCall(DotOf(4, cancel, ones, &z));
  CHECK(z == 2, "1e16 + 1 - 1e16 + 1 = %g", z);
  PetscCall(DotOf(4, tiny, ones, &z));
  CHECK(z == 3 * 0x1p-1074, "subnormal numbers sum to %a", z);
  PetscCall(DotOf(4, zero, ones, &z));
  CHECK(z == 0, "zeros sum to %g", z);
  PetscCall(DotOf(0, zero, ones, &z));
  CHECK(z == 0, "nothing sums to %g", z);
  PetscCall(DotOf(4, large, ones, &z));
  CHECK(fabs(z) <= 64 * 0x1p900, "2^1000 + 1 - 2^1000 + 1 = %g", z); /* n^3 2^1000 2^-100 */
  PetscCall(DotOf(4, nan, ones, &z));
  CHECK(PetscIsNanReal(z), "a NaN sums to %g", z);
  PetscCall(DotOf(4, infinite, ones, &z));
  CHECK(PetscIsNanReal(z), "an infinity sums to %g", z);
  PetscCall(DotOf(4, huge, ones, &z));
  CHECK(PetscIsNanReal(z), "an overflow sums to %g", z);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Fill(Vec x, uint64_t seed)
{
  PetscInt start, end;

  PetscFunctionBegin;
  PetscCall(VecGetOwnershipRange(x, &start, &end));
  for (PetscInt i = start; i < end; i++)
    PetscCall(VecSetValue(x, i, Number(seed, (uint64_t)i, 6), INSERT_VALUES));
  PetscCall(VecAssemblyBegin(x));
  PetscCall(VecAssemblyEnd(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

#define VALUES 14

/* every operation that sums, on duplicates of duplicates */
static PetscErrorCode Operations(MPI_Comm comm, PetscInt n, PetscReal z[VALUES])
{
  const PetscReal a[3] = {0.1, -0.7, 1.3};
  PetscInt        start, end;
  Vec             x, y, *many;

  PetscFunctionBegin;
  PetscCall(Rows(comm, n, &start, &end));
  PetscCall(VecCreate(comm, &x));
  PetscCall(VecSetSizes(x, end - start, n));
  PetscCall(VecSetType(x, VECSTANDARD));
  PetscCall(GramVecSetExact(x));
  PetscCall(VecDuplicate(x, &y));
  PetscCall(VecDuplicateVecs(y, 3, &many));
  PetscCall(Fill(x, 5));
  PetscCall(Fill(y, 6));
  for (int k = 0; k < 3; k++) PetscCall(Fill(many[k], 7 + (uint64_t)k));
  PetscCall(VecDot(many[0], y, z));
  PetscCall(VecTDot(x, many[1], z + 1));
  PetscCall(VecNorm(many[2], NORM_2, z + 2));
  PetscCall(VecNorm(y, NORM_1, z + 3));
  PetscCall(VecNorm(x, NORM_INFINITY, z + 4));
  PetscCall(VecNorm(many[1], NORM_1_AND_2, z + 5)); /* and 6 */
  PetscCall(VecMDot(y, 3, many, z + 7));            /* ... 9 */
  PetscCall(VecDotNorm2(x, y, z + 10, z + 11));
  PetscCall(VecMAXPY(x, 3, a, many));
  PetscCall(VecAXPY(x, 0.3, y));
  PetscCall(VecNorm(x, NORM_2, z + 12));
  PetscCall(VecMTDot(x, 1, many, z + 13));
  PetscCall(VecDestroyVecs(3, &many));
  PetscCall(VecDestroy(&y));
  PetscCall(VecDestroy(&x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode OperationsAgree(PetscInt n)
{
  PetscReal      z[VALUES], alone[VALUES], plain;
  PetscErrorCode ierr;
  Vec            x, y;

  PetscFunctionBegin;
  PetscCall(Operations(PETSC_COMM_WORLD, n, z));
  PetscCall(Operations(PETSC_COMM_SELF, n, alone));
  for (int k = 0; k < VALUES; k++)
    CHECK(!memcmp(z + k, alone + k, sizeof *z), "n %d, operation %d: %a, alone %a", (int)n, k, z[k],
          alone[k]);

  /* PETSc's own operations mean the same */
  PetscCall(VecCreateSeq(PETSC_COMM_SELF, n, &x));
  PetscCall(VecDuplicate(x, &y));
  PetscCall(Fill(x, 5));
  PetscCall(Fill(y, 6));
  PetscCall(VecDot(x, y, &plain));
  CHECK_CLOSE("dot", z[10], plain, 1e-9); /* cancellation over 6 decades */
  PetscCall(VecNorm(x, NORM_INFINITY, &plain));
  CHECK(z[4] == plain, "maximum norm %g, not %g", z[4], plain);
  PetscCall(VecNorm(y, NORM_1, &plain));
  CHECK_CLOSE("norm 1", z[3], plain, 1e-13);
  PetscCall(VecDot(y, y, &plain));
  CHECK_CLOSE("square", z[11], plain, 1e-13);

  /* sums that PETSc would add itself are refused */
  PetscCall(GramVecSetExact(x));
  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  ierr = VecNormBegin(x, NORM_2, &plain);
  PetscCall(PetscPopErrorHandler());
  CHECK(ierr == PETSC_ERR_SUP, "a split norm: error %d", (int)ierr);
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&y));
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  static const PetscInt sizes[] = {1, 2, 7, 8, 1003, 20000};

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(sizes); k++) {
    for (double decades = 0; decades <= 30; decades += 10) {
      PetscCall(Folds(sizes[k], decades));
      PetscCall(DotsAgree(sizes[k], decades));
    }
    PetscCall(OperationsAgree(sizes[k]));
  }
  PetscCall(Special());
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
