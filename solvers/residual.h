/* What an answer is worth: residuals by the true operator, in double, recomputed from the answer itself. */
#pragma once

#include <petscmat.h>

#include "gram_mat.h"

/* Norms of the columns of a system A X = B and of its residual. */
typedef struct {
  Mat        A;         /* the true operator; borrowed */
  Mat        of;        /* the matrix of ||A||_1: A, or the one that A is made of; borrowed */
  PetscReal  norm_A;    /* ||A||_1, 0 until a product has found it */
  PetscInt   q;         /* columns */
  PetscReal *b, *r, *x; /* [q] 2-norms of B, of B - A X and of X, each as it was last computed */
} GramResidual;

/* X = 0: r = b. Collective; free with GramResidualClear().

   ||A||_1 is max |A 1|, 1 for values and 0 for derivatives: right for k >= 0, else a lower bound; of the matrix that A is
   made of, where it is made of one. */
PetscErrorCode GramResidualCreate(Mat A, Mat B, GramResidual *residual);
PetscErrorCode GramResidualClear(GramResidual *residual);

/**
  GramResidualUpdate - R = B - A X for some of the columns, and the norms of R and X.

  Collective.

  @param[in]  n       columns of B, X and R: MATDENSE laid out as A
  @param[in]  columns [n] which columns of the system they are; NULL: 0, 1, ...
  @param[out] R       its entries are overwritten

  Cost: one product of n columns; a column more the first time, for ||A||_1.
**/
PetscErrorCode GramResidualUpdate(GramResidual *residual, PetscInt n, const PetscInt columns[], Mat B, Mat X,
                                  Mat R);

/* ||A||_1, by a product where none has found it yet. Collective. */
PetscErrorCode GramResidualNormA(GramResidual *residual, PetscReal *norm_A);

/* eps ||A||_1 ||x||_2 of a column: where the rounding of x alone is that large. 0 where ||x|| is not finite. Not
   collective. */
static inline PetscReal GramResidualFloor(const GramResidual *residual, PetscInt column)
{
  const PetscReal floor = PETSC_MACHINE_EPSILON * residual->norm_A * residual->x[column];

  return PetscIsInfOrNanReal(floor) ? 0 : floor;
}
