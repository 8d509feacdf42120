/* How good is a product: a sample of its rows against the reference. */
#pragma once

#include "gram_mat.h"

/**
  GramSampleError - max |y - y_ref| / max |y_ref| over up to 64 rows and all columns, y_ref = (K + alpha I) V + P c.

  Collective. Of a product Y = A V this is its error; of a solve A V = Y the residual that the reference sees.

  @param[in]  X, kernel what A is made of
  @param[in]  V, Y      N x q MATDENSE, laid out as A
  @param[in]  tail      [monomials][q] the coefficients c of the kernel's polynomial, or NULL
  @param[out] relative  the same on all ranks; not the same bits on any number of them

  Cost: 64 N evaluations by the plain loops of ref, summed in long double.
**/
PetscErrorCode GramSampleError(GramPoints X, const GramKernel *kernel, Mat V, Mat Y, const PetscReal *tail,
                               PetscReal *relative);
