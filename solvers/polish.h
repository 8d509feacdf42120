/* Nodes as the minimum of the worst-case error itself. */
#pragma once

#include "mean.h"
#include "solve.h"

/**
  GramPolish - Limited-memory quasi-Newton steps in the box on the worst-case error with optimal weights.

  Collective on comm.

      F(X) = I - z'w,  (K + alpha I) w = z,      dF/dx_i = 2 w_i (sum_j w_j grad_1 k(x_i, x_j) - grad z(x_i))

  the weights being optimal, their own derivative drops out. Variables are coordinates in spacings. An evaluation takes a
  solve (-solve_*, -ksp_*, -pc_*) and a product with gradient rows, both in double: F is known to some 1e-16 I, and there is
  nothing to gain below 1e-13 I.

  @param[in]     kernel, backend, block  block of GramPointsCreate(); alpha is at least GRAM_POLISH_ALPHA amplitude^2
  @param[in]     mean       of kernel over the measure
  @param[in]     lower, upper [dim]
  @param[in]     iterations at most, by TAO's BLMVM and what -tao_* says
  @param[in,out] x          [n][dim], the same on all ranks
  @param[out]    before, after F
  @param[out]    taken      iterations

  Source: variable projection, G. Golub, V. Pereyra, SIAM J. Numer. Anal. 10 (1973) 413-432.
**/
PetscErrorCode GramPolish(MPI_Comm comm, const GramKernel *kernel, GramBackend backend, PetscInt block,
                          GramMean mean, const PetscReal lower[], const PetscReal upper[],
                          PetscInt iterations, PetscInt n, PetscReal *x, PetscReal *before, PetscReal *after,
                          PetscInt *taken);

#define GRAM_POLISH_ALPHA 1e-13
