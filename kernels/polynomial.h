/* Polynomials of a tail: the monomials 1, x_1 ... x_d, then x_i x_j for i <= j, up to a degree of -1 (none) to 2. */
#pragma once

#include "gram.h"

/* How many: 0, 1, 1 + dim, 1 + dim + dim (dim + 1) / 2. */
static inline PetscInt GramPolynomialSize(PetscInt degree, PetscInt dim)
{
  return degree < 0 ? 0 : degree == 0 ? 1 : degree == 1 ? 1 + dim : 1 + dim + dim * (dim + 1) / 2;
}

/* p [size] their values at x [dim] */
static inline void GramPolynomialValues(PetscInt degree, PetscInt dim, const PetscReal x[], PetscReal p[])
{
  PetscInt k = 0;

  if (degree >= 0) p[k++] = 1;
  for (PetscInt i = 0; i < dim && degree >= 1; i++) p[k++] = x[i];
  for (PetscInt i = 0; i < dim && degree >= 2; i++) {
    for (PetscInt j = i; j < dim; j++) p[k++] = x[i] * x[j];
  }
}

/* p [size] their derivatives in x_c */
static inline void GramPolynomialDerivatives(PetscInt degree, PetscInt dim, PetscInt c, const PetscReal x[],
                                             PetscReal p[])
{
  PetscInt k = 0;

  if (degree >= 0) p[k++] = 0;
  for (PetscInt i = 0; i < dim && degree >= 1; i++) p[k++] = i == c;
  for (PetscInt i = 0; i < dim && degree >= 2; i++) {
    for (PetscInt j = i; j < dim; j++) p[k++] = (i == c ? x[j] : 0) + (j == c ? x[i] : 0);
  }
}
