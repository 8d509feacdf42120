/* Nodes as the minimum of the worst-case error itself. */
#pragma once

#include "mean.h"
#include "solve.h"

/**
  GramPolish - Limited-memory quasi-Newton steps in the box on the worst-case error with optimal weights.

  Collective on comm.

      F(X) = I - z'w,  (K + alpha I) w = z,      dF/dx_i = 2 w_i (sum_j w_j grad_1 k(x_i, x_j) - grad z(x_i))

  the weights being optimal, their own derivative drops out. Variables are coordinates in spacings. An evaluation takes a
  solve (-solve_*, -ksp_*, -pc_*), a product and one with gradient rows, in double. F = I - 2 z'w + w'(K + alpha I) w is good to the
  second order of what the solve leaves, and to some 1e-16 I: below GRAM_POLISH_LEAST I nothing is done.

  @param[in]     kernel, backend, block  block of GramPointsCreate(); alpha is at least GRAM_POLISH_ALPHA amplitude^2
  @param[in]     mean       of kernel over the measure
  @param[in]     lower, upper [dim]
  @param[in]     iterations at most, by TAO's BLMVM and what -tao_* says
  @param[in]     control    NULL, or whose request may end it: its save is not called
  @param[in,out] x          [n][dim], the same on all ranks
  @param[out]    before, after F
  @param[out]    taken      iterations
  @param[out]    stopped    by a request

  Source: variable projection, G. Golub, V. Pereyra, SIAM J. Numer. Anal. 10 (1973) 413-432.
**/
PetscErrorCode GramPolish(MPI_Comm comm, const GramKernel *kernel, GramBackend backend, PetscInt block,
                          GramMean mean, const PetscReal lower[], const PetscReal upper[],
                          PetscInt iterations, PetscInt n, PetscReal *x, const GramSolveControl *control,
                          PetscReal *before, PetscReal *after, PetscInt *taken, PetscBool *stopped);

#define GRAM_POLISH_ALPHA 1e-13
#define GRAM_POLISH_LEAST 1e-13
