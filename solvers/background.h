/* The background that quadrature nodes neutralise: a uniformly charged box, or a cloud of samples. */
#pragma once

#include "coulomb.h"

/**
  GramBoxField - The field of a box of unit charge density, of the fundamental solution as in coulomb.h.

  Not collective.

      field      b(x) = int_box (x - y) / |x - y|^d dy,      div b = |S| inside
      potential  V(x) = int_box g(|x - y|^2) dy,             b = -grad V

  @param[in]  dim           2 .. GRAM_MAX_DIM
  @param[in]  lower, upper  [dim], lower < upper
  @param[in]  x             [dim], in the box
  @param[out] field         [dim]
  @param[out] potential     one number

  In two and three dimensions sums over the corners (of the rectangle; of the prism: D. Nagy, The gravitational attraction
  of a right rectangular prism, Geophysics 31 (1966) 362-371). In more, the fundamental solution is an integral of heat kernels,
  whose box integrals are products of error functions,

      V(x) = |S| int_0^oo prod_k (erf((u_k - x_k) / sqrt(4t)) + erf((x_k - l_k) / sqrt(4t))) / 2 dt,

  by the trapezoidal rule in log t, which converges exponentially: some 300 to 600 products of dim error functions. Relative to
  the size of the box's largest field, errors are below 1e-13.
**/
void GramBoxField(PetscInt dim, const PetscReal lower[], const PetscReal upper[], const PetscReal x[],
                  PetscReal field[], PetscReal *potential);

/* The same by heat kernels in any dimension, d = 2 without the potential: for tests. */
void GramBoxFieldByHeat(PetscInt dim, const PetscReal lower[], const PetscReal upper[], const PetscReal x[],
                        PetscReal field[], PetscReal *potential);
