/* Dense factors of a kernel matrix: LAPACK on one rank, ScaLAPACK through PETSc on several. */
#pragma once

#include <petscmat.h>

typedef struct _p_GramDirect *GramDirect;

/**
  GramDirectCreate - Evaluate A and factor it in place: Cholesky of the lower triangle, or LU of all of it.

  Collective on A.

  @param[in]  A      from GramMatCreate()
  @param[in]  lu     for a matrix that is positive definite but for rounding: backward stable whatever its condition
  @param[out] direct free with GramDirectDestroy()
  @param[out] found  PETSC_FALSE: a pivot was not positive (LU: zero), there is no factor to solve with

  Cost: N^3 / 3 flops, LU twice that. Memory: 8 N^2 bytes over all ranks.
  Errors: GRAM_ERR_RESOURCE when PETSc has no ScaLAPACK (several ranks) or a rank's share exceeds PetscInt.
**/
PetscErrorCode GramDirectCreate(Mat A, PetscBool lu, GramDirect *direct, PetscBool *found);
PetscErrorCode GramDirectDestroy(GramDirect *direct);

/* X = A^-1 B, N x q MATDENSE laid out as A, which may be the same. Collective. Memory: 16 N q bytes a rank. */
PetscErrorCode GramDirectSolve(GramDirect direct, Mat B, Mat X);
