/* What bench is asked for: lists, every combination of which is a case. */
#pragma once

#include "backend.h"
#include "kernel.h"

#define GRAM_PLAN_LIST 32 /* entries of a list */

typedef struct {
  PetscBool solve; /* bench.kind */
  PetscBool gradients;
  PetscInt  repeats;
  PetscInt  n_sizes, n_dims, n_rhs, n_kernels, n_precisions, n_symmetric;
  PetscInt  sizes[GRAM_PLAN_LIST + 1], dims[GRAM_PLAN_LIST + 1]; /* one more shows that there are too many */
  PetscInt  rhs[GRAM_PLAN_LIST + 1];
  char     *kernels[GRAM_PLAN_LIST + 1], *precisions[GRAM_PLAN_LIST + 1];
  PetscBool symmetric[2];
} GramPlan;

/* One combination. */
typedef struct {
  PetscInt    n, dim, q;
  PetscBool   symmetric;
  const char *precision;
  GramKernel  kernel;
  char        name[32]; /* of the kernel, nu included: matern32 */
} GramPlanCase;

/**
  GramPlanFromOptions - Read and check -bench_*, and what cases take from -kernel_*, -backend and -product_*.

  Collective on comm. Free with GramPlanClear(). Errors: GRAM_ERR_INPUT naming the key, its value and the limit.
**/
PetscErrorCode GramPlanFromOptions(MPI_Comm comm, GramPlan *plan);
PetscErrorCode GramPlanClear(GramPlan *plan);

/* The i-th combination, the last list running fastest; found PETSC_FALSE after the last. Collective. */
PetscErrorCode GramPlanGetCase(MPI_Comm comm, const GramPlan *plan, PetscInt64 i, GramPlanCase *c,
                               PetscBool *found);
