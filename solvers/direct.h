/* Dense Cholesky of a kernel matrix: LAPACK on one rank, ScaLAPACK through PETSc on several. */
#pragma once

#include <petscmat.h>

typedef struct _p_GramDirect *GramDirect;

/**
  GramDirectCreate - Evaluate the lower triangle of A + shift I and factor it in place.

  Collective on A.

  @param[in]  A      from GramMatCreate()
  @param[in]  shift  in the units of GramMatGetBlock(): of a number of unit u it is shift / u^2
  @param[out] direct free with GramDirectDestroy()
  @param[out] spd    PETSC_FALSE: a pivot was not positive, there is no factor to solve with

  Cost: N^3 / 3 flops. Memory: 8 N^2 bytes over all ranks.
  Errors: GRAM_ERR_RESOURCE when PETSc has no ScaLAPACK (several ranks) or a rank's share exceeds PetscInt.
**/
PetscErrorCode GramDirectCreate(Mat A, PetscReal shift, GramDirect *direct, PetscBool *spd);
PetscErrorCode GramDirectDestroy(GramDirect *direct);

/* X = A^-1 B, N x q MATDENSE laid out as A, which may be the same. Collective. Memory: 16 N q bytes a rank. */
PetscErrorCode GramDirectSolve(GramDirect direct, Mat B, Mat X);
